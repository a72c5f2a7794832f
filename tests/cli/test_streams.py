"""Names with control characters, results as they are computed, progress bars, pipes and closed streams."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from conftest import write_video
from videossp.classifier import Classifier
from videossp.inference import decode_ahead as module
from videossp.system.printable import printable
from videossp.system.progress import with_bar

COMMAND = [sys.executable, "-m", "videossp"]
NAME = "a\n[red]\x1b[2J:car:\u202e.mp4"
SHOWN = r"a\n[red]\x1b[2J:car:\u202e.mp4"


@pytest.fixture
def adapter(small_backbone, tmp_path):
    classifier = Classifier.create(small_backbone, classes=["\r\x9b31mred\x1b", "b\tc"], method="linear")
    classifier.save(tmp_path / "adapter")
    return tmp_path / "adapter"


def write_clip(path):
    write_video(path, np.full((4, 32, 32, 3), 90, np.uint8))
    return path


def test_control_characters_are_shown_as_escapes():
    odd = (
        "\x00\a\b\t\n\v\f\r\x1b\x1f\x7f\x80\x85\x9b\x9f\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069"
    )
    escaped = printable(odd)
    assert escaped.isprintable() and escaped.encode().decode("unicode_escape") == odd
    plain = "C:\\new ä 手 é\u0301 👩‍🚒 [red] \u00a0."
    assert printable(plain) == plain


def test_names_are_printed_without_control_characters(call, adapter, tmp_path):
    folder = tmp_path / "videos"
    write_clip(folder / NAME)
    code, out, err = call("predict", adapter, folder / NAME)
    assert code == 0 and err == ""
    place, classes = out.removesuffix("\n").split(".mp4: ")
    assert place + ".mp4" == str(folder / SHOWN)
    assert sorted(x.split(" % ")[1] for x in classes.split(", ")) == [r"\r\x9b31mred\x1b", r"b\tc"]
    (folder / NAME).write_bytes(b"no video")
    code, out, _ = call("predict", adapter, folder)
    assert code == 3 and f"FAILED {folder / SHOWN}: not a readable video" in out and out.count("\n") == 1
    code, out, err = call("predict", adapter, folder / f"x{NAME}", folder)
    assert code == 3 and err == f"videossp: {folder}/x{SHOWN}: no such file or folder\n"


def test_names_in_a_training_are_printed_without_control_characters(call, small_backbone, tmp_path):
    for name in ("b\x1b]0;title\a", "d\u2066"):
        for i in range(3):
            write_clip(tmp_path / "data" / name / f"{i}.mp4")
    (tmp_path / "data" / "d\u2066" / NAME).write_bytes(b"no video")
    (tmp_path / "data" / "d\u2066" / f"{NAME}.txt").write_text("notes")
    flags = ["--method", "linear", "--epochs", 1, "--on-error", "skip", "--out", tmp_path / "run"]
    code, out, err = call("train", tmp_path / "data", "--backbone", small_backbone, *flags)
    assert code == 0 and f"left out: 1 file that is not a video (d\\u2066/{SHOWN}.txt)" in err
    assert f"d\\u2066/{SHOWN}" in out
    code, table, _ = call("eval", tmp_path / "run", tmp_path / "data", "--on-error", "skip")
    assert code == 0 and r"b\x1b]0;title\x07" in table
    assert all(x.isprintable() for text in (out, err, table) for x in text.replace("\n", ""))


def test_each_prediction_is_printed_before_the_next_is_computed(call, adapter, tmp_path, capsys, monkeypatch):
    videos = [write_clip(tmp_path / f"{i}.mp4") for i in range(3)]
    printed, real = [], module.read_views

    def read(path, *rest, **options):
        printed.append(capsys.readouterr().out)
        return real(path, *rest, **options)

    monkeypatch.setattr(module, "read_views", read)
    for flags in ([], ["--json"]):
        code, rest, _ = call("predict", adapter, *videos, "--batch-size", 1, *flags)
        assert code == 0 and printed[0] == ""
        for video, text in zip(videos, [*printed[1:], rest], strict=True):
            assert str(video) in text and text.count("\n") == 1
        printed.clear()


def test_a_terminal_gets_a_progress_bar_beside_the_results(call, adapter, tmp_path, monkeypatch):
    videos = [write_clip(tmp_path / f"{i}.mp4") for i in range(2)]
    _, expected, err = call("predict", adapter, *videos)
    assert err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes any stream for a terminal
    code, out, err = call("predict", adapter, *videos)
    assert code == 0 and out == expected and "predicting" in err and "2/2" in err and re.search(r"\d/s", err)


def test_a_bar_shows_its_title_as_it_is_and_ends_with_an_error(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(with_bar(iter("abc"), "[red]x[/red]", 3)) == ["a", "b", "c"]
    assert "[red]x[/red]" in capsys.readouterr().err

    def fails():
        yield 1
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        list(with_bar(fails(), "x", 2))


def shell(script, *arguments):
    """Run a shell script whose $@ is the command; returns (status, stdout, stderr)."""
    command = ["sh", "-c", script, "sh", *COMMAND, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_closed_streams_and_pipes_end_quietly():
    """Of the verbs, only these start fast."""
    gone = '{ "$@"; echo $? >&3; } 3>&2 | true'
    assert shell(gone, "--help")[1:] == ("", "141\n")
    assert shell(f"({gone}) 2>&1", "--version")[1] == "141\n"
    assert shell('{ "$@" 2>&1; echo $? >&3; } 3>&2 | true', "fly")[1:] == ("", "141\n")
    assert shell('exec "$@" 2>&-', "fly") == (2, "", "")
    assert shell('exec "$@" >&-', "--help") == (0, "", "")
    assert shell('exec "$@" <&- >&- 2>&-', "fly") == (2, "", "")
    if os.path.exists("/dev/full"):
        code, out, err = shell('exec "$@" >/dev/full', "--help")
        assert (code, out, err.count("\n")) == (1, "", 1) and "No space left on device" in err


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_a_bar_whose_terminal_is_gone_ends_the_doctor_quietly(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_clip(tmp_path / name / "0.mp4")
    script = '{ FORCE_COLOR=1 "$@" 2>&1 >/dev/null; echo $? >&3; } 3>&2 | true'
    assert shell(script, "doctor", tmp_path)[1:] == ("", "141\n")


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_a_json_document_is_all_of_stdout_though_stderr_is_closed(tmp_path):
    """The command prints two messages: on the views, and on the video that cannot be decoded."""
    options = {"weights": "random", "method": "linear", "size": 32, "frames": 2}
    Classifier.create("videomamba_nano", classes=["a", "b"], **options).save(tmp_path / "adapter")
    video, bad = write_clip(tmp_path / "0.mp4"), tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    script = 'exec "$@" 2>&-'
    code, out, err = shell(script, "predict", tmp_path / "adapter", video, bad, "--segments", 2, "--json")
    assert (code, err) == (3, "") and [json.loads(x)["error"] is None for x in out.splitlines()] == [
        True,
        False,
    ]
