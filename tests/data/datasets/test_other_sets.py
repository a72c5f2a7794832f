"""Jester, Moments in Time, Diving48, HACS, and lists of mmaction2 with several numbers."""

import json
import shutil

import pytest
from test_datasets import error_of, frames, problems_of, read, touch, write

from videossp.data.datasets import read_data


@pytest.mark.parametrize("prefix", ["jester-v1", "something-something-v1"])
@pytest.mark.parametrize("with_labels", [True, False])
@pytest.mark.parametrize("lists", ["", "annotations"])
def test_lists_of_ids_and_classes_are_jester(tmp_path, prefix, with_labels, lists):
    for name in ("7", "12", "3"):
        frames(tmp_path / "20bn" / name, "{:05}.jpg")
    touch(tmp_path, "20bn/40.webm")
    write(tmp_path / lists / f"{prefix}-train.csv", "7;Swiping Left\n12;Doing other things\n")
    write(tmp_path / lists / f"{prefix}-validation.csv", "3;Swiping Left\n")
    write(tmp_path / lists / f"{prefix}-test.csv", "40\n")
    if with_labels:
        write(tmp_path / lists / f"{prefix}-labels.csv", "Swiping Left\nDoing other things\n")
    data = read_data(tmp_path)
    assert data.classes == (("Swiping Left", "Doing other things")[:: 1 if with_labels else -1])
    assert read(tmp_path) == {
        "train": {"20bn/7": "Swiping Left", "20bn/12": "Doing other things"},
        "val": {"20bn/3": "Swiping Left"},
    }
    assert data.unlabelled == {"test": ["20bn/40.webm"]} and data.origin["format"] == "jester"


@pytest.mark.parametrize(
    ("line", "words"),
    [("8", "not ID;CLASS: '8'"), (";x", "not ID;CLASS: ';x'"), ("8;Swiping", "no such video: 8")],
)
def test_jester_errors_name_file_and_line(tmp_path, line, words):
    frames(tmp_path / "7")
    file = write(tmp_path / "jester-v1-train.csv", f"7;Swiping Left\n{line}\n")
    assert error_of(tmp_path) == f"{file}:2: {words}"


@pytest.mark.parametrize("folders", [True, False])
@pytest.mark.parametrize("with_classes", [True, False])
def test_moments_in_time_is_read(tmp_path, folders, with_classes):
    train, val = ("training/", "validation/") if folders else ("", "")
    touch(tmp_path, f"{train}run/a.mp4", f"{train}adult+sitting/b.mp4", f"{val}run/c.mp4")
    write(tmp_path / "trainingSet.csv", "run/a.mp4,run,5,1\nadult+sitting/b.mp4,adult+sitting,3,0\n")
    write(tmp_path / "validationSet.csv", "run/c.mp4,run,12,2\n")
    if with_classes:
        write(tmp_path / "moments_categories.txt", "run,0\nadult+sitting,1\n")
    data = read_data(tmp_path)
    assert data.classes == (("run", "adult+sitting") if with_classes else ("adult+sitting", "run"))
    assert read(tmp_path) == {
        "train": {f"{train}run/a.mp4": "run", f"{train}adult+sitting/b.mp4": "adult+sitting"},
        "val": {f"{val}run/c.mp4": "run"},
    }


def test_moments_errors_name_file_and_line(tmp_path):
    touch(tmp_path, "run/a.mp4")
    file = write(tmp_path / "trainingSet.csv", "run/a.mp4,run,5,1\nrun/a.mp4 run\n")
    assert error_of(tmp_path) == f"{file}:2: not CLASS/VIDEO,CLASS,YES,NO: 'run/a.mp4 run'"
    write(file, "run/a.mp4,run,5,1\nrun/b.mp4,run,5,1\n")
    assert error_of(tmp_path) == f"{file}:2: no such video: run/b.mp4"
    classes = write(tmp_path / "moments_categories.txt", "run,0\nsit,0\n")
    assert error_of(tmp_path) == f"{classes}:2: number 0 is 'run' before"


def diving(folder, names=True):
    touch(folder, "rgb/_ab_00001.mp4", "rgb/cd_00002.mp4", "rgb/cd_00003.mp4")
    records = [
        {"vid_name": "_ab_00001", "label": 1, "start_frame": 0, "end_frame": 48},
        {"vid_name": "cd_00002", "label": 0, "start_frame": 0, "end_frame": 70},
    ]
    write(folder / "Diving48_V2_train.json", json.dumps(records))
    test = [{"vid_name": "cd_00003", "label": 1, "start_frame": 0, "end_frame": 5}]
    write(folder / "Diving48_V2_test.json", json.dumps(test))
    if names:
        vocabulary = [["Back", "15som", "05Twis", "FREE"], ["Inward", "25som", "NoTwis", "PIKE"]]
        write(folder / "Diving48_vocab.json", json.dumps(vocabulary))


def test_diving48_is_read_with_the_names_of_its_dives(tmp_path):
    diving(tmp_path)
    data = read_data(tmp_path)
    assert data.origin["format"] == "diving48"
    assert data.classes == ("Back 15som 05Twis FREE", "Inward 25som NoTwis PIKE")
    assert [(split, x.name, x.label, x.frames) for split, x in data.all_samples()] == [
        ("train", "rgb/_ab_00001.mp4", 1, None),
        ("train", "rgb/cd_00002.mp4", 0, None),
        ("test", "rgb/cd_00003.mp4", 1, None),
    ]


def test_diving48_without_its_vocabulary_has_numbers(tmp_path):
    diving(tmp_path / "annotations", names=False)
    shutil.move(tmp_path / "annotations/rgb", tmp_path / "rgb")
    assert read_data(tmp_path).classes == ("0", "1")


HACS = "classname,youtube_id,subset,start,end,label\n"


def test_negative_clips_of_hacs_are_unlabelled(tmp_path):
    touch(tmp_path, "Long_jump/v_aB.mp4", "Archery/v_cd.mp4")
    rows = (
        "Long jump,aB,training,15.5,17.5,1\nLong jump,aB,training,20,22,-1\nLong jump,aB,training,40,42,1\n"
        "Archery,cd,validation,1,3,1\nArchery,gone,training,1,3,1\nArchery,gone,training,5,7,-1\n"
    )
    write(tmp_path / "HACS_clips.csv", HACS + rows)
    data = read_data(tmp_path)
    assert data.origin["format"] == "hacs" and data.classes == ("Archery", "Long jump")
    assert read(tmp_path) == {
        "train": {
            "Long_jump/v_aB.mp4#t=15.5,17.5": "Long jump",
            "Long_jump/v_aB.mp4#t=40,42": "Long jump",
        },
        "val": {"Archery/v_cd.mp4#t=1,3": "Archery"},
    }
    assert data.unlabelled == {"train": ["aB#t=20,22", "gone#t=5,7"]} and data.missing == ("gone",)


def test_hacs_labels_are_one_or_minus_one(tmp_path):
    touch(tmp_path, "v_a.mp4")
    file = write(tmp_path / "clips.csv", HACS + "Run,a,training,0,2,1\nSit,a,training,2,4,run\n")
    assert error_of(tmp_path) == f"{file}:3: label 'run' is neither 1 (positive) nor -1 (negative)"


# Lists with several numbers in a line.


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        (["1.mp4 0 3", "2.mp4 1 2"], 2),
        (["1.mp4 7 3", "2.mp4 1"], 1),
        (["1.mp4 3", "2.mp4 1 2"], 2),
        (["1.mp4,2,3", "2.mp4,1"], 1),
        (["1.mp4 2 3 5", "2.mp4 1"], 1),
        (["1.mp4 0 0 5", "2.mp4 1"], 1),
        (["1.mp4 0,5", "2.mp4 1"], 1),
        (["1.mp4 300 5", "2.mp4 250 1"], 1),
        (["gone.mp4 4 5", "2.mp4 1"], 1),
    ],
)
def test_several_numbers_after_a_file_are_an_error(tmp_path, lines, number):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = write(tmp_path / "train.txt", "\n".join(lines))
    line = lines[number - 1]
    assert error_of(tmp_path) == (
        f"{file}:{number}: {line!r} has several numbers after a video file: several labels of a video are "
        "not supported, and a number of frames is only for folders of frames; write PATH LABEL"
    )


def test_lines_of_four_fields_are_folder_start_frames_label(tmp_path):
    frames(tmp_path / "a 1")
    frames(tmp_path / "b")
    file = write(tmp_path / "train.txt", "a 1 0 1 4\na 1 1 1 5\nb 0 2 4\n")
    data = read_data(tmp_path)
    assert [(x.name, x.frames, data.classes[x.label]) for x in data.splits["train"]] == [
        ("a 1#frames=0,1", (0, 1), "4"),
        ("a 1#frames=1,2", (1, 2), "5"),
        ("b#frames=0,2", (0, 2), "4"),
    ]
    write(file, "a 1 0 1 4\nb 1 2 5\n")
    words = f"{file}:2: b has 2 frames, the part ends after 3"
    assert problems_of(tmp_path, least_classes=1)[1] == [("file.truncated", words, "b")]
    write(file, "a 1 0 1 4\nb 1\n")
    assert error_of(tmp_path) == f"{file}:2: not PATH START FRAMES LABEL as the lines before: 'b 1'"


@pytest.mark.parametrize("separator", [";", "\t", "|", ",", " "])
def test_separators_of_lists(tmp_path, separator):
    touch(tmp_path, "a;1.mp4", "b c.mp4")
    frames(tmp_path / "d")
    write(tmp_path / "train.txt", f"a;1.mp4{separator}0\nb c.mp4{separator}1\nd{separator}1\n")
    assert read(tmp_path) == {"train": {"a;1.mp4": "0", "b c.mp4": "1", "d": "1"}}


def test_class_names_with_blanks_follow_a_semicolon_or_tab(tmp_path):
    touch(tmp_path, "a 1.mp4", "b.mp4")
    for separator in ";", "\t", ",":
        write(tmp_path / "val.txt", f"a 1.mp4{separator}swing left\nb.mp4{separator}swing right\n")
        assert read(tmp_path) == {"val": {"a 1.mp4": "swing left", "b.mp4": "swing right"}}
