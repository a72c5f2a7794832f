"""The folder format, the detection of formats, and `hold_out`."""

import os

import numpy as np
import pytest

from conftest import numbered_frames, write_video
from videossp.data.datasets import Sample, hold_out, read_data
from videossp.errors import DataError


def touch(root, *names):
    """Files that are videos by their names."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def write(path, text):
    """A text file with its line ends unchanged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(data, **options):
    """The result of `read_data`: by split, class names by the names of the videos."""
    samples = read_data(data, **options)
    return {
        split: {x.name: samples.classes[x.label] for x in members}
        for split, members in samples.splits.items()
    }


def error_of(data, **options):
    """The message of the DataError of `read_data`."""
    with pytest.raises(DataError) as caught:
        read_data(data, **options)
    return str(caught.value)


def problems_of(data, **options):
    """(result of `read`, problems) if problems are collected."""
    problems = []
    return read(data, report_problem=lambda *x: problems.append(x), **options), problems


def test_classes_are_sorted_folders(tmp_path):
    touch(tmp_path, "b c/2.mp4", "b c/1.AVI", "a/ünï.webm", "a/.hidden.mp4")
    data = read_data(tmp_path)
    assert data.classes == ("a", "b c") and list(data.splits) == ["train"]
    assert [(x.name, x.label) for x in data.splits["train"]] == [
        ("a/ünï.webm", 0),
        ("b c/1.AVI", 1),
        ("b c/2.mp4", 1),
    ]
    assert [x.path for x in data.splits["train"]] == [
        str(tmp_path / x) for x in ("a/ünï.webm", "b c/1.AVI", "b c/2.mp4")
    ]


@pytest.mark.parametrize("train", ["train", "training", "Train"])
@pytest.mark.parametrize("val", ["val", "valid", "validation", "validate", "dev"])
@pytest.mark.parametrize("test", ["test", "testing", "TEST"])
def test_split_folders(tmp_path, train, val, test):
    touch(tmp_path, f"{train}/a/1.mp4", f"{train}/b/1.mp4", f"{val}/a/1.mp4", f"{test}/c/1.mkv")
    assert read(tmp_path) == {
        "train": {f"{train}/a/1.mp4": "a", f"{train}/b/1.mp4": "b"},
        "val": {f"{val}/a/1.mp4": "a"},
        "test": {f"{test}/c/1.mkv": "c"},
    }


def frames(folder, pattern="img_{:05}.jpg"):
    """A folder of two frames."""
    for i, frame in enumerate(numbered_frames(2), 1):
        write_video(folder / pattern.format(i), frame[None], codec="mjpeg", pix_fmt="yuvj420p")


@pytest.mark.parametrize("pattern", ["img_{:05}.jpg", "frame_{:06}.jpg", "{:05}.jpg"])
def test_a_folder_of_frames_is_one_video(tmp_path, pattern):
    frames(tmp_path / "a/clip1", pattern)
    frames(tmp_path / "b/clip1", pattern)
    assert read(tmp_path) == {"train": {"a/clip1": "a", "b/clip1": "b"}}


def test_other_files_are_listed_not_read(tmp_path):
    touch(tmp_path, "a/1.mp4", "a/notes.txt", "a/inner/2.txt", "b/1.mp4", "README.md")
    assert read_data(tmp_path).ignored == ("README.md", "a/inner/2.txt", "a/notes.txt")


def test_other_files_beside_split_folders_are_listed(tmp_path):
    touch(tmp_path, "train/a/1.mp4", "train/b/1.mp4", "train/loose.mp4", "test/a/2.mp4", "README.md")
    assert read_data(tmp_path).ignored == ("README.md", "train/loose.mp4")


def test_a_stray_picture_does_not_make_a_class_vanish(tmp_path):
    touch(tmp_path, "a/1.mp4", "a/poster.jpg", "b/1.mp4", "loose.mp4", "pictures/1.jpg")
    data = read_data(tmp_path)
    assert data.classes == ("a", "b") and data.ignored == ("a/poster.jpg", "loose.mp4", "pictures/")


def test_system_folders_are_no_classes(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/1.mp4", "__MACOSX/a/._1.mp4", "lost+found/1.mp4", "a/@eaDir/1.mp4")
    assert read(tmp_path) == {"train": {"a/1.mp4": "a", "b/1.mp4": "b"}}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "0 classes found"),
        (["a/1.mp4"], "1 classes found"),
        (["1.mp4", "2.mp4"], "0 classes found"),
        (["a/1.mp4", "b/notes.txt"], "no videos in b; remove the folder or fill it"),
        (["train/a/1.mp4", "other/a/1.mp4"], "folders of splits (train) beside other folders (other); move"),
        (["val/a/1.mp4", "validation/a/1.mp4"], "several folders of one split (val, validation); move"),
    ],
)
def test_problems_of_a_folder_are_errors(tmp_path, names, words):
    touch(tmp_path, *names)
    assert error_of(tmp_path).startswith(f"{tmp_path}: {words}")


def test_empty_class_is_left_out_if_problems_are_collected(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/notes.txt", "c/1.mp4")
    assert problems_of(tmp_path) == (
        {"train": {"a/1.mp4": "a", "c/1.mp4": "c"}},
        [("class.empty", f"{tmp_path}: no videos in b; remove the folder or fill it", "")],
    )


def test_missing_folders_are_errors(tmp_path):
    assert error_of(tmp_path / "none") == f"{tmp_path}/none: no such file or folder"
    touch(tmp_path, "a/1.mp4", "b/1.mp4")
    assert error_of(tmp_path, videos=tmp_path / "none") == f"{tmp_path}/none: no such folder of videos"


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.mp4", "b/1.mp4")
    scandir = os.scandir

    def guarded(path):
        if os.path.basename(path) == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert error_of(tmp_path) == f"{tmp_path}/b: cannot be read: Permission denied"


def test_a_name_that_is_not_utf8_is_an_error(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/1.mp4")
    (tmp_path / os.fsdecode(b"a/\xb5.mp4")).write_bytes(b"x")
    assert error_of(tmp_path) == f"'{tmp_path}/a/\\udcb5.mp4': its name is not UTF-8; rename it"


# A small tree for each format: text files by name; None is a video.
TREES = {
    "folder": {"a/1.mp4": None, "b/1.mp4": None},
    "ucf101": {
        "classInd.txt": "1 A\n2 B",
        "trainlist01.txt": "A/v_A_g01_c01.avi 1",
        "testlist01.txt": "B/v_B_g01_c01.avi",
        "A/v_A_g01_c01.avi": None,
        "B/v_B_g01_c01.avi": None,
    },
    "hmdb51": {
        "a_test_split1.txt": "1.avi 1 ",
        "b_test_split1.txt": "2.avi 2 ",
        "a/1.avi": None,
        "b/2.avi": None,
    },
    "ssv2": {
        "labels.json": '{"a": "0", "b": "1"}',
        "train.json": '[{"id": "1", "template": "a"}]',
        "1.webm": None,
    },
    "breakfast": {"P03/cam01/P03_tea.avi": None, "P16/cam01/P16_milk.avi": None},
    "kinetics": {
        "train.csv": "label,youtube_id,time_start,time_end,split\na,x,0,10,train\nb,y,0,10,train",
        "x_000000_000010.mp4": None,
        "y_000000_000010.mp4": None,
    },
    "csv": {"all.csv": "path,label\n1.mp4,a\n2.mp4,b", "1.mp4": None, "2.mp4": None},
    "list": {"train.txt": "1.mp4 0\n2.mp4 1", "1.mp4": None, "2.mp4": None},
}


@pytest.mark.parametrize("format", TREES)
def test_format_is_detected_from_the_files(tmp_path, format):
    for name, text in TREES[format].items():
        write(tmp_path / name, text or "")
    touch(tmp_path, "notes.txt", "README", "LICENSE.txt", "poster.jpg")
    assert read_data(tmp_path).origin == {
        "data": str(tmp_path),
        "format": format,
        "fold": 1,
        "videos": None,
    }


def test_format_option_overrides_detection(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/1.mp4")
    write(tmp_path / "train.txt", "a/1.mp4 b\nb/1.mp4 a\n")
    folder, listed = {"a/1.mp4": "a", "b/1.mp4": "b"}, {"a/1.mp4": "b", "b/1.mp4": "a"}
    assert read(tmp_path, format="folder") == {"train": folder}
    assert read(tmp_path, format="list") == read(tmp_path) == {"train": listed}
    assert read_data(tmp_path, format="folder").origin["format"] == "folder"


@pytest.mark.parametrize(
    ("format", "words"),
    [
        ("ucf101", "no classInd.txt and trainlist0N.txt, here or one folder down"),
        ("hmdb51", "no CLASS_test_splitN.txt, here or one folder down"),
        ("ssv2", "no labels.json and train.json, here or one folder down"),
        ("breakfast", "no P03/CAMERA/P03_ACTIVITY.avi, here or one folder down"),
        ("kinetics", "no CSV file with columns youtube_id, time_start and time_end, here or one folder down"),
        ("csv", "no table with a column for the video and one for the class"),
        ("list", "no list of PATH LABEL with train, val or test in its name"),
    ],
)
def test_format_option_without_its_files_is_an_error(tmp_path, format, words):
    touch(tmp_path, "a/1.mp4", "b/1.mp4")
    assert error_of(tmp_path, format=format) == f"{tmp_path}: {words}"


def test_formats_of_folders_refuse_a_file(tmp_path):
    file = write(tmp_path / "train.txt", "1.mp4 0")
    for format in ("ucf101", "hmdb51", "ssv2", "breakfast", "folder"):
        assert error_of(file, format=format) == f"{file}: --format {format} reads a folder, not a file"


def test_a_file_that_is_no_annotation_is_an_error(tmp_path):
    file = write(tmp_path / "notes.txt", "to do")
    formats = "hacs, kinetics, csv, list"
    assert error_of(file) == f"{file}: no known annotation format; --format is one of {formats}"


def test_an_unknown_format_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no format 'avi'; the formats are auto, ucf101, "):
        read_data(tmp_path, format="avi")


@pytest.mark.parametrize("format", ["ssv2", "kinetics", "folder"])
def test_fold_of_a_format_without_folds_is_an_error(tmp_path, format):
    for name, text in TREES[format].items():
        write(tmp_path / name, text or "")
    words = f"the format {format} has no folds; leave --fold out"
    assert error_of(tmp_path, fold=2) == f"{tmp_path}: {words}"


def samples(*counts):
    return [Sample(f"/{k}/{i}", f"{k}/{i}", k) for k, count in enumerate(counts) for i in range(count)]


def test_hold_out_is_stratified_disjoint_and_repeatable():
    every = samples(10, 5, 2)
    kept, off = hold_out(every, 0.2, seed=3)
    assert sorted(kept + off, key=lambda x: x.name) == sorted(every, key=lambda x: x.name)
    assert [sum(x.label == k for x in off) for k in range(3)] == [2, 1, 1]
    assert hold_out(every[::-1], 0.2, seed=3)[1] == off[::-1]
    assert hold_out(every, 0.2, seed=4)[1] != off


def test_hold_out_without_groups_is_that_of_earlier_versions():
    off = hold_out(samples(10, 5, 2, 1), 0.3, seed=7)[1]
    assert [x.name for x in off] == ["0/0", "0/7", "0/8", "1/3", "1/4", "2/1"]


def test_hold_out_keeps_parts_of_one_file_together():
    every = [Sample(f"/{x}.mp4", f"{x} {i}", 0, start=i, end=i + 1) for x in "abcde" for i in range(8)]
    kept, off = hold_out(every, 0.2)
    assert len({x.path for x in off}) == 1 and len(off) == 8 and not {x.path for x in kept} & {off[0].path}


@pytest.mark.parametrize(("name", "text"), [("trainval.csv", "a/0.mp4 0\n"), ("more.txt", "a/0.mp4,0\n")])
@pytest.mark.parametrize("read_one", ["path,label\na/0.mp4,x\nb/0.mp4,y\n", "a/0.mp4 0\nb/0.mp4 1\n"])
def test_another_list_in_the_folder_is_an_error(tmp_path, name, text, read_one):
    touch(tmp_path, "a/0.mp4", "b/0.mp4")
    write(tmp_path / "train.csv", read_one)
    assert len(read_data(tmp_path).all_samples()) == 2
    write(tmp_path / name, text)
    with pytest.raises(DataError, match=f"{name}: a list as well, beside train.csv"):
        read_data(tmp_path)
    write(tmp_path / name, "Of 2 classes, in 2026\n")  # plain text
    assert len(read_data(tmp_path).all_samples()) == 2


def test_hold_out_leaves_a_class_of_one_video_in_training():
    kept, off = hold_out(samples(1, 4), 0.5, seed=0)
    assert [x.label for x in off] == [1, 1] and len(kept) == 3


def grouped(rng, classes, groups):
    """Samples of random classes in random groups, some of which span classes."""
    return [
        Sample(str(i), str(i), int(rng.integers(classes)), group=f"g{rng.integers(groups)}")
        for i in range(60)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_hold_out_keeps_groups_together_and_every_class_in_training(seed):
    rng = np.random.default_rng(seed)
    every = grouped(rng, 4, groups=12)
    kept, off = hold_out(every, 0.2, seed)
    assert sorted(kept + off, key=lambda x: int(x.name)) == every and off
    assert not {x.group for x in kept} & {x.group for x in off}
    assert {x.label for x in kept} == {x.label for x in every}
    assert hold_out(every[::-1], 0.2, seed)[1] == off[::-1]


def test_hold_out_takes_at_most_the_fraction_or_the_smallest_group():
    sizes = {"a": 90, "b": 10, "c": 15, "d": 5}
    every = [Sample(f"{g}{i}", f"{g}{i}", 0, group=g) for g, size in sizes.items() for i in range(size)]
    off = {x.group for x in hold_out(every, 0.2, seed=0)[1]}
    assert 0 < sum(sizes[x] for x in off) <= 24
    two = [x for x in every if x.group in "ab"]
    assert {x.group for x in hold_out(two, 0.05, seed=0)[1]} == {"b"}
