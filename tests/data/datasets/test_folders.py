"""Folders of classes: nested videos, files of systems, doubtful class names, and what is left out."""

import json
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from conftest import SSP_SMALL, numbered_frames, write_video
from videossp.classifier import Classifier
from videossp.cli.main import main
from videossp.data.datasets import read_data, read_with_problems
from videossp.data.datasets.class_doubts import class_warnings
from videossp.data.datasets.left_out import left_out_lines, left_out_summary
from videossp.errors import DataError, VideoSSPWarning
from videossp.inference.predict import find_videos
from videossp.training.config import TrainConfig
from videossp.training.train import train


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def read(root, **options):
    data = read_data(root, **options)
    return {split: {x.name: data.classes[x.label] for x in xs} for split, xs in data.splits.items()}


def frames(folder, count=3, name="{:04}.png"):
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(numbered_frames(count)[i]).save(folder / name.format(i))


# Nested videos


def test_nested_videos_have_the_class_of_the_first_folder(tmp_path):
    touch(tmp_path, "a/2.mp4", "a/monday/1.mp4", "a/monday/x/y/0.mkv", "b/1.mp4", "b/notes/n.txt")
    frames(tmp_path / "b/raw/clip7")
    assert read(tmp_path) == {
        "train": {
            "a/2.mp4": "a",
            "a/monday/1.mp4": "a",
            "a/monday/x/y/0.mkv": "a",
            "b/1.mp4": "b",
            "b/raw/clip7": "b",
        }
    }
    assert read_data(tmp_path).ignored == ("b/notes/n.txt",)


def test_nested_videos_of_split_folders_have_the_class_below_the_split(tmp_path):
    touch(tmp_path, "train/a/x/1.mp4", "train/b/1.mp4", "val/b/y/1.mp4", "test/a/1.mp4")
    assert read(tmp_path) == {
        "train": {"train/a/x/1.mp4": "a", "train/b/1.mp4": "b"},
        "val": {"val/b/y/1.mp4": "b"},
        "test": {"test/a/1.mp4": "a"},
    }


def test_videos_without_sub_folders_keep_their_order(tmp_path):
    names = ["a/B.mp4", "a/a-1.mp4", "a/a.mp4", "a/a1.mp4", "a/é.mp4", "b/1.mp4"]
    assert list(read(touch(tmp_path, *names))["train"]) == sorted(names)


@pytest.mark.parametrize(
    ("names", "folder", "instead"),
    [
        (["a/train/1.mp4", "a/test/2.mp4", "b/Test/3.mp4"], "a/test", "a"),
        (["set/train/a/1.mp4", "set/val/a/2.mp4", "other/b/3.mp4"], "set/train", "set"),
        (["x/ucf/Validation/a/1.mp4", "y/1.mp4"], "x/ucf/Validation", "x/ucf"),
    ],
)
def test_split_folders_below_a_class_are_an_error(tmp_path, names, folder, instead):
    with pytest.raises(DataError) as error:
        read_data(touch(tmp_path, *names))
    assert f"{tmp_path / folder}: a split folder below the class folder" in str(error.value)
    assert f"give {tmp_path / instead} as the data set" in str(error.value)


def test_optical_flow_beside_frames_is_no_video(tmp_path):
    for name in ("a/clip/rgb", "a/clip/flow", "a/clip/flow_x", "b/rgb", "c/flow"):
        frames(tmp_path / name)
    assert [*read(tmp_path)["train"]] == ["a/clip/rgb", "b/rgb", "c/flow"]
    assert read_data(tmp_path).ignored == ("a/clip/flow/", "a/clip/flow_x/")


def test_clips_with_flow_in_their_names_are_videos(tmp_path):
    for name in ("a/water_flow_01", "a/flow2", "a/clip", "b/overflow"):
        frames(tmp_path / name)
    assert [*read(tmp_path)["train"]] == ["a/clip", "a/flow2", "a/water_flow_01", "b/overflow"]


def test_links_to_the_root_are_not_entered(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/1.mp4")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "c").symlink_to(tmp_path / "b")
    assert read(tmp_path) == {"train": {"a/1.mp4": "a", "b/1.mp4": "b", "c/1.mp4": "c"}}


def test_class_folders_of_the_wrong_level_are_a_warning(tmp_path):
    touch(
        tmp_path,
        *(f"{year}/{name}/v.mp4" for year in (2019, 2020) for name in ("run", "jump")),
        "2021/run/v.mp4",
    )
    (warning,) = class_warnings(read_data(tmp_path))
    assert "sub-folders of the same names (jump, run); if these are the classes, move them" in warning
    touch(tmp_path, "2021/v.mp4")
    assert class_warnings(read_data(tmp_path)) == []


# Suffixes, files of systems


@pytest.mark.parametrize(
    "suffix", [".ts", ".MTS", ".m2ts", ".3gp", ".flv", ".WMV", ".ogv", ".vob", ".rmvb", ".h265"]
)
def test_other_suffixes_of_videos_are_read_in_every_format(tmp_path, suffix):
    names = [f"a/1{suffix}", f"b/2{suffix}"]
    touch(tmp_path, *names)
    assert [*read(tmp_path)["train"]] == names
    (tmp_path / "train.txt").write_text("".join(f"{x} {i}\n" for i, x in enumerate(names)))
    assert read_data(tmp_path).origin["format"] == "list" and [*read(tmp_path)["train"]] == names


@pytest.mark.parametrize(
    "name",
    [
        "$RECYCLE.BIN",
        "$Recycle.Bin",
        "System Volume Information",
        "SYSTEM VOLUME INFORMATION",
        ".Trash-1000",
        ".Spotlight-V100",
        "@eaDir",
        "@EADIR",
        "#recycle",
        "Lost+Found",
        "__macosx",
    ],
)
def test_folders_of_systems_are_no_classes_at_any_depth(tmp_path, name):
    touch(tmp_path, "a/1.mp4", "b/1.mp4", f"{name}/1.mp4", f"a/{name}/2.mp4", f"b/x/{name}/3.mp4")
    (tmp_path / "c" / name).mkdir(parents=True)
    touch(tmp_path, "c/1.mp4")
    data, problems = read_with_problems(tmp_path)
    assert problems == [] and data.classes == ("a", "b", "c") and len(data.all_samples()) == 3
    assert data.ignored == ()


def test_files_of_systems_are_not_counted_as_left_out(tmp_path):
    hidden = [".DS_Store", "Thumbs.db", "THUMBS.DB", "Desktop.ini", "ehthumbs.db", "._1.mp4"]
    touch(tmp_path, "a/1.mp4", "b/1.mp4", *(f"{x}{name}" for x in ("", "a/") for name in hidden))
    data = read_data(tmp_path)
    assert data.ignored == () and left_out_lines(data) == []


# Class names

ACCENT = "caf\u00e9"


@pytest.mark.parametrize(
    ("classes", "shown"),
    [
        (["Run", "run"], "'Run', 'run'"),
        (["run ", "run"], "'run', 'run '"),
        (["long jump", "Long  Jump", "x"], "'Long  Jump', 'long jump'"),
        ([ACCENT, unicodedata.normalize("NFD", ACCENT)], r"'cafe\u0301', 'caf\xe9'"),
        (["STRASSE", "straße"], "'STRASSE', 'straße'"),
    ],
)
def test_alike_class_names_are_a_warning_and_stay_as_they_are(tmp_path, classes, shown):
    data = read_data(touch(tmp_path, *(f"{x}/{i}.mp4" for i, x in enumerate(classes))))
    assert data.classes == tuple(sorted(classes))
    (warning,) = class_warnings(data)
    assert shown in warning and "differ only in case, blanks or Unicode form" in warning


def test_different_class_names_are_no_warning(tmp_path):
    data = read_data(
        touch(tmp_path, *(f"{x}/1.mp4" for x in ("run", "runs", "jump-1", "jump-2", "cafe", ACCENT)))
    )
    assert class_warnings(data) == []


# What is left out

LEFT_OUT = [
    "left out: 2 videos that are in no class (0.mp4, 1.mov)",
    "left out: 4 files that are not videos (a/b.mkv.part, a/c.txt, b/d.JPG and 1 more)",
    "left out: 1 picture not used as a frame (b/clip/cover.png)",
]


@pytest.fixture(scope="module")
def with_others(tmp_path_factory):
    """Two classes of bright and dark videos with files of other kinds."""
    root = tmp_path_factory.mktemp("others")
    write_video(root / "a/1.mp4", np.full((6, 32, 32, 3), 200, np.uint8))
    write_video(root / "a/2.mp4", np.full((6, 32, 32, 3), 190, np.uint8))
    frames(root / "b/clip", 6)
    frames(root / "b/clip2", 6)
    Image.new("RGB", (9, 9)).save(root / "b/clip/cover.png")
    return touch(root, "0.mp4", "1.mov", "a/b.mkv.part", "a/c.txt", "b/d.JPG", "b/x/e.json")


@pytest.fixture
def adapter(small_classifier, tmp_path):
    small_classifier.save(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_what_is_left_out_is_counted_and_named(with_others):
    assert left_out_lines(read_data(with_others)) == LEFT_OUT
    assert left_out_summary(read_data(with_others))[2] == {
        "reason": "picture not used as a frame",
        "count": 1,
        "names": ["b/clip/cover.png"],
    }


def test_data_doctor_and_eval_name_what_is_left_out_alike(with_others, adapter, capsys):
    for verb in (["data", "--fast"], ["doctor", "--only", "class"], ["eval", str(adapter)]):
        main([*verb, str(with_others)])
        out, err = capsys.readouterr()
        printed = (out + err.replace("videossp: ", "")).splitlines()
        assert [x for x in printed if x.startswith("left out: ")] == LEFT_OUT, verb[0]


def test_what_is_left_out_is_in_the_json(with_others, capsys):
    for verb in (["data", "--fast"], ["doctor", "--only", "class"]):
        main([*verb, str(with_others), "--json"])
        assert json.loads(capsys.readouterr().out)["left_out"] == left_out_summary(read_data(with_others))


def test_predict_names_the_files_of_a_folder_that_are_no_videos(with_others, adapter, capsys):
    assert main(["predict", str(adapter), str(with_others / "a"), str(with_others / "b")]) == 0
    out, err = capsys.readouterr()
    names = ", ".join(str(with_others / x) for x in ("a/b.mkv.part", "a/c.txt", "b/d.JPG"))
    assert err == f"videossp: left out: 5 files that are not videos ({names} and 2 more)\n"
    assert [str(with_others / x) in out for x in ("a/1.mp4", "b/clip", "b/clip/cover.png")] == [
        True,
        True,
        False,
    ]


def test_files_that_may_be_videos_are_a_warning_in_python(with_others):
    with pytest.warns(VideoSSPWarning) as caught:
        find_videos(with_others / "a")
    assert str(caught[0].message) == f"left out: 1 file that is not a video ({with_others / 'a/b.mkv.part'})"


def test_train_says_what_is_left_out_and_warns_of_alike_names(with_others, small_backbone, tmp_path, capsys):
    shutil.copytree(with_others / "b/clip", tmp_path / "A/clip")
    shutil.copytree(with_others / "b/clip", tmp_path / "A/clip2")
    shutil.copytree(with_others / "a", tmp_path / "a")
    classifier = Classifier.create(small_backbone, classes=["A", "a"], **SSP_SMALL)
    config = TrainConfig(epochs=1, batch_size=2, lr=0.001, val_fraction=0.5)
    with pytest.warns(VideoSSPWarning, match="the classes 'A', 'a' differ only in case"):
        run = train(classifier, tmp_path, config, progress=True)
    assert any("differ only in case" in x for x in run.warnings)
    err = capsys.readouterr().err
    assert "left out: 2 files that are not videos (a/b.mkv.part, a/c.txt)" in err


# Evaluation sets of one class


def test_a_set_of_one_class_can_be_evaluated_but_not_trained(tmp_path, adapter, capsys):
    write_video(tmp_path / "data/b/1.mp4", numbered_frames(6))
    assert main(["eval", str(adapter), str(tmp_path / "data"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["videos"] == 1 and [sum(x) for x in summary["confusion"]] == [0, 1, 0]
    with pytest.raises(DataError, match="1 classes found, at least two are needed"):
        read_data(tmp_path / "data")
    with pytest.raises(DataError, match="0 classes found, at least one is needed"):
        read_data(tmp_path / "data/b", least_classes=1)
