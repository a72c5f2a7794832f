"""`videossp predict` on many videos: lists, patterns, files of rows, several adapters, interruptions."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from conftest import switch_on, write_video
from videossp.classifier import Classifier
from videossp.model.config import VideoMambaConfig


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Six videos and a broken one."""
    folder = tmp_path_factory.mktemp("videos")
    for i in range(6):
        frames = np.random.default_rng(i).integers(0, 256, (4, 32, 40, 3), dtype=np.uint8)
        write_video(folder / f"{i}.mp4", frames)
    (folder / "bad.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """Two adapters of one backbone, of two and three classes; processes can load them."""
    folder = tmp_path_factory.mktemp("adapters")
    sizes = VideoMambaConfig(depth=3, d_model=32, frames=4, size=(32, 32), d_state=4)
    for i, name in enumerate("ab"):
        classifier = Classifier.create(sizes, num_classes=2 + i, method="linear")
        switch_on(classifier, seed=i)
        classifier.save(folder / name)
    return folder / "a", folder / "b"


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_pattern_a_list_on_stdin_and_paths_give_the_same(call, adapters, videos, monkeypatch):
    paths = sorted(map(str, videos.glob("*.mp4")))
    code, expected, err = call("predict", adapters[0], *paths, "--json")
    assert code == 3 and [x["path"] for x in rows_of(expected)] == paths
    assert err == "videossp: 1 of 7 videos could not be decoded\n"
    assert call("predict", adapters[0], videos / "*.mp4", "--json")[1] == expected
    assert call("predict", "--adapter", adapters[0], videos, "--json")[1] == expected
    for pattern in (
        f"{videos.parent}/vid*{videos.name[-1]}",
        f"{videos}/**",
    ):  # a folder, and what is below it
        assert call("predict", adapters[0], pattern, "--json")[1].count("\n") == 7
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(paths) + "\n\n"))
    assert call("predict", adapters[0], "-", "--json")[1] == expected
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    code, _, err = call("predict", adapters[0], "-")
    assert code == 2 and "stdin has no lines" in err
    code, _, err = call("predict", adapters[0], videos / "no*.mp4")
    assert code == 3 and "no*.mp4: no such file or folder" in err


def test_names_on_stdin_may_be_no_utf8_and_hold_a_carriage_return(
    call, adapters, videos, tmp_path, monkeypatch
):
    names = [tmp_path / os.fsdecode(x) for x in (b"a\xff.mp4", b"b\rc.mp4")]
    for name in names:
        try:
            name.symlink_to(videos / "0.mp4")
        except OSError:
            pytest.skip("this file system has no such names")
    lines = b"".join(map(os.fsencode, (x for name in names for x in (name, "\r\n"))))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="utf-8"))
    code, out, err = call("predict", adapters[0], "-", "--json")
    assert (code, err) == (0, "") and [x["path"] for x in rows_of(out)] == [*map(str, names)]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_file_holds_what_is_printed_and_is_completed(call, adapters, videos, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    flags = ["--top", 1]
    expected = rows_of(call("predict", adapters[0], videos, "--json", *flags)[1])
    file = tmp_path / f"out{suffix}"
    few = sorted(videos.glob("[0-2].mp4"))
    code, out, err = call("predict", adapters[0], *few, "--output", file, *flags)
    assert (code, out, err) == (0, f"{file}: 3 videos, 3 of them read now\n", "")
    for read, again in ((4, ""), (0, "videossp: ")):
        code, out, err = call("predict", adapters[0], videos, "--output", file, *flags)
        assert code == 3 and out == f"{file}: 7 videos, {read} of them read now\n"
        assert f"{file}: has {7 - read} of 7 videos already" in err
        assert "1 of 7 videos could not be decoded" in err and ("FAILED" in err) == (not again)
    if suffix == ".jsonl":
        found = rows_of(file.read_text())
    elif suffix == ".csv":
        found = list(csv.DictReader(io.StringIO(file.read_text())))
    else:
        import pyarrow.parquet

        found = pyarrow.parquet.read_table(file).to_pylist()
    assert sorted(x["path"] for x in found) == [x["path"] for x in expected]
    by_path = {x["path"]: x for x in found}
    for row in expected:
        other = by_path[row["path"]]
        assert (other["error"] or None) == row["error"]
        if row["error"] is None:
            ((best,), mine) = row["top"], other.get("top", [{}])[0]
            assert mine.get("class", other.get("class_1")) == best["class"]
            p = float(mine.get("probability", other.get("probability_1")))
            assert p == pytest.approx(best["probability"], abs=1e-5)
    code, out, _ = call("predict", adapters[0], videos, "--output", file, "--json", *flags)
    assert code == 3 and json.loads(out) == {"output": str(file), "videos": 7, "read": 0, "failed": 1}
    code, _, err = call("predict", adapters[1], videos, "--output", file, *flags)
    assert code == 2 and "was made with other settings (other adapters)" in err
    code, _, err = call("predict", adapters[0], videos, "--output", file, *flags, "--segments", 2)
    assert code == 2 and "was made with other settings (views: [1, 1], now [2, 1])" in err
    code, _, err = call("predict", adapters[0], videos, "--output", file, *flags, "--precision", "bf16")
    assert code == 2 and "was made with other settings (other adapters)" in err
    code, out, _ = call("predict", adapters[0], videos, "--output", file, *flags, "--retry", "true")
    assert code == 3 and out == f"{file}: 7 videos, 1 of them read now\n"
    code, _, err = call("predict", adapters[0], videos, "--output", tmp_path / "out.txt")
    assert code == 2 and "must end in .jsonl, .csv, .parquet" in err


@pytest.mark.parametrize("flag", ["--batch-size=0", "--workers=-1", "--timeout=-1", "--top=0", "--adapter="])
def test_a_wrong_flag_is_named_and_leaves_no_file(call, adapters, videos, tmp_path, flag):
    adapter = [] if flag == "--adapter=" else [adapters[0]]
    code, out, err = call("predict", *adapter, videos, flag, "--output", tmp_path / "rows.csv")
    assert (code, out) == (2, "") and flag.partition("=")[0] in err and err.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_several_adapters_are_rows_with_their_names(call, adapters, videos, tmp_path):
    both = [x for folder in adapters for x in ("--adapter", folder)]
    alone = [rows_of(call("predict", x, videos, "--json")[1]) for x in adapters]
    code, out, _ = call("predict", *both, videos, "--json")
    rows = rows_of(out)
    assert code == 3 and len(rows) == 14
    for i, folder in enumerate(adapters):
        mine = [{k: v for k, v in x.items() if k != "adapter"} for x in rows if x["adapter"] == str(folder)]
        assert mine == alone[i]
    code, out, _ = call("predict", *both, videos / "0.mp4")
    assert [line.split(": ")[0] for line in out.splitlines()] == [f"{videos}/0.mp4 ({x})" for x in adapters]
    file = tmp_path / "rows.jsonl"
    assert call("predict", *both, videos, "--output", file)[0] == 3
    whole = file.read_text()
    lines = whole.splitlines(keepends=True)
    file.write_text("".join(lines[:5]))  # the second adapter of the third video is missing
    assert call("predict", *both, videos, "--output", file)[0] == 3
    assert sorted(file.read_text().splitlines()) == sorted(whole.splitlines())
    code, _, err = call("predict", *both[:2], *both[:2], videos)
    assert code == 2 and "is given twice" in err


def test_ctrl_c_leaves_a_whole_file_and_the_next_run_completes_it(adapters, videos, tmp_path):
    """5,000 names of one video: far more than are read until Ctrl-C."""
    names = [tmp_path / f"{i:04}.mp4" for i in range(5000)]
    for name in names:
        name.symlink_to(videos / "0.mp4")
    file = tmp_path / "rows.jsonl"
    command = [sys.executable, "-m", "videossp", "predict", str(adapters[0]), "--output", str(file)]
    with subprocess.Popen([*command, "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write("\n".join(map(str, names)).encode())
        process.stdin.close()
        deadline = time.monotonic() + 300
        while not (file.exists() and file.read_bytes().count(b"\n") >= 4):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()
    assert process.returncode == 130 and err == b"videossp: interrupted\n"
    before = file.read_text()
    read = [x["path"] for x in rows_of(before)]
    assert 4 <= len(read) < 5000 and read == [*map(str, names[: len(read)])]
    more = [*map(str, names[: len(read) + 3])]
    done = subprocess.run([*command, *more], timeout=300, capture_output=True, text=True)
    assert done.returncode == 0 and f"has {len(read)} of {len(more)} videos already" in done.stderr
    assert file.read_text().startswith(before) and [x["path"] for x in rows_of(file.read_text())] == more
