"""`videossp watch` and `videossp.watch`: from a recording to segments, files and exit codes."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import av
import numpy as np
import pytest

import videossp
from conftest import SSP_SMALL, numbered_frames, switch_on, write_video
from videossp.classifier import Classifier
from videossp.data.clips import read_views
from videossp.data.datasets import Sample, read_data
from videossp.data.video import read_video
from videossp.errors import DataError
from videossp.training.config import TrainConfig
from videossp.training.video_seconds import mean_seconds
from videossp.watching.segmenter import Segmenter
from videossp.watching.watch import Watcher


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A recording of 10 s."""
    path = tmp_path_factory.mktemp("recording") / "a.mp4"
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 256, (20, 48, 64, 3), dtype=np.uint8), 6, 0)
    write_video(path, frames, rate=12, options={"g": "12"})
    return path


@pytest.fixture
def adapter(small_classifier, tmp_path):
    """The folder of an adapter whose training videos lasted 1 s."""
    small_classifier.video_seconds = 1.0
    small_classifier.save(tmp_path / "adapter")
    return tmp_path / "adapter"


def segments_of(out):
    return [json.loads(line) for line in out.splitlines()]


def test_segments_are_printed_and_written_and_the_same_in_python(call, adapter, recording, tmp_path):
    names = [tmp_path / f"out.{x}" for x in ("csv", "jsonl", "vtt", "eaf", "labelstudio.json")]
    outputs = [x for name in names for x in ("--output", name)]
    code, out, err = call(
        "watch",
        adapter,
        recording,
        "--nothing",
        50,
        "--join",
        "false",
        *outputs,
        "--video",
        tmp_path / "out.mp4",
    )
    assert code == 0 and "10 s, 120 frames, 37 windows" in err
    segments = segments_of(out)
    found = list(videossp.watch(videossp.load(adapter), recording, nothing=50, join=False))
    assert [x.record() for x in found] == segments and len(segments) == 10
    assert all(x.exists() for x in names) and names[1].read_text() == out
    assert segments[0]["start"] == 0 and segments[-1]["end"] == 10
    assert len(read_video(tmp_path / "out.mp4")) == 120
    assert sorted(x.name for x in tmp_path.iterdir()) == sorted(
        ["adapter", *(x.name for x in names), "out.mp4"]
    )
    # Each segment is a window, and its probability that of the cut.
    classifier = videossp.load(adapter)
    for x in segments:
        part = read_video(recording, x["start"], x["end"])
        scores = classifier.probabilities(read_views(part, classifier.clip_format))[0]
        assert classifier.classes[int(scores.argmax())] == x["label"]
        assert x["probability"] == pytest.approx(float(scores.max()), abs=2e-6)  # printed with six digits


def test_probabilities_of_all_windows_are_those_of_predict_on_the_cut(small_classifier, recording):
    watcher = Watcher(small_classifier, recording, windows=[1.0, 2.0], hop=1.0)
    seen, add = {}, watcher._add

    def spy(first, stop, scores):
        seen[first, stop] = scores[0]
        return add(first, stop, scores)

    watcher._add = spy
    list(watcher)
    assert len(seen) == 10 + 9
    for (first, stop), scores in seen.items():
        part = read_video(recording, first, stop)
        expected = small_classifier.probabilities(read_views(part, small_classifier.clip_format))[0]
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


def test_a_method_that_mixes_the_clips_of_a_batch_gets_one_window_at_a_time(small_classifier, recording):
    sizes = Counter()
    small_classifier.tuner.mixes_clips = True
    forward = small_classifier.forward
    small_classifier.forward = lambda x: sizes.update([len(x)]) or forward(x)
    list(videossp.watch(small_classifier, recording, windows=[4.0]))
    assert sizes == {1: 7}


def test_the_precision_against_true_segments_is_printed(call, adapter, recording, tmp_path):
    code, out, _ = call("watch", adapter, recording, "--nothing", 50, "--join", "false")
    rows = segments_of(out)
    truth = tmp_path / "truth.csv"
    with truth.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["start", "end", "label"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    code, out, err = call("watch", adapter, recording, "--nothing", 50, "--join", "false", "--truth", truth)
    perfect = pytest.approx({"0.3": 1.0, "0.5": 1.0, "0.7": 1.0})
    assert code == 0 and segments_of(out)[-1]["truth"]["map"] == perfect
    assert "average precision 100.0 % at 0.3, 100.0 % at 0.5, 100.0 % at 0.7" in err
    code, out, _ = call(
        "watch", adapter, recording, "--nothing", 50, "--join", "false", "--truth", truth, "--json"
    )
    summary = json.loads(out)
    assert summary["segments"] == rows and summary["truth"]["f1"] == {"0.5": 1.0}
    assert summary["windows"] == [1.0] and summary["hop"] == 0.25 and summary["error"] is None
    assert summary["counts"]["frames"] == 120 and summary["counts"]["windows"] == 37


def test_usage_errors_are_one_line_and_cost_no_work(call, adapter, recording, tmp_path, small_classifier):
    (tmp_path / "there.csv").write_text("mine")
    small_classifier.video_seconds = None
    small_classifier.save(tmp_path / "old")
    for arguments, words in (
        ([adapter, recording, "--output", tmp_path / "there.csv"], "exists; name a new file"),
        ([adapter, recording, "--output", tmp_path / "a.txt"], "the name must end in"),
        ([adapter, "-", "--video", tmp_path / "a.mp4"], "SOURCE a file"),
        ([adapter, recording, "--live", "on", "--video", tmp_path / "a.mp4"], "SOURCE a file"),
        ([adapter, recording, "--window", "2", "--hop", "0.3"], "no whole number of hops"),
        ([adapter, recording, "--nothing", "-1"], "at least 0"),
        ([tmp_path / "old", recording], "give the length of a window in seconds (--window)"),
    ):
        code, out, err = call("watch", *arguments)
        assert code == 2 and out == "" and words in err and err.count("\n") == 1, err
    code, _, err = call("watch", adapter, tmp_path / "none.mp4")
    assert code == 3 and "no such file" in err
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_a_source_without_a_frame_is_reported_and_leaves_no_files(call, adapter, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    names = [tmp_path / x for x in ("a.csv", "a.labelstudio.json")]
    outputs = [x for name in names for x in ("--output", name)]
    code, out, err = call("watch", adapter, tmp_path / "bad.mp4", *outputs, "--video", tmp_path / "a.mp4")
    assert code == 3 and out == "" and "bad.mp4: not a readable video" in err, err
    assert {x.name for x in tmp_path.iterdir()} == {"adapter", "bad.mp4"}


def test_several_windows_are_a_list(call, adapter, recording):
    code, out, _ = call("watch", adapter, recording, "--window", "1,2,4", "--hop", 1, "--json")
    assert code == 0 and json.loads(out)["windows"] == [1.0, 2.0, 4.0]


def test_a_file_that_is_damaged_midway_gives_its_segments_and_exit_code_3(call, adapter, recording, tmp_path):
    data = bytearray(recording.read_bytes())
    data[len(data) // 2 : len(data) // 2 + len(data) // 20] = bytes(len(data) // 20)
    (tmp_path / "bad.mp4").write_bytes(data)
    code, out, err = call(
        "watch",
        adapter,
        tmp_path / "bad.mp4",
        "--nothing",
        50,
        "--join",
        "false",
        "--output",
        tmp_path / "a.jsonl",
    )
    assert code == 3 and "damaged" in err and "windows left out" in err
    segments = segments_of(out)
    assert (tmp_path / "a.jsonl").read_text() == out and 5 < len(segments) < 10
    assert segments[0]["start"] < 1 and segments[-1]["end"] > 9


def test_a_truncated_file_is_watched_as_far_as_it_goes(call, adapter, recording, tmp_path):
    with av.open(str(recording)) as old, av.open(str(tmp_path / "whole.mkv"), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    flags = ["--nothing", 50, "--join", "false", "--output", tmp_path / "a.labelstudio.json"]
    code, out, err = call("watch", adapter, tmp_path / "cut.mkv", *flags, "--video", tmp_path / "a.mp4")
    assert code == 3 and "truncated" in err and "a.mp4: not written" in err, err
    assert "Label Studio needs their numbers" in err
    assert 3 < segments_of(out)[-1]["end"] < 7


def test_a_folder_of_frames_has_no_times(small_classifier, tmp_path):
    with av.open(str(tmp_path / "frame%02d.png"), "w", format="image2") as file:
        stream = file.add_stream("png", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        for pixels in numbered_frames(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
    with pytest.raises(DataError, match="no times"):
        list(videossp.watch(small_classifier, tmp_path, windows=[1.0]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_a_signal_ends_the_work_and_its_segments_are_kept(
    call, adapter, recording, tmp_path, monkeypatch, number
):
    """Also if it comes in the middle of the search for the best cut."""
    extend = Segmenter._extend

    def interrupted(self):
        if self._point == 50:  # of 100
            os.kill(os.getpid(), number)
        return extend(self)

    monkeypatch.setattr(Segmenter, "_extend", interrupted)
    outputs = ["--output", tmp_path / "a.jsonl", "--output", tmp_path / "a.csv"]
    settings = ["--hop", 0.1, "--nothing", 50, "--join", "false"]
    code, out, err = call("watch", adapter, recording, *settings, *outputs)
    assert code == 130 and "interrupted" in err and "Traceback" not in err
    assert (tmp_path / "a.jsonl").read_text() == out
    with (tmp_path / "a.csv").open(newline="") as file:
        assert len([*csv.DictReader(file)]) == len(segments_of(out)) >= 3
    assert 3 < segments_of(out)[-1]["end"] < 9
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_an_interruption_writes_whole_files_of_all_that_was_read(tmp_path, number):
    """On stdin, so that the test decides how much is read."""
    classifier = Classifier.create(
        "videomamba_nano", classes=["a", "b", "c"], method="ssp", size=32, **SSP_SMALL
    )
    switch_on(classifier)
    classifier.video_seconds = 1.0
    classifier.save(tmp_path / "adapter")
    with av.open(str(tmp_path / "a.ts"), "w") as file:
        stream = file.add_stream("mpeg2video", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i, pixels in enumerate(np.concatenate([numbered_frames(60)] * 5)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = i, 1 / stream.average_rate
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    flags = [
        "--nothing",
        "50",
        "--join",
        "false",
        "--output",
        "a.csv",
        "--output",
        "a.eaf",
        "--output",
        "a.jsonl",
    ]
    command = [sys.executable, "-m", "videossp", "watch", "adapter", "-", *flags]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as process:
        process.stdin.write((tmp_path / "a.ts").read_bytes())
        process.stdin.flush()
        first = process.stdout.readline()
        os.kill(process.pid, number)
        rest, err = process.stdout.read(), process.stderr.read().decode()
        assert process.wait(300) == 130, err
    lines = (first + rest).decode()
    assert (tmp_path / "a.jsonl").read_text() == lines
    assert json.loads(first)["start"] == 0 and "interrupted" in err and "Traceback" not in err
    with (tmp_path / "a.csv").open(newline="") as file:
        assert len([*csv.DictReader(file)]) == len(lines.splitlines())
    assert (tmp_path / "a.eaf").read_text().endswith("</ANNOTATION_DOCUMENT>\n")


def test_a_training_stores_how_long_its_videos_are(class_folder, small_backbone, tmp_path):
    data = read_data(class_folder)
    classifier = Classifier.create(small_backbone, classes=data.classes, method="linear")
    videossp.train(classifier, data, TrainConfig(epochs=1, batch_size=8), out=tmp_path / "run")
    assert classifier.video_seconds == 0.5  # six frames, 12 a second
    assert videossp.load(tmp_path / "run").video_seconds == 0.5
    config = json.loads((tmp_path / "run/adapter/adapter_config.json").read_text())
    assert config["video_seconds"] == 0.5
    del config["video_seconds"]
    (tmp_path / "run/adapter/adapter_config.json").write_text(json.dumps(config))
    assert videossp.load(tmp_path / "run").video_seconds is None


def test_the_mean_duration_is_that_of_parts_and_of_evenly_chosen_videos(tmp_path, recording):
    whole = Sample(str(recording), "a.mp4", 0)
    parts = [replace(whole, start=float(i), end=i + 1.5 + i / 2) for i in range(5)]
    assert mean_seconds([whole]) == 10.0
    assert mean_seconds(parts) == pytest.approx(np.mean([1.5 + i / 2 for i in range(5)]), abs=1e-3)
    assert mean_seconds([whole] * 300 + parts[:1] * 100, most=4) == pytest.approx((3 * 10 + 1.5) / 4)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    bad = Sample(str(tmp_path / "bad.mp4"), "bad.mp4", 0)
    assert mean_seconds([bad, whole]) == 10.0 and mean_seconds([bad]) is None and mean_seconds([]) is None
