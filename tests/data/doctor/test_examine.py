"""Each check reports its problem and nothing else; the clean list is the data set without errors."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import videossp
from conftest import copy_packets, join_streams, numbered_frames, write_video
from videossp.cli.main import main
from videossp.data.datasets import read_data
from videossp.data.datasets.write import write_table
from videossp.data.doctor import examine as doctor
from videossp.data.doctor.checks import CHECKS, select
from videossp.data.doctor.examine import examine
from videossp.data.doctor.probe import probe_all
from videossp.errors import DataError


def clip(path, seed=0, count=10, **options):
    """A video of noise that depends on the seed."""
    frames = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    write_video(path, frames, **options)
    return path


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def table(root, *rows, header="path,label,split"):
    (root / "data.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return root / "data.csv"


def triples(diagnosis):
    return [(x.severity, x.check, x.videos) for x in diagnosis.findings]


def messages(diagnosis):
    return "\n".join(x.message for x in diagnosis.findings)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Six different videos, 0.mp4 to 5.mp4."""
    root = tmp_path_factory.mktemp("videos")
    for i in range(6):
        clip(root / f"{i}.mp4", i)
    return root


@pytest.fixture
def tree(videos, tmp_path):
    """Copies of the six videos."""
    shutil.copytree(videos, tmp_path / "tree")
    return tmp_path / "tree"


def test_a_clean_tree_has_no_findings(videos, tmp_path, capsys):
    names = ("train/a/v0", "train/a/v1", "train/b/v2", "train/b/v3", "test/a/v4", "test/b/v5")
    for i, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(videos / f"{i}.mp4", tmp_path / f"{name}.mp4")
    diagnosis = examine(tmp_path, workers=1)
    assert diagnosis.findings == ()
    assert diagnosis.checks == tuple(x for x in CHECKS if x != "split.leak-near-duplicate")
    assert [x.name for _, x in diagnosis.clean()] == [x.name for _, x in diagnosis.samples.all_samples()]
    assert main(["doctor", str(tmp_path), "--workers", "1"]) == 0
    out, err = capsys.readouterr()
    line = "0 errors, 0 warnings, 0 info in 6 videos of 2 classes (train 4, test 2), format folder\n"
    assert (out, err) == (line, "")


def damage(path):
    """Overwrite the contents of the packets after the first, but not their positions and sizes."""

    with av.open(str(path)) as container:
        spans = [(x.pos, x.size) for x in container.demux(video=0) if x.size]
    content = bytearray(path.read_bytes())
    for position, size in spans[1:]:
        content[position + 5 : position + size] = b"\xff" * (size - 5)
    path.write_bytes(content)


def write_audio(path):

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 16000
        container.mux([*stream.encode(frame), *stream.encode()])


@pytest.fixture
def broken(tree):
    """One file for every kind of damage, and two good ones."""
    for name in ("a", "b"):
        (tree / name).mkdir()
    for i in range(6):
        (tree / f"{i}.mp4").rename(tree / "ab"[i % 2] / f"{i}.mp4")
    damage(tree / "a" / "0.mp4")
    content = (tree / "b" / "1.mp4").read_bytes()
    (tree / "b" / "1.mp4").write_bytes(content[: len(content) // 2])
    write_audio(tree / "a" / "2.mp4")
    (tree / "b" / "3.mp4").write_bytes(b"")
    (tree / "b" / "text.avi").write_bytes(b"no video at all")
    clip(tree / "a" / "short.mp4", 7, 3)
    write_video(tree / "b" / "still.mp4", np.full((10, 32, 32, 3), 90, np.uint8))
    return tree


BROKEN = [
    ("error", "file.unreadable", ("a/0.mp4",)),
    ("error", "file.unreadable", ("b/text.avi",)),
    ("error", "file.truncated", ("b/1.mp4",)),
    ("error", "file.no-video", ("a/2.mp4",)),
    ("error", "file.no-video", ("b/3.mp4",)),
    ("warning", "clip.too-short", ("a/short.mp4",)),
    ("warning", "clip.frozen", ("b/still.mp4",)),
]


def test_broken_short_and_frozen_files_are_reported_by_name(broken):
    diagnosis = examine(broken, workers=2)
    assert triples(diagnosis) == BROKEN and len(diagnosis.errors) == 5
    assert diagnosis.counts == {"error": 5, "warning": 2, "info": 0}
    for x in diagnosis.findings:
        assert x.videos[0] in x.message and x.message.endswith(f"; {CHECKS[x.check][2]}")
        assert "\n" not in x.message
    kept = [x.name for _, x in diagnosis.clean()]
    assert kept == ["a/4.mp4", "a/short.mp4", "b/5.mp4", "b/still.mp4"]
    assert [x for x in triples(examine(broken, frames=3, workers=1)) if x[1] == "clip.too-short"] == []


def number_packets(number, packet):
    packet.pts = packet.dts = round(number / 12 / packet.time_base)
    return packet


def test_files_that_are_not_as_their_container_says_are_reported(tmp_path):
    """Each with its own id; they are read, and correctly."""
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
    source, other = tmp_path / "source.mkv", tmp_path / "other.webm"
    clip(source, 1, 24, codec="mpeg4", options={"g": "6", "bf": "2"})
    copy_packets([source], tmp_path / "data/a/late.mkv", lambda i, packet: packet if i > 2 else None)
    copy_packets([source], tmp_path / "data/b/times.mkv", number_packets)
    for path, size in ((tmp_path / "1.webm", 32), (other, 16)):
        frames = np.random.default_rng(size).integers(0, 256, (12, size, size, 3), dtype=np.uint8)
        write_video(path, frames, codec="libvpx")
    copy_packets([tmp_path / "1.webm", other], tmp_path / "data/a/sizes.webm", number_packets)
    join_streams(tmp_path / "data/b/streams.mkv", other, tmp_path / "1.webm")
    clip(tmp_path / "keys.avi", 2, 24, codec="msmpeg4v2", options={"g": "8"})
    data = (tmp_path / "keys.avi").read_bytes()
    at = data.rindex(b"idx1")
    (tmp_path / "data/b/keys.avi").write_bytes(data[:at] + b"JUNK" + data[at + 4 :])
    diagnosis = examine(tmp_path / "data", workers=1, only=["file"])
    assert triples(diagnosis) == [
        ("warning", "file.starts-late", ("a/late.mkv",)),
        ("warning", "file.times", ("b/times.mkv",)),
        ("warning", "file.size-changes", ("a/sizes.webm",)),
        ("info", "file.key-frames", ("b/keys.avi",)),
        ("info", "file.streams", ("b/streams.mkv",)),
    ]


def test_fast_decodes_first_frames_only(broken):
    diagnosis = examine(broken, fast=True, workers=1)
    assert triples(diagnosis) == [x for x in BROKEN if x[2] not in (("a/0.mp4",), ("b/still.mp4",))]
    assert "clip.frozen" not in diagnosis.checks


def test_missing_video_is_an_error_and_in_kinetics_a_warning(tree):
    annotation = table(tree, "0.mp4,a,train", "1.mp4,b,train", "none.mp4,b,train")
    diagnosis = examine(annotation, only=["file.missing"])
    assert triples(diagnosis) == [("error", "file.missing", ("none.mp4",))]
    assert f"{annotation}:4: " in messages(diagnosis)
    for i, name in enumerate(("aaaaaaaaaaa", "bbbbbbbbbbb")):
        (tree / f"{i}.mp4").rename(tree / f"{name}_000001_000011.mp4")
    rows = [
        f"{name},1,11,train,{label}" for name, label in (("a" * 11, "a"), ("b" * 11, "b"), ("c" * 11, "a"))
    ]
    annotation = table(tree, *rows, header="youtube_id,time_start,time_end,split,label")
    diagnosis = examine(annotation, only=["file.missing"])
    assert diagnosis.samples.origin["format"] == "kinetics"
    assert triples(diagnosis) == [("warning", "file.missing", (f"{'c' * 11}_000001_000011.mp4",))]


def test_an_empty_class_is_reported_once(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/notes.txt", "c/1.mp4")
    diagnosis = examine(tmp_path, only=["class"])
    assert triples(diagnosis) == [("error", "class.empty", ())]  # train refuses the folder
    assert "no videos in b; " in messages(diagnosis)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    diagnosis = examine(table(tmp_path, "a/1.mp4,a,train", "c/1.mp4,c,train"), only=["class"])
    assert triples(diagnosis) == [("warning", "class.empty", ())] and "class 'b' has" in messages(diagnosis)


@pytest.mark.parametrize(("large", "expected"), [(10, []), (11, [("warning", "class.imbalanced", ())])])
def test_classes_may_differ_tenfold_in_size(tmp_path, large, expected):
    touch(
        tmp_path, "train/b/0.mp4", *(f"train/a/{i}.mp4" for i in range(large)), "test/a/0.mp4", "test/b/0.mp4"
    )
    diagnosis = examine(tmp_path, only=["class"])
    assert triples(diagnosis) == expected
    assert not expected or "11 videos of 'a' and 1 of 'b'" in messages(diagnosis)


def test_same_content_in_two_splits_is_reported_for_the_training_video(tree):
    shutil.copy(tree / "0.mp4", tree / "renamed.mp4")
    rows = ["0.mp4,a,train", "1.mp4,b,train", "2.mp4,a,train", "3.mp4,b,train", "renamed.mp4,a,test"]
    diagnosis = examine(table(tree, *rows, "1.mp4,b,val", "4.mp4,b,test"), workers=1)
    assert triples(diagnosis) == [
        ("error", "split.leak-duplicate", ("0.mp4",)),
        ("error", "split.leak-duplicate", ("1.mp4",)),
    ]
    assert "0.mp4 (train) is the same video as renamed.mp4 (test); " in messages(diagnosis)
    kept = [(split, x.name) for split, x in diagnosis.clean()]
    assert kept == [
        ("train", "2.mp4"),
        ("train", "3.mp4"),
        ("test", "renamed.mp4"),
        ("test", "4.mp4"),
        ("val", "1.mp4"),  # of the same name as the one that is left out
    ]


def test_val_and_test_of_the_same_videos_are_one_warning(tree):
    rows = ["0.mp4,a,train", "1.mp4,b,train"]
    rows += [f"{i}.mp4,{'ab'[i % 2]},{split}" for split in ("val", "test") for i in (2, 3)]
    diagnosis = examine(table(tree, *rows), workers=1)
    assert triples(diagnosis) == [("warning", "split.leak-duplicate", ("2.mp4", "3.mp4"))]
    assert "2 of 2 videos of val" in messages(diagnosis)
    assert "the epoch would be selected on the test split" in messages(diagnosis)


def test_parts_of_a_file_in_two_splits_belong_together_and_leak_where_they_overlap(tree):
    header = "path,label,split,start,end"
    rows = ["0.mp4,a,train,0,0.3", "0.mp4,a,test,0.3,0.6", "1.mp4,b,train,0,0.5", "1.mp4,b,test,0.25,0.75"]
    diagnosis = examine(table(tree, *rows, header=header), frames=1, workers=1)
    assert triples(diagnosis) == [
        ("error", "split.leak-duplicate", ("1.mp4#t=0,0.5",)),
        ("error", "split.leak-group", ("0.mp4#t=0,0.3",)),
        ("error", "split.leak-group", ("1.mp4#t=0,0.5",)),
    ]


def test_groups_of_ucf101_in_two_splits(tmp_path):
    names = [f"{label}/v_{label}_g{i:02}_c01.avi" for label in ("A", "B") for i in (1, 2)]
    touch(tmp_path, *names, "A/v_A_g01_c02.avi")
    (tmp_path / "classInd.txt").write_text("1 A\n2 B\n")
    (tmp_path / "trainlist01.txt").write_text(f"{names[0]} 1\n{names[2]} 2\n")
    (tmp_path / "testlist01.txt").write_text(f"{names[1]}\n{names[3]}\n")
    assert examine(tmp_path, only=["split.leak-group"]).findings == ()
    (tmp_path / "testlist01.txt").write_text(f"{names[1]}\n{names[3]}\nA/v_A_g01_c02.avi\n")
    diagnosis = examine(tmp_path, only=["split.leak-group"])
    assert triples(diagnosis) == [("error", "split.leak-group", (names[0],))]
    assert messages(diagnosis).startswith("A/g01: ")


def test_a_class_that_is_not_listed_or_not_trained(tmp_path):
    touch(tmp_path, *(f"{i}.mp4" for i in range(5)))
    (tmp_path / "classes.txt").write_text("ape\nbear\ncat\n")
    rows = ["0.mp4,ape,train", "1.mp4,bear,train", "2.mp4,baer,train", "3.mp4,cat,test", "4.mp4,cat,val"]
    diagnosis = examine(table(tmp_path, *rows), only=["label.unknown", "class"])
    assert triples(diagnosis) == [
        ("error", "label.unknown", ("2.mp4",)),
        ("error", "label.unknown", ("3.mp4", "4.mp4")),
    ]
    assert "did you mean 'bear'" in messages(diagnosis) and "class 'cat' has no video in train" in messages(
        diagnosis
    )
    tested = table(tmp_path, "3.mp4,cat,test", "4.mp4,ape,test")  # to evaluate on only
    assert [x.check for x in examine(tested, only=["label.unknown"]).findings] == []


def test_same_content_in_two_classes_or_twice_in_one(tree):
    for i, name in ((0, "zero"), (1, "one"), (1, "uno")):
        shutil.copy(tree / f"{i}.mp4", tree / f"{name}.mp4")
    rows = ["0.mp4,a,train", "zero.mp4,b,train", "1.mp4,a,train", "one.mp4,a,train", "uno.mp4,a,train"]
    diagnosis = examine(table(tree, *rows, "2.mp4,b,train"), workers=1)
    assert triples(diagnosis) == [
        ("error", "label.conflict", ("0.mp4", "zero.mp4")),
        ("warning", "file.duplicate", ("one.mp4", "uno.mp4")),
    ]
    assert "0.mp4 (train, class 'a'), zero.mp4 (train, class 'b')" in messages(diagnosis)
    assert [x.name for _, x in diagnosis.clean()] == ["1.mp4", "one.mp4", "uno.mp4", "2.mp4"]


def test_repeated_line_and_equal_base_names(tmp_path):
    touch(tmp_path, "x/1.mp4", "y/1.avi", "x/2.mp4", "y/2.mp4")
    rows = ["x/1.mp4,a,test", "y/1.avi,b,test", "x/2.mp4,a,train", "y/2.mp4,b,train", "x/1.mp4,a,test"]
    diagnosis = examine(table(tmp_path, *rows), only=["name"])
    assert triples(diagnosis) == [
        ("error", "name.collision", ("x/1.mp4",)),
        ("info", "name.collision", ("x/1.mp4", "y/1.avi")),
    ]
    assert "would merge their scores, videossp does not" in messages(diagnosis)
    assert [x.name for _, x in diagnosis.clean()] == ["x/1.mp4", "y/1.avi", "x/2.mp4", "y/2.mp4"]


def test_checks_are_selected_by_id_or_its_beginning():
    assert (
        select(["split"])
        == select(["split."])
        == select(["split.leak"])
        == ["split.leak-duplicate", "split.leak-group", "split.leak-near-duplicate"]
    )
    assert select(["label.unknown", "clip"]) == ["clip.too-short", "clip.frozen", "label.unknown"]
    for wrong, near in (("clas", "class"), ("file.trunc", "file.truncated"), ("", "")):
        with pytest.raises(ValueError, match=f"no check '{wrong}'; did you mean '{near}.*file.missing, "):
            select([wrong])


def test_only_and_skip(broken, monkeypatch):
    def files(**chosen):
        return triples(examine(broken, workers=1, **chosen))

    assert files(only=["file.no-video", "clip"]) == BROKEN[3:]
    assert files(only="clip.frozen") == files(only=["clip.frozen"])  # not its letters
    assert files(skip=["file", "clip.frozen"]) == BROKEN[5:6]
    assert files(only=["clip"], skip="clip.too-short") == BROKEN[6:]
    with pytest.raises(ValueError, match="no check is left"):
        files(only=["clip"], skip=["clip"])
    monkeypatch.setattr(doctor, "probe_all", None)  # these checks need no file, so none is read
    assert files(only=["class", "label.unknown", "split.leak-group", "name", "file.missing"]) == []


def test_files_are_read_only_as_far_as_the_checks_need(broken, monkeypatch):
    asked = []

    def probes(samples, **settings):
        asked.append((settings["decode"], settings["hashed"]))
        return (x for x in [])

    monkeypatch.setattr(doctor, "probe_all", probes)
    monkeypatch.setattr(doctor, "CHECK_FUNCTIONS", ())
    for only in (["clip.too-short"], ["clip.frozen"], ["file.duplicate"], []):
        examine(broken, only=only)
    examine(broken, fast=True)
    assert asked == [(False, False), (True, False), (False, True), (True, True), (False, True)]


def test_unreadable_data_is_an_error_with_the_first_problem(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        examine(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no line names.*2 problems, the first: .*data.csv:2: .*1.mp4"):
        examine(table(tmp_path, "1.mp4,a,train", "2.mp4,b,train"))


def test_readers_report_ids_of_checks():
    source = Path(videossp.__file__).parent / "data/datasets"
    text = "".join(x.read_text() for x in source.glob("*.py"))
    ids = set(re.findall(r'report_problem\(\s*"([^"]+)"', text))
    assert {"file.missing", "label.unknown", "name.collision"} <= ids <= set(CHECKS)


def contents(samples):
    """Class names, and the samples without their names."""
    return samples.classes, [
        (split, os.path.realpath(x.path), x.label, x.start, x.end, x.group)
        for split, x in samples.all_samples()
    ]


def write_clean_list(diagnosis, file):
    return write_table(diagnosis.clean(), diagnosis.samples.classes, file)


def cleaned(data, file, **settings):
    """The samples without errors, and the samples read from their list."""
    diagnosis = examine(data, workers=1, **settings)
    kept = diagnosis.clean()
    assert write_clean_list(diagnosis, file) == len(kept)
    assert not list(file.parent.glob(".*"))  # the draft is gone
    return contents(replace(diagnosis.samples, splits=split_up(kept))), contents(read_data(file))


def split_up(members):
    splits = {}
    for split, sample in members:
        splits.setdefault(split, []).append(sample)
    return splits


def test_a_clean_list_reads_back_as_the_same_data(videos, tmp_path):
    root, lists = tmp_path / "data", tmp_path / "lists"
    lists.mkdir()
    names = ["a, b/x.mp4", 'say "c"/y;z.mp4', "ünï 名/#t=1.mp4", "a, b/it's.mp4", "ünï 名/x\\y.mp4"]
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(videos / f"{i}.mp4", root / name)
    for i, frame in enumerate(numbered_frames(8)):
        write_video(root / 'say "c"' / "frames, 8" / f"{i}.png", frame[None], codec="png", pix_fmt="rgb24")
    (root / "a, b" / "broken.mp4").write_bytes(b"")
    for file in (lists / "clean.csv", root / "clean.csv"):
        wanted, back = cleaned(root, file, format="folder")
        assert back == wanted and len(back[1]) == 6 and back[0] == ("a, b", 'say "c"', "ünï 名")
        header, first, *_ = file.read_text().splitlines()
        assert header == "path,label,class_id,split"
        assert ("/lists/" in str(file)) == first.startswith(f'"{root}/a, b/') != first.startswith('"a, b/')


def test_a_clean_list_keeps_splits_parts_and_groups(tree, tmp_path):
    rows = [
        "0.mp4,b,train,0,0.4,p1",
        "0.mp4,a,train,0.4,,p1",
        "1.mp4,a,val,,0.123456789,p2",
        "2.mp4,b,test,,,",
    ]
    data = table(tree, *rows, "3.mp4,a,test,,,p1", header="path,label,split,start,end,group")
    wanted, back = cleaned(data, tmp_path / "clean.csv", frames=1)
    assert back == wanted and len(back[1]) == 3  # the training parts share a group with a test
    assert (tmp_path / "clean.csv").read_text().startswith("path,label,class_id,split,end,group\n")


def test_a_clean_list_keeps_the_classes_that_lose_all_videos(tree, tmp_path):
    rows = ["0.mp4,b,train", "1.mp4,c,train", "2.mp4,a,test", "3.mp4,b,test"]
    wanted, back = cleaned(table(tree, *rows), tmp_path / "clean.csv")
    assert back == wanted and back[0] == ("a", "b", "c") and {x[2] for x in back[1]} == {1, 2}
    assert examine(tmp_path / "clean.csv", workers=1).errors == ()


def test_a_clean_list_keeps_classes_whose_names_are_numbers(tree, tmp_path):
    for i in range(6):
        (tree / f"0{i % 2}").mkdir(exist_ok=True)
        (tree / f"{i}.mp4").rename(tree / f"0{i % 2}" / f"{i}.mp4")
    wanted, back = cleaned(tree, tmp_path / "clean.csv")
    assert back == wanted and back[0] == ("00", "01")


def test_clean_list_never_replaces_a_file_or_reads_as_other_data(tree, tmp_path):
    diagnosis = examine(table(tree, "0.mp4,b,train", "1.mp4,c,train"), only=["name"])
    (tmp_path / "is.csv").write_text("mine")
    for name, words in (("is.csv", "exists"), ("no/x.csv", "no folder")):
        with pytest.raises(ValueError, match=words):
            write_clean_list(diagnosis, tmp_path / name)
    (tmp_path / "classes.txt").write_text("other\nnames\n")
    with pytest.raises(ValueError, match="read as other data"):
        write_clean_list(diagnosis, tmp_path / "x.csv")
    none = examine(table(tree, "0.mp4,a,train", "1.mp4,b,val", "0.mp4,b,val", "1.mp4,a,train"), workers=1)
    with pytest.raises(DataError, match="no video to list"):
        write_clean_list(none, tmp_path / "x.csv")
    assert {x.name: x.read_text() for x in tmp_path.glob("*.*")} == {
        "is.csv": "mine",
        "classes.txt": "other\nnames\n",
    }


def test_a_clean_list_is_not_written_through_a_link(tree, tmp_path):
    """The classes lose their videos, so that a class file is needed."""
    data = table(tree, "0.mp4,b,train", "1.mp4,c,train", "2.mp4,a,test", "3.mp4,b,test")
    diagnosis = examine(data, only="name")
    lists, target = tmp_path / "lists", tmp_path / "target"
    lists.mkdir()
    (lists / "classes.txt").symlink_to(target)
    (lists / f".{os.getpid()}-x.csv").symlink_to(target)  # the name of the draft
    with pytest.raises(ValueError, match="read as other data"):
        write_table(diagnosis.clean()[1:3], diagnosis.samples.classes, lists / "x.csv")
    assert not target.exists() and [x.name for x in lists.iterdir()] == ["classes.txt"]


def test_doctor_on_the_command_line(call, broken, tmp_path):
    for i in range(6):
        (broken / "b" / f"empty{i}.mp4").write_bytes(b"")
    code, out, err = call("doctor", broken, "--write-clean-list", tmp_path / "clean.csv", "--workers", 2)
    lines = out.splitlines()
    clean = f"{tmp_path / 'clean.csv'}: 4 of 15 videos, those without errors"
    assert code == 3 and err == f"videossp: {clean}\n"
    assert [x for x in lines if not x.startswith("  ")] == [
        "error: file.unreadable (2)",
        "error: file.truncated (1)",
        "error: file.no-video (8)",
        "warning: clip.too-short (1)",
        "warning: clip.frozen (1)",
        "11 errors, 2 warnings, 0 info in 15 videos of 2 classes (train 15), format folder",
    ]
    assert "  ... and 3 more (all with --json)" in lines and len(lines) == 6 + 2 + 1 + 6 + 1 + 1
    code, out, _ = call("doctor", tmp_path / "clean.csv", "--skip", "clip", "--fast", "--json")
    result = json.loads(out)
    assert code == 0 and result["findings"] == [] and result["videos"] == {"train": 4}
    assert result["format"] == "csv" and result["classes"] == 2 and "clip.frozen" not in result["checks"]
    code, out, _ = call("doctor", broken, "--only", "file.no-video,clip.frozen", "--json", "--workers", 1)
    result = json.loads(out)
    assert code == 3 and result["counts"] == {"error": 8, "warning": 1, "info": 0}
    assert [(x["check"], x["severity"]) for x in result["findings"][-2:]] == [
        ("file.no-video", "error"),
        ("clip.frozen", "warning"),
    ]
    assert all(x["message"] and x["videos"] for x in result["findings"])


def test_findings_are_printed_even_if_the_list_cannot_be_written(call, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "0.mp4").write_bytes(b"")
    code, out, err = call(
        "doctor", tmp_path / "data", "--write-clean-list", tmp_path / "c.csv", "--workers", 1
    )
    assert code == 3 and "error: file.no-video (2)" in out
    assert err.startswith("videossp: no list was written: ") and not (tmp_path / "c.csv").exists()


def test_data_without_a_valid_line_names_the_first_problem(call, tmp_path):
    (tmp_path / "train.txt").write_text("a.mp4 0\nb.mp4 1\n")
    for verb in ("data", "doctor"):
        code, _, err = call(verb, tmp_path)
        assert code == 3 and "train.txt:1: no such video: a.mp4" in err


def test_leak_is_found_even_if_the_first_part_of_a_file_does_not_exist(call, tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(24))
    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    write_video(tmp_path / "c.mp4", numbered_frames(24)[::-1])
    rows = ["path,label,split,start,end", "a.mp4,x,train,500,501", "a.mp4,x,train,0,1", "b.mp4,x,test,0,1"]
    (tmp_path / "all.csv").write_text("\n".join([*rows, "c.mp4,y,train,0,1"]))
    code, out, _ = call("doctor", tmp_path / "all.csv", "--only", "file,split", "--workers", 1)
    assert code == 3 and "split.leak-duplicate" in out and "file.unreadable" in out


MISTAKES = [
    (["NOWHERE"], 3, "nowhere: no such file or folder"),
    (["DATA", "--only", "files"], 2, "no check 'files'; did you mean 'file'"),
    (["DATA", "--timeout", "0"], 2, "must be positive"),
    (["DATA", "--write-clean-list", "DATA/0.mp4"], 2, "exists"),
    (["DATA", "--format", "excel"], 2, "format"),
]


@pytest.mark.parametrize(("arguments", "expected", "words"), MISTAKES)
def test_wrong_arguments_give_one_line_and_an_exit_code(call, tree, arguments, expected, words):
    table(tree, "0.mp4,a,train", "1.mp4,b,train")
    arguments = [x.replace("DATA", str(tree)).replace("NOWHERE", str(tree / "nowhere")) for x in arguments]
    code, out, err = call("doctor", *arguments)
    assert code == expected and out == "" and words in err and len(err.splitlines()) == 1


def test_clean_list_in_the_data_folder_is_pointed_out(call, tree):
    table(tree, "0.mp4,a,train", "1.mp4,b,train")
    code, _, err = call("doctor", tree, "--only", "name", "--write-clean-list", tree / "clean.csv")
    assert code == 0 and f"use {tree / 'clean.csv'} as the data set" in err


def pictures(folder, *names):
    """Images of noise that depend on the name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        seed = int.from_bytes(name.encode(), "big")
        pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name, format="PNG")


def test_pictures_beside_frames_and_missing_numbers_are_infos(tmp_path):
    pictures(tmp_path / "a/whole", *(f"{i}.jpg" for i in range(9)))
    pictures(tmp_path / "a/mixed", *(f"{x}_{i}.jpg" for x in ("img", "flow_x", "flow_y") for i in range(8)))
    pictures(tmp_path / "b/cover", *(f"{i}.png" for i in range(8)), "cover.png")
    pictures(tmp_path / "b/gap", *(f"{i}.png" for i in range(20) if i not in (7, 8, 12)))
    diagnosis = examine(tmp_path, only=["frames"])
    assert triples(diagnosis) == [
        ("info", "frames.left-out", ("a/mixed", "b/cover")),
        ("info", "frames.gap", ("b/gap",)),
    ]
    assert (
        "17 pictures in 2 folders of frames are not used as frames, such as a/mixed/flow_x_0.jpg;"
        in messages(diagnosis)
    )
    assert "3 numbers are missing between the frames of 1 videos, such as b/gap (3);" in messages(diagnosis)
    probes = list(probe_all([x for _, x in diagnosis.samples.all_samples()], workers=1))
    assert [(x.check, x.frames, x.size) for x in probes] == [(None, n, (32, 32)) for n in (8, 9, 8, 17)]


def test_a_folder_of_several_sorts_of_frames_is_unreadable(tmp_path):
    pictures(tmp_path / "a/1", *(f"{x}_{i}.png" for x in ("left", "right") for i in range(8)))
    pictures(tmp_path / "b/2", *(f"{i}.png" for i in range(8)))
    diagnosis = examine(tmp_path, workers=1)
    assert triples(diagnosis) == [("error", "file.unreadable", ("a/1",))]
    assert "8 such as left_0.png, 8 such as right_0.png; keep only the frames" in messages(diagnosis)


def test_files_that_may_be_videos_are_warnings_and_sidecars_are_not(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/1.mp4", "a/2.mkv.part", "a/3", "b/4.dat", "c.mp4")
    touch(tmp_path, "README", "b/1.txt", "b/1.json", "b/1.jpg", "a/1.srt", "a/Thumbs.db", "a/code.ts.md")
    diagnosis = examine(tmp_path, only=["file.left-out"])
    assert triples(diagnosis) == [
        ("warning", "file.left-out", ("c.mp4",)),
        ("warning", "file.left-out", ("a/2.mkv.part", "a/3", "b/4.dat")),
    ]
    assert "3 files that are not videos (a/2.mkv.part, a/3, b/4.dat); rename or convert" in messages(
        diagnosis
    )


def test_alike_class_names_are_a_warning(tmp_path):
    touch(tmp_path, "Run/0.mp4", "run/1.mp4", "jump/2.mp4", "hop/3.mp4")
    assert triples(examine(tmp_path, only=["class"])) == [("warning", "class.alike-names", ())]


def test_nested_videos_are_an_info_or_a_warning_if_their_folders_repeat(tmp_path):
    touch(tmp_path, "a/0.mp4", "a/x/1.mp4", "b/2.mp4")
    diagnosis = examine(tmp_path, only=["class"])
    assert triples(diagnosis) == [("info", "class.nested", ("a/x/1.mp4",))]
    touch(tmp_path / "years", *(f"{y}/{name}/v.mp4" for y in (2019, 2020) for name in ("run", "jump")))
    diagnosis = examine(tmp_path / "years", only=["class.nested"])
    names = ("2019/jump/v.mp4", "2019/run/v.mp4", "2020/jump/v.mp4", "2020/run/v.mp4")
    assert triples(diagnosis) == [("warning", "class.nested", names)]


def test_data_warns_of_alike_names(call, tmp_path):
    touch(tmp_path, "Run/0.mp4", "run/1.mp4", "run/notes.txt")
    code, out, _ = call("data", tmp_path, "--fast")
    lines = out.splitlines()
    assert code == 0 and lines[-2] == "left out: 1 file that is not a video (run/notes.txt)"
    assert lines[-1].startswith("warning: the classes 'Run', 'run' differ only in case")
    _, out, _ = call("data", tmp_path, "--fast", "--json")
    assert [f"warning: {x}" for x in json.loads(out)["warnings"]] == lines[-1:]


def test_data_prints_a_summary(call, tree):
    write_video(tree / "wide.mp4", numbered_frames(20), rate=10)
    (tree / "empty.mp4").write_bytes(b"")
    rows = ["0.mp4,a,train", "1.mp4,b,train", "wide.mp4,a,train", "2.mp4,a,test", "empty.mp4,b,test"]
    data = table(tree, *rows, "3.mp4,-1,test", "none.mp4,a,test")
    code, out, err = call("data", data, "--workers", 1)
    assert code == 0 and err == ""
    assert out.splitlines() == [
        "5 videos of 2 classes (train 3, test 2), format csv",
        "     train     test",
        "a        2        1",
        "b        1        1",
        "left out: 1 video without a label in test (3.mp4)",
        "0.00 hours, seconds 0.8 to 2.0, median 0.8",
        "frames 10 to 20, median 10",
        "height x width 32 x 32 (3), 48 x 64 (1)",
        "1 problem in the annotation and 1 video that cannot be read; see videossp doctor",
    ]
    code, out, _ = call("data", data, "--fast", "--json")
    assert code == 0 and json.loads(out) == {
        "format": "csv",
        "classes": {"a": {"train": 2, "test": 1}, "b": {"train": 1, "test": 1}},
        "videos": {"train": 3, "test": 2},
        "missing": 0,
        "unlabelled": {"test": 1},
        "ignored": 0,
        "left_out": [{"reason": "video without a label in test", "count": 1, "names": ["3.mp4"]}],
        "warnings": [],
        "wrong_lines": 1,
        "unreadable": 0,
        "seconds": None,
        "frames": None,
        "sizes": {},
    }


def test_data_prints_the_largest_and_smallest_of_many_classes(call, tmp_path):
    touch(tmp_path, *(f"c{i:02}/{k}.mp4" for i in range(40) for k in range(1 + (7 * i) % 40)))
    _, out, _ = call("data", tmp_path, "--fast")
    rows = [x.split() for x in out.splitlines()[2:]]
    counts = [int(x[1]) for x in rows if len(x) == 2]
    assert counts == [*range(40, 25, -1), *range(15, 0, -1)] and "10 more" in " ".join(rows[15])
    _, out, _ = call("data", tmp_path, "--fast", "--json")
    assert len(json.loads(out)["classes"]) == 40


def test_two_doctors_can_run_at_once(broken):
    code = "import sys; from videossp.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "doctor", str(broken), "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    results = [json.loads(x.communicate(timeout=300)[0]) for x in both]
    for result in results:
        assert [(x["severity"], x["check"], tuple(x["videos"])) for x in result["findings"]] == BROKEN


@pytest.mark.parametrize("inside", [True, False])
def test_a_clean_list_inside_the_data_set_is_reported(call, broken, tmp_path, inside):
    file = (broken if inside else tmp_path) / "clean.csv"
    _, _, err = call("doctor", broken, "--write-clean-list", file, "--fast", "--workers", 1)
    text = f"use {file} as the data set: {broken} now contains a second list file and is detected differently"
    assert (text in err) == inside
