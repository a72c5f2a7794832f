"""List files, and CSV files with a header."""

import csv
import io

import pytest
from test_datasets import error_of, frames, problems_of, read, touch, write

from videossp.data.datasets import read_data

# Lists.


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4 0\nb/c d.mp4 1\n",
        "a.mp4,0\nb/c d.mp4,1\n",
        "a.mp4, 0\nb/c d.mp4, 1\n",
        "a.mp4\t0\nb/c d.mp4\t1\n",
        '"a.mp4" 0\n"b/c d.mp4" 1\n',
        "'a.mp4','0'\n'b/c d.mp4','1'\n",
        "./a.mp4 0\nb//../b/c d.mp4 1\n",
        "a.mp4 00\nb\\c d.mp4 01\n",
        "\ufeffa.mp4 0\r\n\r\n  b/c d.mp4 1  \r\n",
        "a.mp4 0\rb/c d.mp4 1",
    ],
    ids=["blank", "comma", "both", "tab", "quotes", "all-quoted", "dots", "backslash", "windows", "mac"],
)
def test_a_line_of_a_list_is_path_and_label(tmp_path, text):
    touch(tmp_path, "a.mp4", "b/c d.mp4")
    write(tmp_path / "train.txt", text)
    assert read(tmp_path) == {"train": {"a.mp4": "0", "b/c d.mp4": "1"}}


def test_paths_of_a_list_are_split_from_the_right(tmp_path):
    names = ["d 3 4", "'e'", "a, b 1.mp4", "c,2.mp4", '"e".mp4', 'f\'s "g".mp4', "ü  ñ.mp4"]
    touch(tmp_path, *(x for x in names if x.endswith(".mp4")))
    frames(tmp_path / "d 3 4")
    frames(tmp_path / "'e'")
    expected = {"train": {x: str(i % 2) for i, x in enumerate(names)}}
    for separator in " ", ",":
        text = "".join(f"{x}{separator}{i % 2}\n" for i, x in enumerate(names))
        assert read(write(tmp_path / "all.txt", text)) == expected


def test_quotes_in_a_quoted_path_are_doubled(tmp_path):
    touch(tmp_path, 'a "b".mp4', "2.mp4")
    write(tmp_path / "train.txt", '"a ""b"".mp4" 0\n"2.mp4" 1\n')
    assert read(tmp_path) == {"train": {'a "b".mp4': "0", "2.mp4": "1"}}


def test_paths_of_a_list_are_relative_to_the_videos_or_absolute(tmp_path):
    touch(tmp_path / "videos", "1.mp4", "2.mp4")
    touch(tmp_path, "3.mp4")
    lists = write(tmp_path / "lists/train.txt", f"1.mp4 0\n{tmp_path}/videos/2.mp4 1\n{tmp_path}/3.mp4 0")
    found = {"1.mp4": "0", "2.mp4": "1", f"{tmp_path}/3.mp4": "0"}
    assert read(lists.parent, videos=tmp_path / "videos") == {"train": found}
    paths = [x.path for x in read_data(lists, videos=tmp_path / "videos").splits["train"]]
    assert paths == [f"{tmp_path}/videos/1.mp4", f"{tmp_path}/videos/2.mp4", f"{tmp_path}/3.mp4"]


def test_integer_labels_are_classes_in_numeric_order(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    write(tmp_path / "train.txt", "1.mp4 10\n2.mp4 2\n3.mp4 999999999999999999999")
    assert read_data(tmp_path).classes == ("2", "10", "999999999999999999999")


@pytest.mark.parametrize(
    "name", ["classInd.txt", "classes.txt", "labels.txt", "label_map.txt", "class_names.txt"]
)
@pytest.mark.parametrize(
    ("names", "label"),
    [
        ("run\nwalk fast\nsit\n", 1),
        ("1 run\r\n2 walk fast\r\n3 sit\r\n", 2),
        ("9,sit\n5,walk fast\n1,run", 5),
        ("9 sit\n5 walk fast\n1 run", 5),
        ("001\trun\n002\twalk fast\n003\tsit", 2),
        ("1. run\n2. walk fast\n3. sit", 2),
        ("1) run\n2) walk fast\n3) sit", 2),
        ("2: sit\n0: run\n1: walk fast", 1),
    ],
)
def test_class_file_names_the_numbers(tmp_path, name, names, label):
    touch(tmp_path, "1.mp4")
    write(tmp_path / name, names)
    write(tmp_path / "train.txt", f"1.mp4 {label}")
    assert read(tmp_path) == {"train": {"1.mp4": "walk fast"}}
    assert read_data(tmp_path).classes == ("run", "walk fast", "sit")


def test_class_names_may_begin_with_numbers(tmp_path):
    touch(tmp_path, "1.mp4")
    write(tmp_path / "classes.txt", "archery\n3 point shot\n")
    write(tmp_path / "train.txt", "1.mp4 1")
    assert read(tmp_path) == {"train": {"1.mp4": "3 point shot"}}


def test_class_names_that_are_numbers_are_names(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "classes.txt", "3\n2\n1\n")
    write(tmp_path / "train.txt", "1.mp4 1\n2.mp4 2\n")
    assert read(tmp_path) == {"train": {"1.mp4": "1", "2.mp4": "2"}}
    assert read_data(tmp_path).classes == ("3", "2", "1")


@pytest.mark.parametrize("order", [None, ("walk", "jump")])
def test_labels_of_a_list_may_be_text(tmp_path, order):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "train.txt", "1.mp4 walk\n2.mp4 jump\n")
    if order:
        write(tmp_path / "classes.txt", "\n".join(order))
    assert read(tmp_path) == {"train": {"1.mp4": "walk", "2.mp4": "jump"}}
    assert read_data(tmp_path).classes == (order or ("jump", "walk"))


def test_label_minus_one_or_none_is_unlabelled(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3 4.mp4", "5.mp4")
    write(tmp_path / "train.txt", "1.mp4 0\n2.mp4 1\n5.mp4 -1")
    write(tmp_path / "test.txt", "3 4.mp4\n5.mp4\n")
    data = read_data(tmp_path)
    assert data.unlabelled == {"train": ["5.mp4"], "test": ["3 4.mp4", "5.mp4"]}
    assert read(tmp_path) == {"train": {"1.mp4": "0", "2.mp4": "1"}}


def test_lines_of_three_fields_are_path_frames_label(tmp_path):
    frames(tmp_path / "a/clip 1")
    frames(tmp_path / "b,2")
    write(tmp_path / "train.txt", "a/clip 1 2 0\nb,2 2 1\n")
    assert read(tmp_path) == {"train": {"a/clip 1": "0", "b,2": "1"}}


def test_frames_zero_label_minus_one_is_an_unlabelled_video(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3 4.mp4")
    write(tmp_path / "train.csv", "1.mp4 0 1\n2.mp4 0 0\n3 4.mp4 0 -1\n")
    assert read_data(tmp_path).unlabelled == {"train": ["3 4.mp4"]}
    assert read(tmp_path) == {"train": {"1.mp4": "1", "2.mp4": "0"}}


@pytest.mark.parametrize("listed", [1, 3])
def test_another_number_of_frames_than_listed_is_a_problem(tmp_path, listed):
    frames(tmp_path / "a")
    frames(tmp_path / "b")
    file = write(tmp_path / "train.txt", f"a 2 0\nb {listed} 1\n")
    message = f"{file}:2: b has 2 frames, not {listed}"
    assert error_of(tmp_path) == message
    assert problems_of(tmp_path) == ({"train": {"a": "0", "b": "1"}}, [("file.truncated", message, "b")])


@pytest.mark.parametrize("suffix", ["txt", "csv", "lst", "list"])
def test_lists_are_named_after_splits(tmp_path, suffix):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    write(tmp_path / f"k400_train_list_videos.{suffix}", "1.mp4 0")
    write(tmp_path / f"valid.{suffix}", "2.mp4 1")
    write(tmp_path / f"testlist01.{suffix}", "3.mp4 1")
    assert read(tmp_path) == {"train": {"1.mp4": "0"}, "val": {"2.mp4": "1"}, "test": {"3.mp4": "1"}}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("test.txt", "test"),
        ("labels.txt", "train"),
        ("val_test.txt", "train"),
        ("validate", "val"),
        ("TestSet.csv", "test"),
    ],
)
def test_split_of_a_single_list_is_in_its_name_or_train(tmp_path, name, split):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "train.txt", "none.mp4 0")
    file = write(tmp_path / name, "1.mp4 0\n2.mp4 1")
    assert read(file) == {split: {"1.mp4": "0", "2.mp4": "1"}}


@pytest.mark.parametrize("pattern", ["ucf101_{}_split_{}_videos.txt", "{}_fold0{}.txt", "{}split{}.csv"])
def test_fold_selects_among_several_lists(tmp_path, pattern):
    for fold in 1, 2, 10:
        for split in "train", "val":
            touch(tmp_path, f"{split}{fold}.mp4", f"{split}{fold}b.mp4")
            text = f"{split}{fold}.mp4 0\n{split}{fold}b.mp4 1"
            write(tmp_path / pattern.format(split, fold), text)
    for fold in 1, 2, 10:
        expected = {x: {f"{x}{fold}.mp4": "0", f"{x}{fold}b.mp4": "1"} for x in ("train", "val")}
        assert read(tmp_path, fold=fold) == expected
    assert error_of(tmp_path, fold=3) == f"{tmp_path}: no list of train for fold 3"


def test_list_of_another_fold_does_not_replace_the_first(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "train_split_2.txt", "1.mp4 0\n2.mp4 1")
    assert error_of(tmp_path) == f"{tmp_path}: no list of train for fold 1"
    assert read(tmp_path, fold=2) == {"train": {"1.mp4": "0", "2.mp4": "1"}}


def test_ambiguous_lists_are_an_error(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    for name in "train_a.txt", "train_b.txt":
        write(tmp_path / name, "1.mp4 0\n2.mp4 1")
    assert error_of(tmp_path) == f"{tmp_path}: several lists of train: train_a.txt, train_b.txt; name one"
    (tmp_path / "train_b.txt").unlink()
    assert error_of(tmp_path, fold=2) == f"{tmp_path}: no fold in the names of the lists, such as split_2"


def test_list_that_cannot_be_read_is_an_error(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "train.txt", "1.mp4 0\n2.mp4 1")
    write(tmp_path / "test.txt", "to do\n2.mp4 1")
    expected = f"{tmp_path}/test.txt:1: not PATH LABEL or PATH,LABEL: 'to do'"
    assert error_of(tmp_path) == expected


def test_json_files_named_after_splits_are_no_lists(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "test.json")
    write(tmp_path / "train.txt", "1.mp4 0\n2.mp4 1")
    assert read(tmp_path) == {"train": {"1.mp4": "0", "2.mp4": "1"}}


def test_notes_that_end_in_a_number_are_no_list(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/1.mp4")
    write(tmp_path / "train_notes.txt", "stopped after epoch 5\n")
    assert read_data(tmp_path).origin["format"] == "folder"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.mp4 0\n2.mp4\n", "2: not PATH LABEL or PATH,LABEL: '2.mp4'"),
        ("1.mp4,0\n2.mp4 1\n", "2: not PATH LABEL or PATH,LABEL: '2.mp4 1'"),
        ("1.mp4,0\n\n,1\n", "3: not PATH LABEL or PATH,LABEL: ',1'"),
        ("1.mp4 0\n3.mp4 1\n", "2: no such video: 3.mp4"),
        ("1.mp4 0\n2.mp4 1\n./1.mp4 0\n", "3: 1.mp4 is listed before, in {file}:1"),
        (
            b"1.mp4 0\n2.mp4 1\n\n\xb5.mp4 1\n",
            "4: not UTF-8 text; save it as UTF-8 (in Excel as 'CSV UTF-8')",
        ),
        ("\ufeff \r\n", " the file is empty"),
    ],
)
def test_list_errors_name_file_and_line(tmp_path, text, words):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = write(tmp_path / "train.txt", text)
    assert error_of(file, format="list") == f"{file}:{words.format(file=file)}"


def test_a_number_without_a_name_is_an_error(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    names = write(tmp_path / "classInd.txt", "1 run\n2 walk")
    file = write(tmp_path / "train.txt", "1.mp4 0\n2.mp4 1")
    where = f"{names} (numbers 1 to 2)"
    assert error_of(tmp_path) == f"{file}:1: class 'number 0' is not in {where}"


def test_unknown_class_is_an_error_with_the_most_similar_name(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    names = write(tmp_path / "classes.txt", "walking\njumping")
    file = write(tmp_path / "train.txt", "1.mp4 walking\n2.mp4 jumpin")
    expected = f"{file}:2: class 'jumpin' is not in {names}; did you mean 'jumping'?"
    assert error_of(tmp_path) == expected


@pytest.mark.parametrize(
    "names",
    [
        ["100 metres", "200 metres", "400 metres"],  # each name without its number would come twice
        ["400 metres", "100 yards", "4 x 100 metres relay"],  # different names, but the labels are 0, 1, 2
        ["3 pointers", "3 steps", "3 throws"],  # each number comes twice
        ["1 January", "8 March", "25 December"],
        ["2024-05-01 parade", "2024-12-24 dinner", "2025-01-01 fireworks"],
        ["2024 parade", "2025 parade", "2026 parade"],
        ["1,500 metres", "3,000 metres", "10,000 metres"],
        ["12:30 lunch", "18:00 dinner", "23:15 snack"],
        ["001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross"],
        ["3.5 mile run", "6.2 mile run", "13.1 mile run"],
        ["Holding something", "2 things colliding", "Pushing something, slowly"],
    ],
)
def test_numbers_that_belong_to_class_names_stay_in_them(tmp_path, names):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    write(tmp_path / "classes.txt", "\n".join(names))
    write(tmp_path / "train.txt", "1.mp4 2\n2.mp4 0\n3.mp4 1\n")
    assert read_data(tmp_path).classes == tuple(names)
    assert read(tmp_path)["train"] == {"1.mp4": names[2], "2.mp4": names[0], "3.mp4": names[1]}
    write(tmp_path / "classes.txt", "\n".join(f"{i}\t{name}" for i, name in enumerate(names)))
    assert read_data(tmp_path).classes == tuple(names)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ("2 steps\n1 step\n3 jumps", ["1 step", "2 steps", "3 jumps"]),
        ("2 steps\n1 step\n3 jumps", ["step", "steps", "jumps"]),
        ("1 step\n2 steps\njump", ["1 step", "2 steps", "jump"]),
    ],
)
def test_text_labels_show_whether_numbers_belong_to_class_names(tmp_path, names, labels):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    write(tmp_path / "classes.txt", names)
    write(tmp_path / "train.txt", "".join(f"{i}.mp4,{label}\n" for i, label in enumerate(labels, 1)))
    assert read(tmp_path)["train"] == {f"{i}.mp4": label for i, label in enumerate(labels, 1)}


@pytest.mark.parametrize(
    ("names", "labels"), [("1 run\n2 walk\n5 sit", [1, 2]), ("0 run\n1 walk\n1 sit", [0, 1])]
)
def test_a_class_file_that_can_be_read_both_ways_is_an_error(tmp_path, names, labels):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = write(tmp_path / "classes.txt", names)
    write(tmp_path / "train.txt", "".join(f"{i}.mp4 {label}\n" for i, label in enumerate(labels, 1)))
    assert error_of(tmp_path) == (
        f"{file}: its numbers may be class numbers or the beginnings of names; "
        "write NUMBER NAME on each line, with the numbers 0 to 2"
    )


@pytest.mark.parametrize("names", ["1 run\n2 walk\nsit", "0 run\n1 walk\n2 jump\nsit", "run\n2 walk\n3 sit"])
def test_a_class_file_that_lacks_a_number_is_an_error(tmp_path, names):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = write(tmp_path / "classes.txt", names)
    write(tmp_path / "train.txt", "1.mp4 1\n2.mp4 2")
    line = next(i for i, x in enumerate(names.splitlines(), 1) if not x[0].isdecimal())
    assert error_of(tmp_path) == f"{file}:{line}: no class number, but most other lines have one"


def test_class_names_that_come_twice_are_an_error(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    file = tmp_path / "classes.txt"
    write(tmp_path / "train.txt", "1.mp4 0\n2.mp4 1")
    write(file, "a\nb\na")
    assert error_of(tmp_path) == f"{file}:3: class 'a' comes twice"
    write(file, "0,a\n0,b")
    assert error_of(tmp_path) == f"{file}:2: class number 0 comes twice: '0,b'"
    write(file, "1 a\n2 a")
    assert error_of(tmp_path) == (
        f"{file}:2: class 'a' comes twice, with the numbers 1 and 2; if these belong to the names, "
        "write NUMBER NAME on each line, with the numbers 0 to 1"
    )


def test_all_problems_can_be_collected(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    write(tmp_path / "classes.txt", "a\nb")
    lines = "1.mp4 a\n2.mp4 b\nnone.mp4 a\n1.mp4 b\n3.mp4 c\n2.mp4 b\n"
    file = write(tmp_path / "train.txt", lines)
    read_so_far, problems = problems_of(tmp_path)
    assert read_so_far == {"train": {"1.mp4": "a", "2.mp4": "b"}}
    first = f"{file}:1, with the class 'a': several labels of a video are not supported"
    assert problems == [
        ("file.missing", f"{file}:3: no such video: none.mp4", "none.mp4"),
        ("name.collision", f"{file}:4: 1.mp4 is listed before, in {first}", "1.mp4"),
        ("label.unknown", f"{file}:5: class 'c' is not in {tmp_path}/classes.txt", "3.mp4"),
        ("name.collision", f"{file}:6: 2.mp4 is listed before, in {file}:2", "2.mp4"),
    ]


# CSV files with a header.


@pytest.mark.parametrize(
    "path", ["path", "file_name", "video", "filename", "video_path", "Path", "FILE_NAME"]
)
@pytest.mark.parametrize("label", ["label", "class", "action", "class_name", "class_id", "label_id", "Label"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_of_a_csv_file_are_known_by_many_names(tmp_path, path, label, separator):
    touch(tmp_path, "a.mp4", "b, c; d.mp4")
    out = io.StringIO()
    rows = [["", path, "notes", label], [0, "a.mp4", "n", "1"], [1, "b, c; d.mp4", "", "2"]]
    csv.writer(out, delimiter=separator).writerows(rows)
    write(tmp_path / "data.csv", "\ufeff" + out.getvalue())
    assert read(tmp_path) == {"train": {"a.mp4": "1", "b, c; d.mp4": "2"}}


def test_blanks_around_fields_and_empty_rows_do_not_count(tmp_path):
    touch(tmp_path, "a, 1.mp4", "2.mp4")
    text = '\ufeffpath , label\n"a, 1.mp4", "b, c"\n,\n 2.mp4 , d \n'
    write(tmp_path / "data.csv", text)
    assert read(tmp_path) == {"train": {"a, 1.mp4": "b, c", "2.mp4": "d"}}


def test_empty_last_fields_of_a_table_with_tabs_count(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    write(tmp_path / "data.tsv", "path\tlabel\tnote\n1.mp4\ta\t\n2.mp4\tb\tx\n3.mp4\t\t\n\t\t\n")
    data = read_data(tmp_path)
    assert read(tmp_path) == {"train": {"1.mp4": "a", "2.mp4": "b"}}
    assert data.unlabelled == {"train": ["3.mp4"]}


@pytest.mark.parametrize("column", ["split", "subset", "set", "partition", "Split"])
def test_split_column(tmp_path, column):
    words = ["train", "Training", "val", "valid", "VALIDATION", "validate", "dev", "test", "Testing", ""]
    splits = ["train"] * 2 + ["val"] * 5 + ["test"] * 2 + ["test"]  # the last one by the file's name
    touch(tmp_path, *(f"{i}.mp4" for i in range(len(words))))
    rows = [f"{i}.mp4,{i % 2},{word}" for i, word in enumerate(words)]
    write(tmp_path / "test.csv", "\n".join([f"path,label,{column}", *rows]))
    found = read(tmp_path)
    assert {f"{i}.mp4": x for i, x in enumerate(splits)} == {
        name: split for split, names in found.items() for name in names
    }


def test_file_name_decides_the_split_before_the_folder(tmp_path):
    touch(tmp_path, "train/1.mp4", "test/2.mp4")
    text = "path,label\ntrain/1.mp4,a\ntest\\2.mp4,b\n"
    file = write(tmp_path / "metadata.csv", text)
    assert read(tmp_path) == {"train": {"train/1.mp4": "a"}, "test": {"test/2.mp4": "b"}}
    file.rename(tmp_path / "val.csv")
    assert read(tmp_path) == {"val": {"train/1.mp4": "a", "test/2.mp4": "b"}}


def test_all_or_none_of_several_csv_files_are_named_after_splits(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    for name, i in ("train.csv", 1), ("test.csv", 2):
        write(tmp_path / name, f"path,label\n{i}.mp4,{i}\n")
    assert read(tmp_path) == {"train": {"1.mp4": "1"}, "test": {"2.mp4": "2"}}
    (tmp_path / "test.csv").rename(tmp_path / "rest.csv")
    words = "no split in its name, as in train.csv, nor a column split"
    assert error_of(tmp_path) == f"{tmp_path}/rest.csv: {words}"
    write(tmp_path / "rest.csv", "path,label,split\n2.mp4,2,val")
    assert read(tmp_path) == {"train": {"1.mp4": "1"}, "val": {"2.mp4": "2"}}
    write(tmp_path / "test.csv", "2.mp4,2\n")
    assert error_of(tmp_path) == f"{tmp_path}/test.csv:1: not a header like that of train.csv"


def test_parts_of_a_video_are_samples(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    rows = ["1.mp4,0,1.5,a", "1.mp4,1.5,,b", "2.mp4,,,a", "2.mp4,,2,b", "2.mp4,100000.25,100000.5,b"]
    write(tmp_path / "train.csv", "\n".join(["path,start,end,label", *rows]))
    data = read_data(tmp_path)
    assert [(x.name, x.start, x.end) for x in data.splits["train"]] == [
        ("1.mp4#t=0,1.5", 0.0, 1.5),
        ("1.mp4#t=1.5", 1.5, None),
        ("2.mp4", None, None),
        ("2.mp4#t=0,2", None, 2.0),
        ("2.mp4#t=100000.25,100000.5", 100000.25, 100000.5),
    ]
    assert {x.path for x in data.splits["train"]} == {f"{tmp_path}/1.mp4", f"{tmp_path}/2.mp4"}
    assert {x.base_name for x in data.splits["train"]} == {"1", "2"}


@pytest.mark.parametrize(("start", "end"), [("start_time", "end_time"), ("time_start", "time_end")])
def test_columns_of_times_are_known_by_many_names(tmp_path, start, end):
    touch(tmp_path, "1.mp4")
    write(tmp_path / "train.csv", f"path,{start},{end},label\n1.mp4,1,2,a\n1.mp4,2,3,b")
    assert list(read(tmp_path)["train"]) == ["1.mp4#t=1,2", "1.mp4#t=2,3"]


def test_class_numbers_beside_names_give_the_order_of_classes(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4", "4.mp4")
    text = "path,label,class_id\n1.mp4,run,10\n2.mp4,walk,2\n3.mp4,,2\n4.mp4,run,\n"
    write(tmp_path / "train.csv", text)
    assert read_data(tmp_path).classes == ("walk", "run")
    assert read(tmp_path)["train"] == {"1.mp4": "run", "2.mp4": "walk", "3.mp4": "walk", "4.mp4": "run"}


def test_class_names_take_precedence_over_numeric_labels(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "train.csv", "path,label,class_name\n1.mp4,1,run\n2.mp4,0,walk\n")
    assert read(tmp_path) == {"train": {"1.mp4": "run", "2.mp4": "walk"}}


def test_class_numbers_alone_are_named_by_a_file(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "train.csv", "path,class_id\n1.mp4,1\n2.mp4,0\n")
    assert read(tmp_path) == {"train": {"1.mp4": "1", "2.mp4": "0"}}
    write(tmp_path / "classes.txt", "run\nwalk")
    assert read(tmp_path) == {"train": {"1.mp4": "walk", "2.mp4": "run"}}


def test_a_column_of_groups(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "train.csv", "path,label,group\n1.mp4,a,anna\n2.mp4,b,\n")
    assert [x.group for x in read_data(tmp_path).splits["train"]] == ["anna", None]


def test_folders_of_frames_are_videos_of_a_csv_file(tmp_path):
    frames(tmp_path / "a/1")
    frames(tmp_path / "b/1")
    write(tmp_path / "train.csv", "path,label\na/1,a\nb/1,b\n")
    assert read(tmp_path) == {"train": {"a/1": "a", "b/1": "b"}}


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("path,label", "2.mp4,b,c", "3: 3 fields, the header has 2"),
        ("path,label", '"2.mp4,b', "3: not a line of a CSV file: unexpected end of data"),
        ("path,label", ",b", "3: the path is empty"),
        ("path,label", "3.mp4,b", "3: no such video: 3.mp4"),
        ("path,label", "1.mp4,a", "3: 1.mp4 is listed before, in {file}:2"),
        (
            "path,label,split",
            "2.mp4,b,holdout",
            "3: split 'holdout'; expected one of train, training, val, valid, validation, validate, "
            "dev, test, testing, publictest, privatetest",
        ),
        ("path,label,start", "2.mp4,b,0:75", "3: start '0:75' is not a time in seconds"),
        ("path,label,start", "2.mp4,b,-1", "3: start '-1' is not a time in seconds"),
        ("path,label,end", "2.mp4,b,nan", "3: end 'nan' is not a time in seconds"),
        ("path,label,end", "2.mp4,b,inf", "3: end 'inf' is not a time in seconds"),
        ("path,label,start,end", "2.mp4,b,3,3", "3: end 3 is not after start 3"),
        ("path,label,class_id", "2.mp4,b,x", "3: class number 'x' is not a whole number"),
        ("path,label,class_id", "2.mp4,a,2", "3: class 'a' is number 2 here and 1 before"),
        ("path,label,class_id", "2.mp4,b,1", "3: number 1 is class 'b' here and 'a' before"),
        ("path,label,class_id", "2.mp4,b,", "3: class 'b' is not in the classes with a number"),
        ("path,label,Label", "2.mp4,b,b", "1: the column label comes twice"),
    ],
)
def test_csv_errors_name_file_and_line(tmp_path, header, row, words):
    touch(tmp_path, "1.mp4", "2.mp4")
    good = {"split": "train", "start": "1", "end": "2", "class_id": "1", "label": "a", "path": "1.mp4"}
    first = ",".join(good[x.lower()] for x in header.split(","))
    file = write(tmp_path / "train.csv", f"{header}\n{first}\n{row}\n")
    assert error_of(tmp_path) == f"{file}:{words.format(file=file)}"


def test_a_csv_file_that_is_not_utf8_is_an_error_with_its_line(tmp_path):
    file = write(tmp_path / "train.csv", b"path,label\n1.mp4,a\n\xfc.mp4,b\n")
    assert error_of(tmp_path) == f"{file}:3: not UTF-8 text; save it as UTF-8 (in Excel as 'CSV UTF-8')"
