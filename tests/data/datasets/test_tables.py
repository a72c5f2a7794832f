"""Tables of videos: names of columns, dialects of CSV, JSON, splits and folds, parts, and what is refused."""

import codecs
import json
import re
from pathlib import Path

import pytest
from test_datasets import error_of, frames, problems_of, read, touch, write

from conftest import numbered_frames, numbers_of, write_video
from videossp.data.clips import EvalViews
from videossp.data.datasets import Sample, columns, hold_out, read_data, read_with_problems
from videossp.data.datasets.text import normalised
from videossp.data.datasets.write import write_table
from videossp.data.doctor.checks import overlapping
from videossp.data.sampling import ClipFormat
from videossp.errors import DataError

TWO = {"train": {"1.mp4": "run", "2.mp4": "sit"}}


def table(header, *rows):
    return "".join(f"{x}\n" for x in (header, *rows))


# Headers.


@pytest.mark.parametrize(
    "header",
    [
        "path,label", "file,class", "filename,category", "File Path,Class Name", "filePath,className",
        "video_name,tag", "VideoName,Target", "vid_name,labels", "video-id,action", "video,gesture",
        "clip_name,activity", "clip,sign", "Clip Path,label text", "vid,verb", "id,label", "ID,Gloss",
        "uid,exercise", "name,label", "youtube_id,label", "file_path,action_name", "video_file,event",
        "clip_id,emotion", "relative_path,category_name", "video file name,y", "'path','label'",
        "left_file_name,label",
    ],
)  # fmt: skip
def test_headers_of_public_data_sets_are_read(tmp_path, header):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "data.csv", table(f"number,{header}", "7,1.mp4,run", "8,2.mp4,sit"))
    assert read(tmp_path) == TWO
    write(tmp_path / "data.csv", table(f"{header},note", "1,run,x", "2,sit,y"))  # without the suffix
    assert read(tmp_path) == TWO


@pytest.mark.parametrize(
    ("header", "numbers"),
    [
        ("class_id", "01"),
        ("Label Index", "10"),
        ("classIdx", "01"),
        ("action_id", "10"),
        ("verb_class", "01"),
    ],
)
def test_class_numbers_give_the_order_whatever_their_column_is_called(tmp_path, header, numbers):
    touch(tmp_path, "1.mp4", "2.mp4")
    name = "verb" if "verb" in header else "action"
    rows = (f"1.mp4,run,{numbers[0]}", f"2.mp4,sit,{numbers[1]}")
    write(tmp_path / "data.csv", table(f"path,{name},{header}", *rows))
    assert read_data(tmp_path).classes == (("run", "sit") if numbers == "01" else ("sit", "run"))
    assert read(tmp_path) == TWO


def test_a_column_named_label_is_preferred_to_other_classes(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    rows = ("1.mp4,sport,run,4", "2.mp4,rest,sit,5", "3.mp4,sport,jump,4")
    file = write(tmp_path / "data.csv", table("file,category,label,category_id", *rows))
    assert set(read_data(tmp_path).classes) == {"run", "sit", "jump"}
    write(file, file.read_text().replace("label", "noun"))
    assert error_of(tmp_path) == (
        f"{file}:1: the columns category and noun may both be the class, and they differ "
        f"({file}:4: 'sport' and 'jump'); remove one"
    )


def test_two_columns_that_name_the_same_classes_fill_each_other(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    write(tmp_path / "data.csv", table("path,class,label_name", "1.mp4,4,run", "2.mp4,7,sit", "3.mp4,7,"))
    assert read(tmp_path) == {"train": {"1.mp4": "run", "2.mp4": "sit", "3.mp4": "sit"}} or read(
        tmp_path
    ) == {"train": {"1.mp4": "4", "2.mp4": "7", "3.mp4": "7"}}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("data.csv", "video,weather\n1,wet\n", ":1: header 'video, weather': no column for the class"),
        ("list.tsv", "weather\tlabel\nwet\trun\n", ":1: header 'weather, label': no column for the video"),
        ("x.csv", "a;b\n1;2\n", ":1: header 'a, b': no column for the video (looked for path, file_name, "),
        ("x.json", '[{"clip": "1", "what": "run"}]', ": keys 'clip, what': no column for the class"),
        ("metadata.csv", "file_name,caption\n1.mp4,a man\n", "; caption is text, not a class; rename"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("folder", ["", "lists"])
def test_an_unknown_header_is_an_error_with_what_was_seen_and_looked_for(tmp_path, name, text, words, folder):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = write(tmp_path / folder / name, text)
    for data in (tmp_path, file) if not folder else (tmp_path,):
        message = error_of(data, least_classes=1)
        assert f"{file}:" in message and words in message and "classes found" not in message


@pytest.mark.parametrize("name", ["labels.parquet", "train/metadata.parquet", "classes.xlsx", "splits.pkl"])
def test_annotations_that_are_no_text_are_named(tmp_path, name):
    touch(tmp_path, "train/1.mp4", "train/2.mp4", name)
    suffix = name[name.index(".") :]
    words = f"{suffix} files are not read; save it as CSV with the columns path and label"
    assert error_of(tmp_path) == f"{tmp_path}/{name}: {words}"


def test_a_list_of_classes_is_no_table_of_videos(tmp_path):
    touch(tmp_path, "run/1.mp4", "sit/2.mp4")
    write(tmp_path / "classes.csv", "id,label\n0,run\n1,sit\n")
    data = read_data(tmp_path)
    assert data.origin["format"] == "folder" and data.ignored == ("classes.csv",)


def test_the_page_lists_all_columns_that_are_read():
    page = (Path(__file__).parents[3] / "docs/data.md").read_text()
    names = {
        normalised(x)
        for x in re.findall(r"`(\w+)`", page[page.index("| meaning |") : page.index("- Video: ")])
    }
    tables = [x for name, x in vars(columns).items() if name.isupper() and isinstance(x, tuple)]
    groups = [x for x in tables if x not in (columns.TEXTS, columns.VAGUE_PATHS)]
    known = [name for group in (*groups, *columns.FLAGS.values()) for name in group]
    assert names - {"filename"} == {normalised(x) for x in known} - {"filename"}


# Which video a field names.


def test_names_are_found_anywhere_below_the_folder(tmp_path):
    touch(tmp_path / "videos", "a/b/1.MP4", "x y.webm", "deep/2.cut.avi")
    frames(tmp_path / "videos/c/77")
    rows = ("1,run", "x y,sit", "2.cut,run", "77,sit")
    file = write(tmp_path / "lists/data.csv", table("video_id,label", *rows))
    found = {"a/b/1.MP4": "run", "x y.webm": "sit", "deep/2.cut.avi": "run", "c/77": "sit"}
    assert read(file, videos=tmp_path / "videos") == {"train": found}


def test_a_folder_without_frames_is_not_taken_for_the_video_of_its_name(tmp_path):
    touch(tmp_path, "1/features.npy", "1.mp4", "2.mp4")
    write(tmp_path / "data.csv", table("video_id,label", "1,run", "2,sit"))
    assert read(tmp_path) == TWO


def test_a_name_with_several_files_is_a_problem_unless_the_split_decides(tmp_path):
    touch(tmp_path, "train/1.mp4", "test/1.mp4", "train/2.mp4")
    file = write(tmp_path / "all.csv", table("video,label,split", "1,a,train", "1,b,test", "2,b,train"))
    assert read(tmp_path) == {"train": {"train/1.mp4": "a", "train/2.mp4": "b"}, "test": {"test/1.mp4": "b"}}
    touch(tmp_path, "train/more/2.mp4")
    read_so_far, problems = problems_of(tmp_path)
    assert read_so_far["train"] == {"train/1.mp4": "a"}
    assert problems[0][0] == "name.collision" and problems[0][1].startswith(f"{file}:4: train/")


def test_a_path_is_not_found_elsewhere_nor_with_other_letters(tmp_path):
    touch(tmp_path, "a/1.mp4", "Ab.mp4", "2.avi")
    rows = ("b/1.mp4,run", "aB,sit", "2.mp4,run")
    file = write(tmp_path / "data.csv", table("path,label", *rows))
    problems = problems_of(tmp_path, least_classes=0)[1]
    assert [x[1] for x in problems] == [
        f"{file}:{i}: no such video: {name}" for i, name in ((2, "b/1.mp4"), (3, "aB"), (4, "2.mp4"))
    ]


def test_paths_of_another_root_and_paths_without_suffix_are_below_the_folder(tmp_path):
    touch(tmp_path, "test/run/1.avi", "test/sit/2.avi", "other/2.avi")
    write(tmp_path / "test.csv", table("clip_path,label", "/test/run/1.avi,run", "test/sit/2,sit"))
    assert read(tmp_path) == {"test": {"test/run/1.avi": "run", "test/sit/2.avi": "sit"}}


def test_the_column_whose_videos_exist_names_them(tmp_path):
    touch(tmp_path, "1.avi", "2.avi")
    rows = ("1,/home/x/1.avi,run", "2,/home/x/2.avi,sit")
    write(tmp_path / "data.csv", table("clip_name,clip_path,label", *rows))
    assert read(tmp_path) == {"train": {"1.avi": "run", "2.avi": "sit"}}


@pytest.mark.parametrize("classes", [True, False])
def test_tables_may_be_in_a_folder_beside_the_videos(tmp_path, classes):
    touch(tmp_path, *(("run/1.mp4", "sit/2.mp4") if classes else ("clips/1.mp4", "clips/2.mp4")))
    write(tmp_path / "lists/train.csv", table("file_name,class_id", "1.mp4,1", "2.mp4,0"))
    write(tmp_path / "lists/classes.txt", "sit\nrun\n")
    names = ("run/1.mp4", "sit/2.mp4") if classes else ("clips/1.mp4", "clips/2.mp4")
    assert read(tmp_path) == {"train": {names[0]: "run", names[1]: "sit"}}
    write(tmp_path / "other/train.csv", table("file_name,class_id", "1.mp4,1"))
    words = f"tables are in several folders: {tmp_path}/lists, {tmp_path}/other"
    assert error_of(tmp_path) == f"{tmp_path}: {words}"


def test_tables_beside_folders_of_classes_are_ignored_in_a_split(tmp_path):
    touch(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "test/a/3.mp4")
    write(tmp_path / "train/notes.csv", table("file_name,label", "a/1.mp4,dark", "b/2.mp4,light"))
    data = read_data(tmp_path)
    assert data.classes == ("a", "b") and data.ignored == ("train/notes.csv",)
    touch(tmp_path / "flat", "test/1.mp4", "test/2.mp4", "train/3.mp4")
    write(tmp_path / "flat/test/labels.csv", table("file_name,label", "1.mp4,dark", "2.mp4,light"))
    data = read_data(tmp_path / "flat")
    assert list(data.splits) == ["test"] and data.ignored == ("train/3.mp4",)


def test_a_list_that_is_not_read_is_named(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    for name in ("all.csv", "lists/train.txt"):
        file = write(tmp_path / name, "1.mp4,run\n2.mp4,sit\n")
        assert f"{file}: a list that is not read here; give the file itself" in error_of(tmp_path)
        assert read(file, videos=tmp_path) == TWO
        file.unlink()


def test_a_list_of_ids_is_read(tmp_path):
    touch(tmp_path, "1.mp4", "x/2.mp4")
    for separator in ",", ";", "\t", "|":
        write(tmp_path / "train.txt", f"1{separator}run fast\n2{separator}sit\n")
        assert read(tmp_path) == {"train": {"1.mp4": "run fast", "x/2.mp4": "sit"}}


def test_a_row_for_each_frame_is_refused(tmp_path):
    frames(tmp_path / "a")
    text = (
        "original_vido_id video_id frame_id path labels\na 0 0 a/img_00001.jpg 3\na 0 1 a/img_00002.jpg 3\n"
    )
    file = write(tmp_path / "train.csv", text)
    words = "a/img_00001.jpg is a picture; list the folder of the frames once, not each frame"
    assert error_of(tmp_path) == f"{file}:2: {words}"
    list_file = write(tmp_path / "train.csv", "a/img_00001.jpg 0\n")
    assert error_of(tmp_path) == f"{list_file}:1: {words}"


# Encodings and dialects.


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", codecs.BOM_UTF8), ("utf-16-le", codecs.BOM_UTF16_LE), ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-16-le", b""), ("utf-16-be", b""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tables_in_utf8_and_utf16_are_read(tmp_path, encoding, mark, end):
    touch(tmp_path, "一.mp4", "ü.mp4")
    text = end.join(["path\tlabel", "一.mp4\trun", "ü.mp4\t座る", ""])
    write(tmp_path / "data.txt", mark + text.encode(encoding))
    assert read(tmp_path) == {"train": {"一.mp4": "run", "ü.mp4": "座る"}}
    write(tmp_path / "data.txt", "nothing")
    write(tmp_path / "train.lst", mark + text.replace("path\tlabel", "x/ü.mp4 b").encode(encoding))
    assert "x/ü.mp4" in error_of(tmp_path)  # a list, too


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\npath;label\n1.mp4;run\n2.mp4;sit\n",
        "SEP=|\r\npath|label\r\n1.mp4|run\r\n2.mp4|sit\r\n",
        "path|label\n1.mp4|run\n2.mp4|sit\n",
        "path label\n1.mp4 run\n2.mp4 sit\n",
        "path,label,\n1.mp4,run,\n2.mp4,sit,\n",
        "path,label\n1.mp4,run,,\n2.mp4,sit,\n",
        "\n\n  \npath,label\n\n1.mp4,run\n   \n2.mp4,sit\n\n",
        "# made by hand, in May\n\npath,label\n# the first, the last, all\n1.mp4,run\n#\n2.mp4,sit\n# end",
        "# path, label\n1.mp4, run\n2.mp4, sit\n",
        "# names, of, all\n#path,label\n1.mp4,run\n2.mp4,sit\n",
        "path,label\n1.mp4,run\n#2.mp4,run\n2.mp4,sit\n# see below, please\n",
        "label,path,split\nrun,1.mp4,train\n# what, is, this\nsit,2.mp4,train\n# 3,4,5\n",
        "'path','label'\n'1.mp4','run'\n'2.mp4','sit'\n",
        '"path","label"\n"1.mp4","run"\n"2.mp4","sit"',
        'path,note,label\n1.mp4,"two\nlines, and ""quotes""",run\n2.mp4,"",sit\n',
    ],
)
def test_dialects_of_csv_are_read(tmp_path, text):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "data.csv", text)
    assert read(tmp_path) == TWO


def test_names_that_start_with_a_number_sign_are_no_comments(tmp_path):
    touch(tmp_path, "#1.mp4", "2.mp4", "#fun/3.mp4")
    write(tmp_path / "data.csv", "path,label\n#1.mp4,run\n2.mp4,sit\n#fun/3.mp4,run\n#note,that\n")
    found = {"train": {"#1.mp4": "run", "2.mp4": "sit", "#fun/3.mp4": "run"}}
    assert read(tmp_path) == found
    (tmp_path / "data.csv").unlink()
    write(
        tmp_path / "train.txt", "# made in 2026\n#1.mp4 run\n2.mp4 sit\n# 2.mp4 run\n#fun/3.mp4 run\n# note 3"
    )
    assert read(tmp_path) == found
    (tmp_path / "#1.mp4").unlink()
    assert error_of(tmp_path) == f"{tmp_path}/train.txt:2: no such video: #1.mp4"
    (tmp_path / "train.txt").rename(tmp_path / "notes")
    file = write(tmp_path / "data.csv", "path,label\n2.mp4,sit\n#1.mp4,run\n")
    assert error_of(tmp_path) == f"{file}:3: no such video: #1.mp4"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"path,label\n1.mp4,run\n2.mp4,s\0t\n", "3: a zero byte; this is not a text file, or it is damaged"),
        (
            'path,label\n1.mp4,run\n2.mp4,"sit\n3.mp4,x\n',
            "3: not a line of a CSV file: unexpected end of data",
        ),
        ('path,label\n1.mp4,"run\n2.mp4,sit"\n', "2: a line break in the class; a quote may not be closed"),
        ("path,label\n1.mp4,run,x\n", "2: 3 fields, the header has 2"),
        ("path,label,\n1.mp4\n", "2: 1 fields, the header has 3"),
    ],
)
def test_broken_tables_are_errors_with_their_line(tmp_path, text, words):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = write(tmp_path / "data.csv", text)
    assert error_of(tmp_path) == f"{file}:{words}"


# Parts.


def parts(data, **options):
    return [(x.name, x.start, x.end, x.frames) for _, x in read_data(data, **options).all_samples()]


@pytest.mark.parametrize(
    ("separator", "start", "end", "seconds"),
    [
        (",", "1.5", "2", (1.5, 2.0)),
        (";", "1,5", "2,25", (1.5, 2.25)),
        ("\t", "0,5", "10", (0.5, 10.0)),
        (",", "0:30", "1:05", (30.0, 65.0)),
        (",", "75:00", "75:00.5", (4500.0, 4500.5)),
        (",", "00:00:01.25", "01:00:00", (1.25, 3600.0)),
        (";", "0:01,5", "0:02", (1.5, 2.0)),
        (",", "1e1", "11.", (10.0, 11.0)),
    ],
)
@pytest.mark.parametrize(("first", "last"), [("begin", "stop"), ("Start Sec", "endSeconds")])
def test_times_are_seconds_or_clock_times(tmp_path, separator, start, end, seconds, first, last):
    touch(tmp_path, "1.mp4")
    lines = [["path", first, last, "label"], ["1.mp4", start, end, "a"], ["1.mp4", "99999", "", "b"]]
    write(tmp_path / "data.csv", "".join(separator.join(x) + "\n" for x in lines))
    assert parts(tmp_path)[0][1:] == (*seconds, None)


@pytest.mark.parametrize("text", ["1:75", "0:60:00", "1:2:3:4", '"1,5"', "-1:00", "12:", "nan", "1 s"])
def test_other_times_are_errors(tmp_path, text):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = write(tmp_path / "data.csv", table("path,label,end_time", "1.mp4,a,3", f"2.mp4,b,{text}"))
    bare = text.strip('"')
    assert error_of(tmp_path) == f"{file}:3: end_time {bare!r} is not a time in seconds"


@pytest.mark.parametrize(
    ("first", "last"),
    [("start_frame", "end_frame"), ("frame_start", "frame_end"), ("Start Frame", "stopFrame")],
)
def test_frame_numbers_count_from_one_and_include_the_last(tmp_path, first, last):
    touch(tmp_path, "1.mp4", "2.mp4")
    rows = ("1.mp4,1,6,a", "1.mp4,7,12,b", "2.mp4,,,a", "2.mp4,3,3.0,b", "2.mp4,1,-1,c")
    file = write(tmp_path / "train.csv", table(f"path,{first},{last},label", *rows[:4]))
    assert parts(tmp_path) == [
        ("1.mp4#frames=0,6", None, None, (0, 6)),
        ("1.mp4#frames=6,12", None, None, (6, 12)),
        ("2.mp4", None, None, None),
        ("2.mp4#frames=2,3", None, None, (2, 3)),
    ]
    write(file, table(f"path,{first},{last},label", "1.mp4,4,9,a", "2.mp4,0,2,b", "2.mp4,3,5,a"))
    assert [x[3] for x in parts(tmp_path)] == [(4, 10), (0, 3), (3, 6)]  # a number 0: from zero


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("start_frame,end_frame", "6,5", "no frames from 6 to 5; the first frame of a video is number 1, and "
         "the last one of a part is included"),
        ("start_frame,end_frame", "6,x", "end_frame 'x' is not the number of a frame"),
        ("start_frame,end_frame", "-1,5", "no frames from -1 to 5; the first frame of a video is number 1, "
         "and the last one of a part is included"),
        ("start_frame,end_frame", "2,-1", "no number of the last frame beside 2; write it"),
        ("start_frame,end_frame", "2,", "no number of the last frame beside 2; write it"),
    ],
)  # fmt: skip
def test_wrong_frame_numbers_are_errors_with_their_line(tmp_path, header, row, words):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = write(tmp_path / "data.csv", table(f"path,label,{header}", "1.mp4,a,1,2", f"2.mp4,b,{row}"))
    assert error_of(tmp_path) == f"{file}:3: {words}"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("start_ms,end_ms", "column 'start_ms' is not known, and may select a part of the video; "
         "name it start or end (seconds), start_frame or end_frame, or remove it"),
        ("stopMinute,note", "column 'stopMinute' is not known, and may select a part of the video; "
         "name it start or end (seconds), start_frame or end_frame, or remove it"),
        ("start,duration", "start and duration without an end; write the end of each part in a column end"),
    ],
)  # fmt: skip
def test_columns_that_may_select_a_part_are_not_left_out(tmp_path, header, words):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = write(tmp_path / "data.csv", table(f"path,label,{header}", "1.mp4,a,1,2", "2.mp4,b,3,4"))
    assert error_of(tmp_path) == f"{file}:1: {words}"


def test_columns_about_the_file_are_harmless(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    rows = ("1.mp4,run,30,12.5,375,1280,720,1,x", "2.mp4,sit,30,12.5,375,1280,720,2,y")
    header = "video_name,label,fps,duration,num_frames,width,height,weight,weekend"
    write(tmp_path / "data.csv", table(header, *rows))
    assert read(tmp_path) == TWO


def test_of_times_and_frame_numbers_folders_take_the_numbers(tmp_path):
    touch(tmp_path, "1.mp4")
    frames(tmp_path / "2")
    rows = ("1.mp4,a,2,2,0:01.5,0:02", "2,b,2,2,0:01.5,0:02")
    write(tmp_path / "data.csv", table("path,label,start_frame,stop_frame,start_time,stop_time", *rows))
    assert parts(tmp_path) == [("1.mp4#t=1.5,2", 1.5, 2.0, None), ("2#frames=1,2", None, None, (1, 2))]


def test_the_frames_of_a_part_are_decoded(tmp_path):
    write_video(tmp_path / "1.mp4", numbered_frames(12))
    rows = ("1.mp4,4,7,a", "1.mp4,9,12,b", "1.mp4,12,13,b")
    write(tmp_path / "data.csv", table("path,start_frame,end_frame,label", *rows))
    samples = read_data(tmp_path).splits["train"]
    views = EvalViews(samples, ClipFormat(4, (32, 32), mean=(0, 0, 0), std=(1, 1, 1)), 1, 1)
    clips = [views[i][0][0].permute(1, 0, 2, 3) * 255 for i in range(2)]
    assert [numbers_of(x) for x in clips] == [[3, 4, 5, 6], [8, 9, 10, 11]]
    assert views.identity(0) != views.identity(1)
    assert views[2] == (None, f"{tmp_path}/1.mp4: frames 11 to 12 asked for, it has 12")


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ({"frames": (0, 6)}, {"frames": (5, 9)}, True),
        ({"frames": (0, 6)}, {"frames": (6, 9)}, False),
        ({"frames": (0, 6)}, {}, True),
        ({"frames": (0, 6)}, {"start": 100.0}, True),
        ({"end": 2.0}, {"start": 2.0, "end": 3.0}, False),
        ({"start": 1.0}, {"start": 0.0, "end": 1.5}, True),
    ],
)
def test_parts_of_a_file_in_two_splits_leak_if_they_overlap(one, other, overlap):
    first, second = Sample("/a", "a", 0, **one), Sample("/a", "a 2", 0, **other)
    assert first.overlaps(second) == second.overlaps(first) == overlap
    assert bool(overlapping([("train", first)], [("test", second)])) == overlap


def test_parts_in_frames_of_one_file_are_held_out_together():
    every = [Sample(f"/{x}", f"{x} {i}", 0, frames=(i, i + 1)) for x in "abcd" for i in range(5)]
    assert len({x.path for x in hold_out(every, 0.3)[1]}) == 1


def test_parts_in_frames_are_written_and_read_back(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    rows = ("1.mp4,a,0,5", "1.mp4,b,6,9", "2.mp4,a,,")
    write(tmp_path / "in/data.csv", table("path,label,start_frame,end_frame", *rows))
    data = read_data(tmp_path / "in", videos=tmp_path)
    (tmp_path / "out").mkdir()
    file = tmp_path / "out/clean.csv"
    assert write_table(data.all_samples(), data.classes, file) == 3
    back = read_data(file)
    assert [(x.label, x.frames) for _, x in back.all_samples()] == [(0, (0, 6)), (1, (6, 10)), (0, None)]


# Splits and folds.


@pytest.mark.parametrize(
    ("header", "rows", "splits"),
    [
        ("is_train", ["1", "0", "true"], "train test train"),
        ("is_test", ["no", "Yes", "no"], "train test train"),
        ("train,val", ["1,0", "0,1", "0,0"], "train val test"),
        ("is_train,is_val,is_test", ["1,0,0", "0,1,0", "0,0,1"], "train val test"),
        ("isValidation", ["False", "TRUE", "False"], "train val train"),
        ("Usage", ["Training", "PublicTest", "PrivateTest"], "train val test"),
        ("phase", ["train", "val", "test"], "train val test"),
        ("Data Split", ["train_set", "validation set", "TestSet"], "train val test"),
        ("mode", ["slow", "fast", "slow"], "train train train"),
        ("fold", ["train", "val", "test"], "train val test"),
        ("split,fold", ["test,1", "train,2", "train,1"], "test train train"),
    ],
)
def test_columns_of_splits(tmp_path, header, rows, splits):
    touch(tmp_path, "0.mp4", "1.mp4", "2.mp4")
    rows = [f"{i}.mp4,{i % 2},{x}" for i, x in enumerate(rows)]
    write(tmp_path / "data.csv", table(f"path,label,{header}", *rows))
    found = {name: split for split, members in read(tmp_path).items() for name in members}
    assert " ".join(found[f"{i}.mp4"] for i in range(3)) == splits


def test_a_row_in_several_splits_or_none_is_an_error(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = write(tmp_path / "data.csv", table("path,label,train,test", "1.mp4,a,1,0", "2.mp4,b,1,1"))
    assert error_of(tmp_path) == f"{file}:3: the row is in 2 splits by train, test"
    write(file, table("path,label,train,test", "1.mp4,a,1,0", "2.mp4,b,0,0"))
    assert error_of(tmp_path) == f"{file}:3: the row is in no splits by train, test"


@pytest.mark.parametrize("values", [(0, 1, 2), (1, 2, 3)])
@pytest.mark.parametrize("form", ["{}", "fold{}", "{}.0"])
def test_a_column_of_folds_gives_the_tested_fold(tmp_path, values, form):
    touch(tmp_path, *(f"{i}{j}.mp4" for i in range(3) for j in "ab"))
    rows = [f"{i}{j}.mp4,{j},{form.format(x)}" for i, x in enumerate(values) for j in "ab"]
    file = write(tmp_path / "train.csv", table("file,label,fold", *rows))
    for fold in values:
        i = values.index(fold)
        assert read(tmp_path, fold=fold)["test"] == {f"{i}a.mp4": "a", f"{i}b.mp4": "b"}
    assert read(tmp_path) == read(tmp_path, fold=1)
    folds = ", ".join(map(str, values))
    assert error_of(tmp_path, fold=7) == f"{file}:1: no fold 7; the folds are {folds} (--fold)"


def test_files_of_splits_go_before_folds(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    write(tmp_path / "train.csv", table("path,label,fold", "1.mp4,a,0", "2.mp4,b,1"))
    write(tmp_path / "test.csv", table("path,label,fold", "3.mp4,a,0"))
    assert {k: list(v) for k, v in read(tmp_path).items()} == {"train": ["1.mp4", "2.mp4"], "test": ["3.mp4"]}
    words = "columns or names of files give the splits; leave --fold out"
    assert error_of(tmp_path, fold=2) == f"{tmp_path}: {words}"


def test_a_table_without_folds_refuses_a_fold(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "data.csv", table("path,label", "1.mp4,a", "2.mp4,b"))
    assert error_of(tmp_path, fold=2) == f"{tmp_path}: it has no column fold; leave --fold out"


def test_a_test_table_without_classes_is_unlabelled(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    write(tmp_path / "train.csv", table("video_name,tag", "1.mp4,a", "2.mp4,b"))
    write(tmp_path / "test.csv", table("video_name", "3.mp4"))
    assert read_data(tmp_path).unlabelled == {"test": ["3.mp4"]}


# JSON, and Hugging Face's metadata.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data.json", [{"video": "1.mp4", "label": "run"}, {"video": "2.mp4", "label": "sit", "note": None}]),
        ("data.json", {"1.mp4": {"label": "run"}, "2.mp4": {"label": ["sit"]}}),
        ("data.json", {"1.mp4": "run", "2.mp4": "sit"}),
        (
            "train.json",
            {"version": 2, "videos": [{"vid_name": "1", "tag": "run"}, {"vid_name": "2", "tag": "sit"}]},
        ),
        ("x.json", {"train": [{"id": "1", "label": "run"}], "training": {"2": {"label": "sit"}}}),
        (
            "x.json",
            [
                {"gloss": "run", "instances": [{"video_id": 1}]},
                {"gloss": "sit", "instances": [{"video_id": 2}]},
            ],
        ),
    ],
)  # fmt: skip
def test_json_lists_of_videos_are_read(tmp_path, name, value):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / name, json.dumps(value))
    assert read(tmp_path) == read(tmp_path / name) == TWO


def test_segments_of_activitynet_are_parts(tmp_path):
    touch(tmp_path, "v_aB-1.mp4", "c.mp4", "d_000003_000013.mp4")
    database = {
        "aB-1": {
            "subset": "training",
            "annotations": [{"label": "run", "segment": [0.5, 2]}, {"label": "sit", "segment": [2, 3.5]}],
        },
        "c": {"subset": "testing", "annotations": []},
        "gone": {"subset": "training", "annotations": [{"label": "run", "segment": [0, 1]}]},
        "d": {"subset": "validation", "annotations": {"label": "sit", "segment": [3.0, 13.0]}},  # of Kinetics
    }
    write(tmp_path / "data.json", json.dumps({"version": "1.3", "taxonomy": [], "database": database}))
    data = read_data(tmp_path)
    assert parts(tmp_path) == [
        ("v_aB-1.mp4#t=0.5,2", 0.5, 2.0, None),
        ("v_aB-1.mp4#t=2,3.5", 2.0, 3.5, None),
        ("d_000003_000013.mp4", None, None, None),
    ]
    assert data.unlabelled == {"test": ["c.mp4"]} and data.missing == ("gone",)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("data.jsonl", '{"path": "1.mp4", "label": "a"}\n{"path": ', ":2: not JSON: Expecting value"),
        ("data.jsonl", '{"path": "1.mp4", "label": "a"}\n[1]\n', ":2: not an object, {...}"),
        ("data.json", '[{"path": "1.mp4",\n "label": }]', ":2: not JSON: Expecting value"),
        ("data.json", '[{"path": "1.mp4", "label": ["a", "b"]}]',
         ": item 1: label is ['a', 'b']: several labels of a video are not supported; write one"),
        ("data.json", '{"a": 1}', ": no list of videos: not [{...}, ...] or {ID: {...}, ...}"),
    ],
)  # fmt: skip
def test_json_that_cannot_be_read_is_an_error_with_its_place(tmp_path, name, text, words):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = write(tmp_path / name, text)
    assert error_of(file, format="csv") == f"{file}{words}"


METADATA = {
    "csv": "file_name,label\n{a},x\n{b},y\n",
    "jsonl": '{{"file_name": "{a}", "label": "x"}}\n{{"file_name": "{b}", "label": "y"}}\n',
}


@pytest.mark.parametrize("suffix", METADATA)
@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("", ("1.mp4", "2.mp4")),
        ("", ("validation/1.mp4", "validation/more/2.mp4")),
        ("validation", ("1.mp4", "2.mp4")),
        ("validation", ("z/1.mp4", "z/2.mp4")),
        ("validation/z", ("1.mp4", "2.mp4")),
        ("z", ("1.mp4", "2.mp4")),
    ],
)
def test_metadata_of_hugging_face_is_read_wherever_it_is(tmp_path, suffix, folder, names):
    base = tmp_path / folder
    touch(base, *names)
    touch(base, "spare.mp4")
    write(base / f"metadata.{suffix}", METADATA[suffix].format(a=names[0], b=names[1]))
    prefix = f"{folder}/" if folder else ""
    split = "val" if "validation" in f"{prefix}{names[0]}" else "train"
    assert read(tmp_path) == {split: {f"{prefix}{names[0]}": "x", f"{prefix}{names[1]}": "y"}}
    assert read_data(tmp_path).ignored == (f"{prefix}spare.mp4",)


def test_metadata_of_several_folders_are_one_data_set(tmp_path):
    for split, label in ("train", "x"), ("test", "y"):
        touch(tmp_path, f"{split}/1.mp4", f"{split}/2.mp4")
        write(tmp_path / split / "metadata.csv", table("file_name,label", f"1.mp4,{label}", "2.mp4,y"))
    names = {
        "train": {"train/1.mp4": "x", "train/2.mp4": "y"},
        "test": {"test/1.mp4": "y", "test/2.mp4": "y"},
    }
    assert read(tmp_path) == names
    file = write(tmp_path / "metadata.csv", table("file_name,label", "train/1.mp4,x"))
    words = f"a table as well, beside {file}; give the one to read, or remove one"
    assert error_of(tmp_path) == f"{tmp_path}/test/metadata.csv: {words}"


def test_class_folders_are_not_read_in_place_of_metadata_without_a_class(tmp_path):
    touch(tmp_path, "train/a/1.mp4", "train/b/2.mp4")
    file = write(tmp_path / "train/metadata.csv", table("file_name,text", "a/1.mp4,a dog", "b/2.mp4,a cat"))
    message = error_of(tmp_path)
    assert message.startswith(f"{file}:1: header 'file_name, text': no column for the class")
    assert "text is text, not a class" in message and "--format folder" in message
    assert read(tmp_path, format="folder") == {"train": {"train/a/1.mp4": "a", "train/b/2.mp4": "b"}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes.json", ["run", "sit"]),
        ("labels.json", {"sit": 1, "run": 0}),
        ("label_map.json", {"1": "sit", "0": "run"}),
        ("class_names.json", {"run": "0", "sit": "1"}),
    ],
)
def test_class_files_may_be_json(tmp_path, name, value):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / name, json.dumps(value))
    write(tmp_path / "data.csv", table("path,class_id", "1.mp4,0", "2.mp4,1"))
    assert read(tmp_path) == TWO
    assert read_data(tmp_path).classes == ("run", "sit")


def test_a_table_whose_videos_are_all_elsewhere_is_an_error_with_the_first_line(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = write(tmp_path / "data.csv", table("path,label", "C:\\x\\1.mp4,run", "/home/x/2.mp4,sit"))
    with pytest.raises(DataError) as caught:
        read_with_problems(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: no line names a video that exists (format csv); "
        f"2 problems, the first: {file}:2: no such video: C:\\x\\1.mp4"
    )


# Number of classes.


def test_a_data_set_of_one_class_is_read_where_one_is_enough(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "data.csv", table("path,label", "1.mp4,a", "2.mp4,a"))
    assert "1 classes found, at least two are needed" in error_of(tmp_path)
    assert read(tmp_path, least_classes=1) == {"train": {"1.mp4": "a", "2.mp4": "a"}}
    with pytest.raises(DataError, match="none of its 1 videos has a class"):
        read_data(write(tmp_path / "data.csv", "path,label\n1.mp4,\n"), least_classes=1)
