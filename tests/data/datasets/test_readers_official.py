"""The official annotation of UCF101, HMDB51, Something-Something V2, Kinetics and Breakfast."""

import json
import os

import pytest
from test_datasets import error_of, frames, problems_of, read, touch, write

from videossp.data.datasets import hold_out, read_data

# UCF101.

CLASSES = "1 ApplyEyeMakeup\r\n13 Bowling\r\n37 HandstandPushups\r\n"
HANDSTAND = "v_HandStandPushups_g01_c01.avi"  # in the folder HandstandPushups


def ucf101(root, lists="", fold=1):
    """The annotation of three classes."""
    write(root / lists / "classInd.txt", CLASSES)
    train = "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nBowling/v_Bowling_g09_c02.avi 13\r\n"
    write(root / lists / f"trainlist0{fold}.txt", train)
    write(root / lists / f"testlist0{fold}.txt", f"HandstandPushups/{HANDSTAND}\r\n")


UCF101_VIDEOS = (
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi",
    "Bowling/v_Bowling_g09_c02.avi",
    f"HandstandPushups/{HANDSTAND}",
)


@pytest.mark.parametrize("lists", ["", "ucfTrainTestlist"])
@pytest.mark.parametrize("videos", ["UCF-101/{}/{}", "{}/{}", "UCF-101/{1}", "all/of/it/{}/{}"])
def test_ucf101_videos_and_lists_may_be_in_any_folder(tmp_path, lists, videos):
    ucf101(tmp_path, lists)
    names = [videos.format(*x.split("/")) for x in UCF101_VIDEOS]
    touch(tmp_path, *names)
    assert read(tmp_path) == {
        "train": {names[0]: "ApplyEyeMakeup", names[1]: "Bowling"},
        "test": {names[2]: "HandstandPushups"},
    }
    data = read_data(tmp_path)
    assert data.classes == ("ApplyEyeMakeup", "Bowling", "HandstandPushups")
    assert data.splits["test"][0].path == str(tmp_path / names[2])


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("HandStandPushups", HANDSTAND),
        ("HandstandPushups", HANDSTAND.lower()),
        ("handstand_pushups", "v_HandstandPushups_g01_c01.AVI"),
    ],
)
def test_ucf101_class_folders_that_differ_in_case_are_found(tmp_path, folder, name):
    ucf101(tmp_path)
    touch(tmp_path, *UCF101_VIDEOS[:2], f"{folder}/{name}")
    assert read(tmp_path)["test"] == {f"{folder}/{name}": "HandstandPushups"}


def test_ucf101_lists_whose_folder_differs_in_case_are_read(tmp_path):
    ucf101(tmp_path)
    touch(tmp_path, *UCF101_VIDEOS)
    write(tmp_path / "testlist01.txt", f"HandStandPushups\\{HANDSTAND} 37")
    assert read(tmp_path)["test"] == {f"HandstandPushups/{HANDSTAND}": "HandstandPushups"}


def test_ucf101_videos_may_be_frames_or_have_other_suffixes(tmp_path):
    ucf101(tmp_path)
    touch(tmp_path, "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.mp4", f"HandstandPushups/{HANDSTAND}")
    frames(tmp_path / "Bowling/v_Bowling_g09_c02")
    assert list(read(tmp_path)["train"]) == [
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.mp4",
        "Bowling/v_Bowling_g09_c02",
    ]


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_ucf101_has_three_folds(tmp_path, fold):
    for other in {1, 2, 3} - {fold}:
        for stem in "train", "test":
            write(tmp_path / f"{stem}list0{other}.txt", "Bowling/none.avi")
    ucf101(tmp_path, fold=fold)
    touch(tmp_path, *UCF101_VIDEOS)
    assert [*read(tmp_path, fold=fold)["test"]] == [f"HandstandPushups/{HANDSTAND}"]
    assert error_of(tmp_path, fold=4) == f"{tmp_path}: no trainlist04.txt; --fold is 1, 2 or 3"


def test_ucf101_clips_of_one_source_are_held_out_together(tmp_path):
    names = [f"{c}/v_{c}_g{g:02}_c{i:02}.avi" for c in ("A", "B") for g in range(5) for i in range(4)]
    write(tmp_path / "classInd.txt", "1 A\n2 B")
    write(tmp_path / "trainlist01.txt", "".join(f"{x} {'AB'.index(x[0]) + 1}\n" for x in names[:-1]))
    write(tmp_path / "testlist01.txt", names[-1])
    touch(tmp_path, *names)
    training = read_data(tmp_path).splits["train"]
    assert training[6].group == "A/g01"
    kept, off = hold_out(training, 0.25, seed=0)
    assert not {x.group for x in kept} & {x.group for x in off}
    assert {x.group[0] for x in off} == {"A", "B"}


def test_hmdb51_videos_of_one_film_are_held_out_together(tmp_path):
    names = {
        c: [f"Film_{s}_{c}_u_nm_np1_fr_med_{i}.avi" for s in range(5) for i in range(4)]
        for c in ("run", "sit_up")
    }
    for label, videos in names.items():
        lines = [f"{x} {2 if i == 19 else 1}" for i, x in enumerate(videos)]
        write(tmp_path / f"{label}_test_split1.txt", "\n".join(lines))
        touch(tmp_path, *(f"{label}/{x}" for x in videos))
    training = read_data(tmp_path).splits["train"]
    assert {x.group for x in training} == {f"{c}/Film_{s}" for c in names for s in range(5)}
    kept, off = hold_out(training, 0.25)
    assert off and not {x.group for x in kept} & {x.group for x in off}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Bowling 13", "not CLASS/VIDEO or CLASS/VIDEO NUMBER: 'Bowling 13'"),
        ("Bowling/v_Bowling_g01_c01.avi 13", "no such video: Bowling/v_Bowling_g01_c01.avi"),
        (
            "Bowling/v_Bowling_g09_c02.avi 1",
            "Bowling/v_Bowling_g09_c02.avi has number 1, which is ApplyEyeMakeup in {}",
        ),
        (
            "Bowling/v_Bowling_g09_c02.avi 2",
            "Bowling/v_Bowling_g09_c02.avi has number 2, which is no class in {}",
        ),
        ("Bowlin/v_Bowling_g09_c02.avi", "class 'Bowlin' is not in {}; did you mean 'Bowling'?"),
        (
            "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi",
            "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi is listed before, in {file}:1",
        ),
    ],
)
def test_ucf101_list_errors_name_file_and_line(tmp_path, line, words):
    ucf101(tmp_path)
    touch(tmp_path, *UCF101_VIDEOS)
    file = tmp_path / "trainlist01.txt"
    write(file, f"ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n{line}\n")
    words = words.format(tmp_path / "classInd.txt", file=file)
    assert error_of(tmp_path) == f"{file}:2: {words}"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Bowling", "not NUMBER CLASS: 'Bowling'"),
        ("13 Diving", "class number 13 comes twice: '13 Diving'"),
    ],
)
def test_ucf101_classes_need_distinct_numbers(tmp_path, line, words):
    ucf101(tmp_path)
    write(tmp_path / "classInd.txt", f"{CLASSES}{line}\r\n")
    assert error_of(tmp_path) == f"{tmp_path}/classInd.txt:4: {words}"


def test_ucf101_class_names_may_begin_with_numbers(tmp_path):
    names = ["100 metres", "metres", "3 steps"]
    write(
        tmp_path / "classInd.txt", "".join(f"{i} {name}\n" for i, name in zip((7, 9, 30), names, strict=True))
    )
    write(tmp_path / "trainlist01.txt", "".join(f"{name}/{i}.avi\n" for i, name in enumerate(names)))
    write(tmp_path / "testlist01.txt", "metres/3.avi")
    touch(tmp_path, *(f"{name}/{i}.avi" for i, name in enumerate(names)), "metres/3.avi")
    assert read_data(tmp_path).classes == tuple(names)


def test_a_video_in_the_folder_of_another_class_is_not_taken(tmp_path):
    ucf101(tmp_path)
    touch(tmp_path, *UCF101_VIDEOS[:2], f"Bowling/{HANDSTAND}")
    words = f"no such video: HandstandPushups/{HANDSTAND}"
    assert error_of(tmp_path) == f"{tmp_path}/testlist01.txt:1: {words}"


def test_two_videos_of_one_name_are_an_error(tmp_path):
    ucf101(tmp_path)
    touch(tmp_path, *UCF101_VIDEOS, f"copy/HandstandPushups/{HANDSTAND}")
    first, second = f"HandstandPushups/{HANDSTAND}", f"copy/HandstandPushups/{HANDSTAND}"
    both = f"{tmp_path}/{first}, {tmp_path}/{second}"
    message = f"{tmp_path}/testlist01.txt:1: {first} may be one of several videos: {both}"
    assert error_of(tmp_path) == message
    assert problems_of(tmp_path)[1] == [("name.collision", message, first)]
    assert read(tmp_path, videos=tmp_path / "copy", report_problem=lambda *x: None)["test"] == {
        f"HandstandPushups/{HANDSTAND}": "HandstandPushups"
    }


def test_links_to_one_video_and_links_in_a_loop_are_one_video(tmp_path):
    ucf101(tmp_path)
    touch(tmp_path, *UCF101_VIDEOS)
    (tmp_path / "Bowling/all").symlink_to(tmp_path)
    (tmp_path / "z").symlink_to(tmp_path / "Bowling")
    os.makedirs(tmp_path / "linked/HandstandPushups")
    (tmp_path / "linked/HandstandPushups" / HANDSTAND).symlink_to(tmp_path / UCF101_VIDEOS[2])
    assert [name for names in read(tmp_path).values() for name in names] == list(UCF101_VIDEOS)


def test_a_folder_that_cannot_be_searched_is_an_error(tmp_path, monkeypatch):
    ucf101(tmp_path)
    touch(tmp_path, *(f"UCF-101/{x}" for x in UCF101_VIDEOS), "lost+found/1.avi")
    scandir = os.scandir

    def guarded(path):
        if os.path.basename(path) in ("Bowling", "lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert error_of(tmp_path) == f"{tmp_path}/UCF-101/Bowling: cannot be read: Permission denied"


def test_annotation_in_two_folders_is_an_error(tmp_path):
    for lists in "a", "b":
        ucf101(tmp_path, lists)
    folders = f"{tmp_path}/a, {tmp_path}/b"
    assert error_of(tmp_path) == f"{tmp_path}: classInd.txt is in several folders: {folders}"


# HMDB51.

SPECIAL_NAME = "#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi"
OTHER_SPECIAL_NAME = "Crash!_(a&b;c)_clap_u_nm.avi"


@pytest.mark.parametrize("lists", ["", "testTrainMulti_7030_splits"])
@pytest.mark.parametrize("videos", ["{}/{}", "hmdb51_org/{}/{}", "{1}"])
def test_hmdb51_codes_are_train_test_and_neither(tmp_path, lists, videos):
    write(
        tmp_path / lists / "clap_test_split1.txt",
        f"{SPECIAL_NAME} 1 \n{OTHER_SPECIAL_NAME} 2 \nclap.avi 0 \n",
    )
    write(tmp_path / lists / "clap_hands_test_split1.txt", "x.avi 2 \r\ny.avi 1 \r\n")
    names = [
        videos.format(*x)
        for x in (("clap", SPECIAL_NAME), ("clap", OTHER_SPECIAL_NAME), ("clap_hands", "x.avi"))
    ]
    last = videos.format("clap_hands", "y.avi")
    touch(tmp_path, *names, last, "clap/clap.avi")
    assert read(tmp_path) == {
        "train": {names[0]: "clap", last: "clap_hands"},
        "test": {names[1]: "clap", names[2]: "clap_hands"},
    }
    assert read_data(tmp_path).classes == ("clap", "clap_hands")


def test_hmdb51_has_three_folds(tmp_path):
    for fold in 1, 2, 3:
        for label in "run", "sit":
            codes = [f"{i}.avi {1 if i == fold else 2 if i < 4 else 0} " for i in (1, 2, 3, 4)]
            write(tmp_path / f"{label}_test_split{fold}.txt", "\n".join(codes))
            touch(tmp_path, *(f"{label}/{i}.avi" for i in (1, 2, 3, 4)))
    for fold in 1, 2, 3:
        found = read(tmp_path, fold=fold)
        assert found["train"] == {f"run/{fold}.avi": "run", f"sit/{fold}.avi": "sit"}
        assert len(found["test"]) == 4
    assert error_of(tmp_path, fold=0) == f"{tmp_path}: no CLASS_test_split0.txt; --fold is 1, 2 or 3"
    (tmp_path / "run_test_split2.txt").unlink()
    assert error_of(tmp_path, fold=2) == f"{tmp_path}: no run_test_split2.txt"


@pytest.mark.parametrize("line", ["1.avi", "1.avi 3", "1.avi 1 2 3"])
def test_hmdb51_list_errors_name_file_and_line(tmp_path, line):
    file = write(tmp_path / "run_test_split1.txt", f"1.avi 1\n\n{line}\n")
    write(tmp_path / "sit_test_split1.txt", "2.avi 1")
    touch(tmp_path, "run/1.avi", "sit/2.avi")
    assert error_of(tmp_path) == f"{file}:3: not VIDEO CODE with code 0, 1 or 2: {line!r}"


def test_hmdb51_class_folders_distinguish_equal_names(tmp_path):
    write(tmp_path / "run_test_split1.txt", "1.avi 1")
    write(tmp_path / "sit_test_split1.txt", "1.avi 1")
    touch(tmp_path, "run/1.avi", "sit/1.avi")
    assert read(tmp_path) == {"train": {"run/1.avi": "run", "sit/1.avi": "sit"}}
    (tmp_path / "sit/1.avi").unlink()
    assert error_of(tmp_path) == f"{tmp_path}/sit_test_split1.txt:1: no such video: sit/1.avi"


def test_best_matching_name_is_taken(tmp_path):
    write(tmp_path / "run_test_split1.txt", "a.avi 1\nB.avi 1\nc.AVI 1")
    write(tmp_path / "sit_test_split1.txt", "d.avi 1")
    near = ["run/a.avi", "run/B.avi", "run/C.avi", "sit/d.avi"]
    touch(tmp_path, *near, "run/a.mp4", "run/A.avi", "run/b.avi", "run/B.mp4", "run/c.mp4")
    assert [*read(tmp_path)["train"]] == near


def test_one_list_with_the_name_of_a_split_file_is_no_hmdb51(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "ucf101_test_split1.txt", "1.mp4 1\n2.mp4 2\n")
    assert read(tmp_path) == {"test": {"1.mp4": "1", "2.mp4": "2"}}


# Something-Something V2.


def ssv2(root, release="something-something-v2-", ids=str):
    """The annotation of three classes whose alphabetic order is not their numeric order."""
    names = ["Moving something up", "Approaching something with your camera", "Holding something"]
    items = {
        "train": [(78687, "Holding [something]"), (42, "Moving [something] [up]")],
        "validation": [(74225, "Approaching [something] with your camera")],
        "test": [(1420, None), (3, None)],
    }
    write(
        root / f"{release}labels.json", json.dumps({x: str(i) for i, x in enumerate(names)}, sort_keys=True)
    )
    for stem, members in items.items():
        made = [
            {"id": ids(i)}
            | ({"label": "holding a cup", "template": x, "placeholders": ["a cup"]} if x else {})
            for i, x in members
        ]
        write(root / f"{release}{stem}.json", json.dumps(made))


SSV2_IDS = ("78687", "42", "74225", "1420", "3")


@pytest.mark.parametrize("release", ["something-something-v2-", ""])
@pytest.mark.parametrize("lists", ["", "labels"])
@pytest.mark.parametrize("videos", ["", "20bn-something-something-v2/"])
@pytest.mark.parametrize("ids", [str, int])
def test_ssv2_is_read_in_both_releases(tmp_path, release, lists, videos, ids):
    ssv2(tmp_path / lists, release, ids)
    touch(tmp_path, *(f"{videos}{x}.webm" for x in SSV2_IDS))
    data = read_data(tmp_path)
    assert read(tmp_path) == {
        "train": {f"{videos}78687.webm": "Holding something", f"{videos}42.webm": "Moving something up"},
        "val": {f"{videos}74225.webm": "Approaching something with your camera"},
    }
    assert data.classes[2] == "Holding something" and data.splits["train"][0].label == 2
    assert data.unlabelled == {"test": [f"{videos}1420.webm", f"{videos}3.webm"]}


def test_ssv2_may_be_folders_of_frames(tmp_path):
    ssv2(tmp_path / "labels")
    for x in SSV2_IDS:
        frames(tmp_path / "frames" / x, "{:06}.jpg")
    assert read(tmp_path)["val"] == {"frames/74225": "Approaching something with your camera"}


def test_ssv2_test_answers_are_labels(tmp_path):
    ssv2(tmp_path, "")
    touch(tmp_path, *(f"{x}.webm" for x in SSV2_IDS))
    write(tmp_path / "test-answers.csv", "3;Holding something\n1420;Moving something up\n")
    assert read(tmp_path)["test"] == {"1420.webm": "Moving something up", "3.webm": "Holding something"}
    assert read_data(tmp_path).unlabelled == {}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("train.json", '[{"id": "42",\n"x": "y"\n "z": 1}]', ":3: not JSON: Expecting ',' delimiter"),
        ("train.json", "[" * 100_000, ": not JSON that can be read: "),
        ("train.json", '[{"id": ' + "9" * 5000 + "}]", ": not JSON that can be read: "),
        ("train.json", '{"id": "42"}', ': expected a list of {"id": ..., "template": ...}'),
        ("train.json", '["42"]', ': expected a list of {"id": ..., "template": ...}'),
        ("train.json", '[{"id": 42}]', ": item 1 (id 42): the item has no template"),
        (
            "train.json",
            '[{"id": "5", "template": "Holding [something]"}]',
            ": item 1 (id 5): no such video: 5.webm",
        ),
        (
            "train.json",
            '[{"id": 42, "template": "Holding something"}, {"id": "42", "template": "Holding something"}]',
            ": item 2 (id 42): 42.webm is listed before, in {root}/train.json: item 1 (id 42)",
        ),
        (
            "train.json",
            '[{"id": 42, "template": "Holding [anything]"}]',
            ": item 1 (id 42): class 'Holding anything' is not in {root}/labels.json; "
            "did you mean 'Holding something'?",
        ),
        ("labels.json", '["Holding something"]', ': expected {"template": "number", ...}'),
        ("labels.json", '{"Holding something": "first"}', ': expected {"template": "number", ...}'),
        ("labels.json", '{"Holding something": 1e999}', ': expected {"template": "number", ...}'),
        ("labels.json", '{"a": "0", "b": 0}', ": 2 classes, but 1 numbers"),
        ("test-answers.csv", "3;Holding something\n1420,x", ":2: not ID;CLASS: '1420,x'"),
        ("test-answers.csv", "3;Holding something\n3;x", ":2: 3 has another class before"),
        ("validation.json", b"[\n\xff]", ":2: not UTF-8 text; save it as UTF-8"),
    ],
)
def test_ssv2_errors_name_the_file_and_item(tmp_path, name, text, words):
    ssv2(tmp_path, "")
    touch(tmp_path, *(f"{x}.webm" for x in SSV2_IDS))
    write(tmp_path / name, text)
    assert error_of(tmp_path).startswith(f"{tmp_path}/{name}{words.replace('{root}', str(tmp_path))}")


# Kinetics.

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"


@pytest.mark.parametrize(
    "folder", ["", "{}/", "train/{}/", "riding_a_bike/", "Riding a Bike/", "videos/riding a bike/"]
)
def test_kinetics_videos_may_be_in_any_class_folder(tmp_path, folder):
    folder = folder.format("riding a bike")
    touch(tmp_path, f"{folder}-_aBc123456_000003_000013.mp4", "yodelling/xyz_000120_000130.mkv")
    write(tmp_path / "train.csv", f"{HEADER}riding a bike,-_aBc123456,3,13,train,0\n")
    write(tmp_path / "val.csv", f'{HEADER}"yodelling",xyz,120,130,validate,1\n')
    assert read(tmp_path) == {
        "train": {f"{folder}-_aBc123456_000003_000013.mp4": "riding a bike"},
        "val": {"yodelling/xyz_000120_000130.mkv": "yodelling"},
    }
    assert [x.group for _, x in read_data(tmp_path).all_samples()] == ["-_aBc123456", "xyz"]


def test_kinetics_lists_missing_videos(tmp_path):
    touch(tmp_path, "a_000000_000010.mp4", "b_000000_000010.mp4", "C_000000_000010.mp4")
    rows = [
        "x,a,0,10,train,0",
        "y,b,0,10,train,0",
        "y,c,0,10,train,0",
        "z,d,5.0,15.0,train,0",
        "z,d,5,15,train,0",
    ]
    file = write(tmp_path / "train.csv", HEADER + "\n".join(rows))
    data = read_data(file)
    assert data.missing == ("c_000000_000010.mp4", "d_000005_000015.mp4")
    assert read(file) == {"train": {"a_000000_000010.mp4": "x", "b_000000_000010.mp4": "y"}}
    write(file, HEADER + "z,d,5,15,train,0")
    assert error_of(file) == f"{file}: none of its 1 videos is in {tmp_path}"


def test_kinetics_test_videos_may_have_no_label(tmp_path):
    touch(tmp_path, *(f"{x}_000000_000010.mp4" for x in "abc"))
    write(tmp_path / "annotations/kinetics_train.csv", f"{HEADER}x,a,0,10,train,0\ny,b,0,10,train,0")
    write(tmp_path / "annotations/kinetics_test.csv", "youtube_id,time_start,time_end,split\nc,0,10,test")
    assert read(tmp_path) == {"train": {"a_000000_000010.mp4": "x", "b_000000_000010.mp4": "y"}}
    assert read_data(tmp_path).unlabelled == {"test": ["c_000000_000010.mp4"]}


def test_kinetics_split_is_in_the_file_name_without_a_split_column(tmp_path):
    touch(tmp_path, *(f"{x}_000000_000010.mp4" for x in "ab"))
    for name, row in ("k400_train.csv", "x,a,0,10"), ("k400_validate.csv", "y,b,0,10"):
        write(tmp_path / name, f"label,youtube_id,time_start,time_end\n{row}")
    assert read(tmp_path) == {"train": {"a_000000_000010.mp4": "x"}, "val": {"b_000000_000010.mp4": "y"}}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("x,a,0,ten,train,0", "time_end 'ten' is not a time in seconds"),
        ("x,a,inf,10,train,0", "time_start 'inf' is not a time in seconds"),
        ("x,a,,10,train,0", "youtube_id, time_start or time_end is empty"),
        ("x,a,0,10,holdout,0", "split 'holdout'; expected one of train, "),
        ("x,b,0,10,train", "5 fields, the header has 6"),
        ("y,b,0,10,train,0", "b_000000_000010.mp4 is listed before, in {file}:2"),
    ],
)
def test_kinetics_errors_name_file_and_line(tmp_path, row, words):
    touch(tmp_path, "a_000000_000010.mp4", "b_000000_000010.mp4")
    file = write(tmp_path / "all.csv", f"{HEADER}x,b,0,10,train,0\n{row}")
    assert error_of(tmp_path).startswith(f"{file}:3: {words.format(file=file)}")


# Breakfast.

PERSONS = (3, 15, 16, 28, 29, 41, 42, 54)
CAMERAS = (
    "cam01/P{0:02}_tea.avi",
    "webcam01/P{0:02}_tea.avi",
    "stereo/P{0:02}_tea_ch0.avi",
    "stereo/P{0:02}_tea_ch1.avi",
)


def breakfast(root):
    touch(root, *(f"P{p:02}/{x.format(p)}" for p in PERSONS for x in CAMERAS))
    touch(root, "P03/cam01/P03_friedegg.avi", "P03/cam01/P03_friedegg.avi.labels", "P03/cam01/readme.txt")


@pytest.mark.parametrize("inner", ["", "BreakfastII_15fps_qvga_sync"])
@pytest.mark.parametrize(("fold", "tested"), [(1, (3, 15)), (2, (16, 28)), (3, (29, 41)), (4, (42, 54))])
def test_breakfast_is_split_by_persons_and_keeps_every_camera(tmp_path, inner, fold, tested):
    breakfast(tmp_path / inner)
    found = read(tmp_path, fold=fold)
    every = {f"P{p:02}/{x.format(p)}": "tea" for p in PERSONS for x in CAMERAS}
    every["P03/cam01/P03_friedegg.avi"] = "friedegg"
    assert found["test"] == {name: x for name, x in every.items() if int(name[1:3]) in tested}
    assert found["train"] == {name: x for name, x in every.items() if int(name[1:3]) not in tested}
    data = read_data(tmp_path, fold=fold)
    assert all(x.group == x.name[:3] for _, x in data.all_samples())
    assert data.ignored == ("P03/cam01/P03_friedegg.avi.labels", "P03/cam01/readme.txt")


def test_breakfast_classes_are_in_the_order_of_the_published_numbers(tmp_path):
    breakfast(tmp_path)
    published = {"cereals": 0, "coffee": 1, "friedegg": 4, "juice": 7, "milk": 8, "pancake": 3, "salat": 9}
    published |= {"sandwich": 6, "scrambledegg": 5, "tea": 2}
    classes = read_data(tmp_path).classes
    assert {name: i for i, name in enumerate(classes)} == published


@pytest.mark.parametrize("lists", ["", "lists"])
def test_breakfast_lists_of_vis4mer_take_precedence(tmp_path, lists):
    breakfast(tmp_path / "BreakfastII_15fps_qvga_sync")
    header = "file_name,duration,action,class_id\n"
    train = "P03-cam01-P03_tea,56,tea,2\nP03-webcam01-P03_tea,56,tea,2\nP54-stereo-P54_tea_ch1,9,tea,2\n"
    write(tmp_path / lists / "train.csv", header + train)
    write(tmp_path / lists / "test.csv", f"{header}P03-cam01-P03_friedegg,46,friedegg,4")
    assert read(tmp_path) == {
        "train": {
            "P03/cam01/P03_tea.avi": "tea",
            "P03/webcam01/P03_tea.avi": "tea",
            "P54/stereo/P54_tea_ch1.avi": "tea",
        },
        "test": {"P03/cam01/P03_friedegg.avi": "friedegg"},
    }
    words = "no fold 2 of Breakfast; --fold: leave it out: the lists have one"
    assert error_of(tmp_path, fold=2) == f"{tmp_path}: {words}"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("P03_tea,56,tea,2", "not PERSON-CAMERA-VIDEO: 'P03_tea'"),
        ("P03-cam02-P03_tea,56,tea,2", "no such video: P03/cam02/P03_tea"),
        (
            "P03-cam01-P03_tea,56,te,2",
            "class 'te' is not in the ten activities of Breakfast; did you mean 'tea'?",
        ),
    ],
)
def test_breakfast_list_errors_name_file_and_line(tmp_path, row, words):
    breakfast(tmp_path)
    file = write(tmp_path / "train.csv", f"file_name,duration,action,class_id\n{row}\n")
    assert error_of(tmp_path) == f"{file}:2: {words}"


def test_other_trees_of_breakfast_are_errors(tmp_path):
    breakfast(tmp_path / "a")
    assert error_of(tmp_path, fold=5) == f"{tmp_path}: no fold 5 of Breakfast; --fold: it is 1, 2, 3 or 4"
    write(tmp_path / "part.csv", "file_name,duration,action,class_id\nP03-cam01-P03_tea,56,tea,2")
    words = "no split in its name; expected train.csv, val.csv, test.csv"
    assert error_of(tmp_path) == f"{tmp_path}/part.csv: {words}"
    breakfast(tmp_path / "b")
    assert error_of(tmp_path) == f"{tmp_path}: Breakfast is in several folders: {tmp_path}/a, {tmp_path}/b"


def test_classes_named_like_persons_are_no_breakfast(tmp_path):
    touch(tmp_path, *(f"{split}/P0{i}/clip/P0{i}_001.jpg" for split in ("train", "test") for i in (1, 2)))
    assert read(tmp_path)["test"] == {"test/P01/clip": "P01", "test/P02/clip": "P02"}
