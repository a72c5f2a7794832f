"""The folder of classes, and the split that is made where none is given."""

import pytest

from conftest import numbered_frames, write_video
from videossp.datasets import Sample, read_folder, split_off
from videossp.video import DataError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_classes_are_sorted_folders(tmp_path):
    touch(tmp_path, "b c/2.mp4", "b c/1.AVI", "a/ünï.webm", "a/.hidden.mp4")
    data = read_folder(tmp_path)
    assert data.classes == ("a", "b c") and list(data.splits) == ["train"]
    assert [(x.name, x.label) for x in data.splits["train"]] == [
        ("a/ünï.webm", 0),
        ("b c/1.AVI", 1),
        ("b c/2.mp4", 1),
    ]


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_split_folders(tmp_path, val):
    touch(tmp_path, "train/a/1.mp4", "train/b/1.mp4", f"{val}/a/1.mp4", "test/c/1.mkv")
    data = read_folder(tmp_path)
    assert data.classes == ("a", "b", "c")
    assert {split: [x.name for x in xs] for split, xs in data.splits.items()} == {
        "test": ["test/c/1.mkv"],
        "train": ["train/a/1.mp4", "train/b/1.mp4"],
        "val": [f"{val}/a/1.mp4"],
    }


def test_a_folder_of_frames_is_one_video(tmp_path):
    for name in ("a/clip1", "b/clip1"):
        for i, frame in enumerate(numbered_frames(2)):
            write_video(tmp_path / name / f"img_{i:05}.jpg", frame[None], codec="mjpeg", pix_fmt="yuvj420p")
    assert [x.name for x in read_folder(tmp_path).splits["train"]] == ["a/clip1", "b/clip1"]


def test_other_files_are_listed_not_read(tmp_path):
    touch(tmp_path, "a/1.mp4", "a/notes.txt", "b/1.mp4", "README.md")
    assert read_folder(tmp_path).ignored == ("README.md", "a/notes.txt")


def test_a_stray_picture_does_not_make_a_class_vanish(tmp_path):
    touch(tmp_path, "a/1.mp4", "a/poster.jpg", "b/1.mp4", "loose.mp4", "pictures/1.jpg")
    data = read_folder(tmp_path)
    assert data.classes == ("a", "b") and data.ignored == ("loose.mp4", "pictures", "a/poster.jpg")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "0 classes found"),
        (["a/1.mp4"], "1 classes found"),
        (["1.mp4", "2.mp4"], "0 classes found"),
        (["a/1.mp4", "b/notes.txt"], "no videos in b"),
        (["train/a/1.mp4", "other/a/1.mp4"], "split folders and others side by side: other"),
        (["val/a/1.mp4", "validation/a/1.mp4"], "side by side"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path, names, words):
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=words):
        read_folder(tmp_path)


def test_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_folder(tmp_path / "none")


def samples(*counts):
    return [Sample(f"/{k}/{i}", f"{k}/{i}", k) for k, count in enumerate(counts) for i in range(count)]


def test_the_split_is_stratified_disjoint_and_repeatable():
    every = samples(10, 5, 2)
    kept, off = split_off(every, 0.2, seed=3)
    assert sorted(kept + off, key=lambda x: x.name) == sorted(every, key=lambda x: x.name)
    assert [sum(x.label == k for x in off) for k in range(3)] == [2, 1, 1]
    assert split_off(every[::-1], 0.2, seed=3)[1] == off[::-1]
    assert split_off(every, 0.2, seed=4)[1] != off


def test_a_class_of_one_video_stays_in_training():
    kept, off = split_off(samples(1, 4), 0.5, seed=0)
    assert [x.label for x in off] == [1, 1] and len(kept) == 3
