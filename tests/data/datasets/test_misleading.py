"""Annotations that could be read as something else: they are read right, or refused with file and line."""

import pytest
from test_datasets import error_of, read, touch, write

from videossp.data.datasets import read_data
from videossp.data.datasets.class_doubts import class_warnings
from videossp.data.datasets.left_out import left_out_lines

FRAMES = [f"{folder}/img_{i:03}.jpg" for folder in ("a/1", "b/2") for i in range(1, 5)]


def table(header, *rows):
    return "".join(f"{x}\n" for x in (header, *rows))


# Lists.


@pytest.mark.parametrize("line", ["b/2 4 0 1", "b/2 4 3 2"])
def test_several_labels_of_a_folder_of_frames_are_refused(tmp_path, line):
    touch(tmp_path, *FRAMES)
    file = write(tmp_path / "train.txt", f"a/1 4 2 0\n{line}\n")
    message = error_of(tmp_path)
    assert message.startswith(f"{file}:1: no frame of a/1 is in a part of 2 frames from 4 on")
    assert message.endswith("several labels of a video are not supported")


def test_folders_of_frames_in_a_list_may_be_one_folder_down(tmp_path):
    touch(tmp_path, *(f"20bn/{x}/{i:05}.jpg" for x in (34, 571) for i in range(3)))
    write(tmp_path / "train_videofolder.txt", "34 3 0\n571 3 1\n")
    assert read(tmp_path) == {"train": {"20bn/34": "0", "20bn/571": "1"}}


def test_of_videos_of_one_name_a_list_means_that_of_its_split(tmp_path):
    touch(tmp_path, "train/1.mp4", "val/1.mp4", "train/2.mp4")
    write(tmp_path / "train.txt", "1.mp4 0\n2.mp4 1\n")
    write(tmp_path / "val.txt", "1.mp4 0\n")
    assert read(tmp_path) == {
        "train": {"train/1.mp4": "0", "train/2.mp4": "1"},
        "val": {"val/1.mp4": "0"},
    }


# Class files.


@pytest.mark.parametrize("text", ["sit 1\nrun 0\n", "sit,1\nrun,0\n", "sit\t2\nrun: 1\n"])
def test_the_numbers_at_the_end_of_a_class_file_are_class_numbers(tmp_path, text):
    touch(tmp_path, "1.mp4", "2.mp4")
    first = 1 if "2" in text else 0
    write(tmp_path / "train.txt", f"1.mp4 {first}\n2.mp4 {first + 1}\n")
    write(tmp_path / "classes.txt", text)
    assert read(tmp_path) == {"train": {"1.mp4": "run", "2.mp4": "sit"}}


def test_names_that_differ_only_in_a_number_are_names(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "train.txt", "1.mp4 0\n2.mp4 1\n")
    write(tmp_path / "classes.txt", "gesture 1\ngesture 0\n")
    assert read(tmp_path) == {"train": {"1.mp4": "gesture 1", "2.mp4": "gesture 0"}}


@pytest.mark.parametrize("text", ["id name\n0 run\n1 sit\n", "id,name\n0,run\n1,sit\n", "class\nrun\nsit\n"])
def test_a_header_is_no_class(tmp_path, text):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "train.txt", "1.mp4 0\n2.mp4 1\n")
    file = write(tmp_path / "labels.txt", text)
    assert error_of(tmp_path).startswith(f"{file}:1: ")


def test_two_class_files_that_differ_are_refused(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "train.csv", "path,label\n1.mp4,0\n2.mp4,1\n")
    write(tmp_path / "labels.txt", "run\nsit\n")
    other = write(tmp_path / "classes.json", '["run", "sit"]')
    assert read(tmp_path) == {"train": {"1.mp4": "run", "2.mp4": "sit"}}
    write(other, '["sit", "run"]')
    assert error_of(tmp_path) == (
        f"{tmp_path}/labels.txt and classes.json name the classes differently; remove one"
    )


# Tables.


@pytest.mark.parametrize("label", ["run;sit", "run | sit", "['run', 'sit']", '["sit"]', "[3, 4]"])
def test_several_labels_in_a_field_are_refused(tmp_path, label):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    quoted = label.replace('"', '""')
    file = write(tmp_path / "data.csv", table("path,labels", "1.mp4,run", "2.mp4,sit", f'3.mp4,"{quoted}"'))
    assert error_of(tmp_path) == (
        f"{file}:4: {label!r} is a list of labels: several labels of a video are not supported; write one"
    )


def test_a_separator_in_a_class_name_is_no_list(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    write(tmp_path / "data.csv", table("path;label", "1.mp4;run", "2.mp4;run, fast", "3.mp4;[run] with [a]"))
    assert read_data(tmp_path).classes == ("[run] with [a]", "run", "run, fast")


@pytest.mark.parametrize(
    ("columns", "fields"),
    [
        ("start,start_time", "30,1.5"),  # frames and seconds in MS-ASL
        ("end_time,stop", "2,3"),
        ("start_frame,first_frame", "2,3"),
        ("split,subset", "train,testing"),
    ],
)
def test_columns_of_one_meaning_that_differ_are_refused(tmp_path, columns, fields):
    touch(tmp_path, "1.mp4", "2.mp4")
    same = ",".join(2 * fields.split(",")[:1])
    rows = (f"1.mp4,a,{same}", f"2.mp4,b,{fields}")
    file = write(tmp_path / "data.csv", table(f"path,label,{columns}", *rows))
    (one, two), (x, y) = columns.split(","), fields.split(",")
    message = f"the columns {one} ({x!r}) and {two} ({y!r}) mean the same, but differ; remove one"
    assert error_of(tmp_path) == f"{file}:3: {message}"


def test_columns_of_splits_that_agree_are_read(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    rows = ("1.mp4,a,train,training,A", "2.mp4,b,test,,B")
    write(tmp_path / "data.csv", table("path,label,split,subset,set", *rows))
    assert read(tmp_path) == {"train": {"1.mp4": "a"}, "test": {"2.mp4": "b"}}


def test_an_empty_split_beside_others_is_an_error(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = write(tmp_path / "data.csv", table("path,label,phase", "1.mp4,a,train", "2.mp4,b,"))
    assert error_of(tmp_path) == f"{file}:3: the split (phase) is empty; write train, val or test"


@pytest.mark.parametrize("field", ["2", "maybe", "nan"])
def test_a_flag_that_is_neither_yes_nor_no_is_an_error(tmp_path, field):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = write(tmp_path / "data.csv", table("path,label,is_train", "1.mp4,a,1", f"2.mp4,b,{field}"))
    assert error_of(tmp_path) == f"{file}:3: is_train {field!r} is neither yes nor no; write 1 or 0"


def test_tables_with_other_columns_are_not_mixed(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    write(tmp_path / "data.csv", table("path,label", "1.mp4,a", "2.mp4,b"))
    file = write(tmp_path / "predictions.csv", table("video,label,score", "3.mp4,a,0.4"))
    words = "a table as well, with other columns than data.csv; give the one to read, or remove one"
    assert error_of(tmp_path) == f"{file}: {words}"


def test_each_table_has_rows(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "train.csv", table("path,label", "1.mp4,a", "2.mp4,b"))
    file = write(tmp_path / "val.csv", "path,label\n")
    assert error_of(tmp_path) == f"{file}: no rows below the header"


def test_whole_numbers_with_decimals_are_class_numbers(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    write(tmp_path / "data.csv", table("path,label", "1.mp4,10.0", "2.mp4,", "3.mp4,2.0"))
    assert read_data(tmp_path).classes == ("2", "10")
    write(tmp_path / "data.csv", table("path,action,class_id", "1.mp4,run,1.0", "2.mp4,,", "3.mp4,sit,0.0"))
    assert read_data(tmp_path).classes == ("sit", "run")


@pytest.mark.parametrize("header", ["class,label", "label,class"])
def test_of_two_columns_the_text_is_the_name_and_the_number_the_order(tmp_path, header):
    touch(tmp_path, "1.mp4", "2.mp4")
    fields = [("run", "1"), ("sit", "0")]
    rows = [",".join(x if header == "class,label" else x[::-1]) for x in fields]
    write(tmp_path / "data.csv", table(f"path,{header}", f"1.mp4,{rows[0]}", f"2.mp4,{rows[1]}"))
    assert read_data(tmp_path).classes == ("sit", "run")
    assert read(tmp_path) == {"train": {"1.mp4": "run", "2.mp4": "sit"}}


def test_the_scene_of_charades_is_no_class(tmp_path):
    touch(tmp_path, "YSKX3.mp4", "46GP8.mp4")
    rows = ("YSKX3,Basement,c092 11.9 21.2;c147 0 12.6", "46GP8,Kitchen,c000 0 4")
    file = write(tmp_path / "Charades_v1_train.csv", table("id,scene,actions", *rows))
    assert error_of(tmp_path).startswith(f"{file}:1: header 'id, scene, actions': no column for the class")


def test_no_number_in_json_is_no_label(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    rows = '{"path": "1.mp4", "label": "a"}\n{"path": "2.mp4", "label": "b"}\n'
    write(tmp_path / "data.jsonl", rows + '{"path": "3.mp4", "label": NaN}\n')
    assert read_data(tmp_path).unlabelled == {"train": ["3.mp4"]}


def test_the_separator_line_may_be_quoted(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "data.csv", '"sep=;"\npath;label\n1.mp4;run, fast\n2.mp4;sit\n')
    assert read(tmp_path) == {"train": {"1.mp4": "run, fast", "2.mp4": "sit"}}


@pytest.mark.parametrize("text", ["1.mp4 run fast\n2.mp4 sit\n", "2\n1.mp4 0\n", "foo bar\n1.mp4 0\n"])
def test_a_list_that_is_not_understood_is_named_with_its_first_line(tmp_path, text):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = write(tmp_path / "train.txt", text)
    line = text.split("\n")[0]
    assert error_of(tmp_path) == f"{file}:1: not PATH LABEL, nor the header of a table: {line!r}"


@pytest.mark.parametrize("listed", ["path,label\n1.mp4,a\nx/2.mp4,b\n", "1.mp4 0\nx/2.mp4 1\n"])
def test_videos_that_no_line_names_are_left_out_by_name(tmp_path, listed):
    touch(tmp_path, "1.mp4", "x/2.mp4", "x/3.mp4", "4.webm")
    file = write(tmp_path / "train.csv", listed)
    lines = ["left out: 2 videos that are in no class (4.webm, x/3.mp4)"]
    assert left_out_lines(read_data(tmp_path)) == lines
    assert left_out_lines(read_data(file)) == []  # one list of several
    (tmp_path / "link").symlink_to(tmp_path)
    write(file, listed.replace("1.mp4", f"{tmp_path}/link/1.mp4"))
    assert left_out_lines(read_data(tmp_path)) == lines


@pytest.mark.parametrize("folder", ["thumbs", "flow"])
def test_frames_beside_a_folder_of_images_are_refused(tmp_path, folder):
    touch(tmp_path, *(f"a/1/{i}.jpg" for i in range(6)), f"a/1/{folder}/1.jpg", "b/1.mp4")
    assert error_of(tmp_path) == (
        f"{tmp_path}/a/1: 6 images beside a folder of images ({folder}); keep the frames of a video in a "
        "folder without other folders"
    )


def test_posters_beside_folders_of_frames_are_left_out(tmp_path):
    touch(tmp_path, *(f"a/{i}.jpg" for i in range(8)), *(f"a/{i}/1.png" for i in range(8)), "b/1.mp4")
    assert len(read(tmp_path)["train"]) == 9


def test_a_video_and_its_frames_are_one_video(tmp_path):
    touch(tmp_path, "a/1.mp4", "a/1/1.jpg", "a/2.5.mp4", "a/2.mp4", "b/1.mp4", "b/1.AVI")
    assert class_warnings(read_data(tmp_path)) == [
        "2 videos in several forms, such as a/1 and a/1.mp4; keep one of them"
    ]


@pytest.mark.parametrize("name", ["nan", "None", "N/A"])
def test_a_class_named_like_a_missing_value_is_doubted(tmp_path, name):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "data.csv", table("path,label", "1.mp4,run", f"2.mp4,{name}"))
    assert class_warnings(read_data(tmp_path)) == [
        f"class {name!r} may be a missing label; leave the field empty if it is none"
    ]


def test_a_video_with_two_labels_in_two_lines_is_named(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = write(tmp_path / "data.csv", table("path,label", "1.mp4,a", "2.mp4,b", "1.mp4,b"))
    assert error_of(tmp_path) == (
        f"{file}:4: 1.mp4 is listed before, in {file}:2, with the class 'a': several labels of a video are "
        "not supported"
    )


def test_classes_one_folder_too_deep_are_named(tmp_path):
    touch(tmp_path, "UCF/a/1.mp4", "UCF/b/2.mp4")
    assert error_of(tmp_path).endswith(f"; if the folders in UCF are the classes, give {tmp_path}/UCF")


def test_folders_of_images_without_a_class_are_named(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg")
    words = f"; {tmp_path}/a has images: it is one video, whose class is the folder above it"
    assert error_of(tmp_path).endswith(words)
    touch(tmp_path, "c/1.mp4", "d/1.mp4")
    assert left_out_lines(read_data(tmp_path)) == ["left out: 2 folders of images that are not used (a/, b/)"]
