"""Comparisons: which runs are made and which are reused, settings, failures, files."""

import csv
import io
import json
import math
import os
import pickle
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import videossp
from conftest import SSP_SMALL, published, write_video
from videossp.classifier import Classifier
from videossp.cli.main import main
from videossp.comparison import worker
from videossp.comparison.compare import compare
from videossp.comparison.intervals import student, wilson
from videossp.data.datasets import VideoDataset, read_data
from videossp.errors import DataError, VideoSSPWarning
from videossp.methods import METHODS, default_lr
from videossp.model.config import BACKBONES
from videossp.model.hooks import Tuner
from videossp.training.config import RENAMED, TrainConfig
from videossp.training.settings import differences

QUICK = TrainConfig(epochs=1, batch_size=8, lr=1e-2)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A checkpoint small enough to train in a test, which a new process can read too."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file({name: 0.2 * x for name, x in published().items()}, path)
    return str(path)


class Here:
    """In place of a separate process: makes the run in this one."""

    def __init__(self, command, **_):
        _, self.arguments = json.loads(command[-1])
        self.code, self.stdin = None, io.BytesIO()

    def wait(self):
        try:
            if self.code is None:
                self.code = worker.run_alone(pickle.loads(self.stdin.getvalue()), **self.arguments) or 0
        except SystemExit as end:
            self.code = end.code
        return self.code

    def kill(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(worker, "Popen", Here)


class Broken(Tuner):
    """Fails in a training with seed 1, or with every seed if `always`."""

    def __init__(self, spec, *, always: bool = True):
        super().__init__()
        self.fails = always or torch.initial_seed() == 1

    def edit_tokens(self, layer, tokens):
        if self.training and self.fails:
            raise RuntimeError("this method\nis broken")
        return tokens


def contents(folder):
    return {x: x.read_bytes() for x in sorted(folder.rglob("*")) if x.is_file() and x.name != ".lock"}


def figures(comparison):
    """The runs without their times and memory, which differ from one time to the next."""
    times = ("seconds_per_clip", "minutes", "memory_gb")
    return [{name: x for name, x in run.items() if name not in times} for run in comparison.runs]


def test_each_run_is_a_process_with_the_figures_of_its_classifier(weights, class_folder, tmp_path):
    big = np.ones(10**9, np.uint8)  # the peak of this process is not that of a run
    del big
    options = {"ssp+partial": {"ssp": SSP_SMALL}}
    out = tmp_path / "out"
    result = compare(
        class_folder,
        ["ssp+partial"],
        [3],
        TrainConfig(epochs=2, batch_size=8),
        out=out,
        backbone=weights,
        options=options,
        dropout=0.1,
    )
    (run,), (row,) = result.runs, result.rows
    assert run["error"] is None and run["videos"] == 8 and result.settings["evaluated_on"] == "test"
    classifier = Classifier.create(
        weights, classes=["bright", "dark"], method="ssp+partial", ssp=SSP_SMALL, seed=3
    )
    tuned = {name: x.numel() for name, x in classifier.trainable().items()}
    assert any(name.startswith("backbone.") for name in tuned)
    whole = sum(x.numel() for x in classifier.parameters())
    head = 32 + 2 * 32 + 2  # norm, weight and bias
    assert row["parameters"] == sum(tuned.values()) == row["method_parameters"] + head
    assert row["parameters_percent"] == 100 * row["parameters"] / whole
    assert 0.2 < row["memory_gb"] < 1.0
    folder = out / "ssp+partial-lr0.001-seed3"
    assert row["adapter_mb"] == (folder / "adapter" / "adapter_model.safetensors").stat().st_size / 1e6
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert row["seconds_per_clip"] == rows[1]["seconds_per_clip"] and run["val_top1"] in (0.5, 0.75, 1.0)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["dropout"] == 0.1 and config["ssp"]["heads"] == 4 and config["seed"] == 3
    samples = read_data(class_folder).splits["test"]
    loaded = videossp.load(folder)
    assert videossp.evaluate(loaded, samples).top(1) == run["top1"] == row["top1"]


def test_without_validation_the_test_split_is_reported_or_the_comparison_refused(
    in_process, weights, class_folder, tmp_path
):
    every, out = read_data(class_folder), tmp_path / "out"
    config = replace(QUICK, val_fraction=0)
    with pytest.raises(DataError, match="val_fraction 0 leaves no videos to measure accuracy on"):
        only = replace(every, splits={"train": every.splits["train"]})
        compare(only, ["linear"], [0], config, out=out, backbone=weights)
    with pytest.raises(ValueError, match="no validation to select from several learning rates"):
        compare(every, ["linear"], [0], config, out=out, backbone=weights, lrs=[0.1, 0.01])
    assert not out.exists()
    results = [compare(every, ["linear"], [0], config, out=out, backbone=weights) for _ in range(2)]
    (run,) = results[0].runs
    assert run["error"] is None and run["val_top1"] is None and run["videos"] == 8
    assert results[1].runs == [run]
    table = "\n".join(results[1].table())
    assert "note: val_fraction 0: no validation, the last epoch is kept" in table and "split test;" in table


def test_one_method_one_seed_and_one_rate_need_no_lists(in_process, weights, class_folder, tmp_path):
    options = {"out": tmp_path, "backbone": weights}
    result = compare(class_folder, "linear", np.int64(1), QUICK, lrs=0.1, **options)
    assert [(x["method"], x["seed"], x["lr"]) for x in result.runs] == [("linear", 1, 0.1)]
    assert result.methods == ("linear",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("linear", -1), "seed must be from 0 to 4294967295, got -1"),
        (("linear", [0, 2**32]), "seed must be from 0 to 4294967295, got 4294967296"),
        (("linear", "01"), "seed must be a whole number, got '0'"),
        (("linear", 0, QUICK, [0.1, math.inf]), "lr must be finite, got inf"),
    ],
)
def test_wrong_seeds_and_rates_are_refused_before_the_data_are_read(tmp_path, arguments, words):
    *positional, lrs = (*arguments, QUICK, ())[:4]
    with pytest.raises(ValueError, match=words):
        compare(tmp_path / "nowhere", *positional, lrs=lrs, out=tmp_path / "out", backbone="videomamba_nano")


def test_runs_use_the_given_videos_not_those_on_disk(weights, class_folder, tmp_path):
    every = read_data(class_folder)
    splits = {"train": every.splits["train"][2:12], "test": every.splits["test"][1:6]}
    result = compare(replace(every, splits=splits), ["linear"], [0], QUICK, out=tmp_path, backbone=weights)
    (run,) = result.runs
    assert (run["error"], run["videos"], result.settings["videos"]) == (None, 5, {"train": 10, "test": 5})
    (folder,) = tmp_path.glob("linear-*")
    with (folder / "split.csv").open() as file:
        used = [row["video"] for row in csv.DictReader(file)]
    assert sorted(used) == sorted(x.name for x in splits["train"])
    with pytest.raises(ValueError, match="run with other settings: videos.train: 10 before, 16 now"):
        compare(class_folder, ["linear"], [0], QUICK, out=tmp_path, backbone=weights)


def test_a_data_set_built_by_hand_is_compared_whatever_its_size(weights, class_folder, tmp_path):
    every = read_data(class_folder)
    missing = tuple(f"video {i}" for i in range(300_000))  # more than a command line can hold
    samples = VideoDataset(("light", "night"), every.splits, missing=missing)
    arguments = {"config": QUICK, "backbone": weights}
    result = compare(samples, ["linear"], [0], out=tmp_path / "hand", **arguments)
    assert videossp.load(tmp_path / "hand" / "linear-lr0.01-seed0").classes == ("light", "night")
    read = compare(class_folder, ["linear"], [0], out=tmp_path / "read", **arguments)
    assert figures(result) == figures(read) and read.runs[0]["error"] is None
    for other in (VideoDataset(("a", "b"), every.splits), moved(samples)):
        with pytest.raises(ValueError, match="run with other settings: data.sha256"):
            compare(other, ["linear"], [0], out=tmp_path / "hand", **arguments)


def moved(samples):
    """The same data set in another folder."""
    splits = {
        split: [replace(x, path=f"/elsewhere/{x.name}") for x in members]
        for split, members in samples.splits.items()
    }
    return replace(samples, splits=splits)


def test_a_process_that_ends_before_it_reads_its_data_is_a_failed_run(
    weights, class_folder, tmp_path, monkeypatch
):
    samples = replace(read_data(class_folder), missing=("x" * 10**7,))  # more than a pipe holds
    monkeypatch.setattr(worker, "CHILD", "raise SystemExit(3)")
    result = compare(samples, ["linear"], [0], QUICK, out=tmp_path, backbone=weights)
    assert result.runs[0]["error"] == "its process ended with exit code 3"


def test_a_resumed_comparison_repeats_no_finished_run_and_has_the_same_figures(
    weights, class_folder, tmp_path, in_process
):
    def run(name):
        return compare(class_folder, ["linear", "vpt"], [0, 1], QUICK, out=tmp_path / name, backbone=weights)

    whole = run("a")
    assert [(x["method"], x["seed"]) for x in whole.runs] == [
        ("linear", 0),
        ("vpt", 0),
        ("linear", 1),
        ("vpt", 1),
    ]
    before = contents(tmp_path / "a")
    (tmp_path / "a" / "vpt-lr0.01-seed0" / "result.json").unlink()  # as if stopped in the middle of it
    (tmp_path / "a" / "vpt-lr0.01-seed0" / "metrics.jsonl").write_text("torn")
    times = {x: x.stat().st_mtime_ns for x in before if x.exists()}
    again = run("a")
    assert figures(again) == figures(whole)
    after = contents(tmp_path / "a")
    assert after.keys() == before.keys()
    changed = {x.relative_to(tmp_path / "a").parts[0] for x in after if times.get(x) != x.stat().st_mtime_ns}
    assert changed == {"vpt-lr0.01-seed0", "results.json", "results.csv", "accuracy.png"}
    model = tmp_path / "a" / "vpt-lr0.01-seed0" / "adapter" / "adapter_model.safetensors"
    assert after[model] == before[model]
    assert run("a") == again  # nothing was left to do


def test_fewer_methods_and_seeds_reuse_the_runs_of_a_comparison(
    weights, class_folder, tmp_path, in_process, monkeypatch
):
    arguments = {"config": QUICK, "out": tmp_path, "backbone": weights}
    both = compare(class_folder, ["linear"], [0, 1], **arguments)
    monkeypatch.setattr(worker, "Popen", None)  # nothing may be started
    one = compare(class_folder, ["linear"], [1], **arguments)
    assert one.runs == both.runs[1:] and "Wilson, 8 videos" in one.rows[0]["interval"]
    assert compare(class_folder, ["linear"], [0, 1], **arguments) == both


def test_a_failed_run_is_reported_and_the_others_are_kept(
    weights, class_folder, tmp_path, in_process, monkeypatch, capsys
):
    monkeypatch.setitem(METHODS, "broken", Broken)
    out, flags = tmp_path / "out", ["--epochs", "1", "--backbone", weights]
    arguments = ["compare", str(class_folder), "--methods", "broken,linear", *flags, "--out", str(out)]
    assert main([*arguments, "--seeds", "0,1,2", "--broken.always=false"]) == 1
    stdout = capsys.readouterr().out
    assert "FAILED broken, lr 0.001, seed 1: RuntimeError: this method is broken" in stdout
    saved = json.loads((out / "results.json").read_text())
    assert [(row["method"], row["seeds"], row["failed"]) for row in saved["rows"]] == [
        ("broken", 2, 1),
        ("linear", 3, 0),
    ]
    assert saved["rows"][0]["interval"] == "Wilson, 8 videos + Student t, 2 seeds"
    assert any(line.split()[:5] == ["broken", "0.001", "2", "of", "3"] for line in stdout.splitlines())
    text = (out / "broken-lr0.001-seed1" / "error.txt").read_text()
    assert text.startswith("RuntimeError: this method is broken\n") and "in edit_tokens" in text

    monkeypatch.setattr(Broken, "edit_tokens", Tuner.edit_tokens)  # mended: only what failed is run
    kept = contents(out / "broken-lr0.001-seed0")
    assert main([*arguments, "--seeds", "0,1,2", "--broken.always=false", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["seeds"], row["failed"]) for row in rows] == [(3, 0), (3, 0)]
    assert (
        contents(out / "broken-lr0.001-seed0") == kept
        and not (out / "broken-lr0.001-seed1" / "error.txt").exists()
    )


def test_a_comparison_of_failures_only_has_a_table(weights, class_folder, tmp_path, in_process, monkeypatch):
    monkeypatch.setitem(METHODS, "broken", Broken)
    result = compare(class_folder, ["broken"], [0], QUICK, out=tmp_path, backbone=weights)
    assert result.rows[0]["top1"] is None and result.table()[1].split() == [
        "broken",
        "0.01",
        "0",
        "of",
        "1",
        *"-------",
    ]
    assert not (tmp_path / "accuracy.png").exists() and (tmp_path / "results.csv").exists()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", "its process was killed by SIGKILL (too little memory?)"),
        ("raise SystemExit(7)", "its process ended with exit code 7"),
    ],
)
def test_a_process_that_dies_is_reported(weights, class_folder, tmp_path, monkeypatch, code, reason):
    monkeypatch.setattr(worker, "CHILD", code)
    result = compare(class_folder, ["linear", "vpt"], [0], QUICK, out=tmp_path, backbone=weights)
    assert [run["error"] for run in result.runs] == [reason, reason]


def test_other_settings_are_refused_and_listed(weights, class_folder, tmp_path, in_process):
    out = tmp_path / "out"

    def run(methods, data=class_folder, config=QUICK, **change):
        return compare(data, methods, [0], config, out=out, backbone=weights, **change)

    run(["linear", "vpt"])
    before = contents(out)
    more = TrainConfig(epochs=3, batch_size=8, lr=1e-2)
    for methods, change, words in [
        (
            ["linear"],
            {"config": more},
            "linear-lr0.01-seed0 was run with other settings: training.epochs: 1 before, 3",
        ),
        (["affix"], {"config": more}, "training.epochs: 1 before, 3 now"),  # they would share a table
        (["linear"], {"frames": 2}, "classifier.frames: 4 before, 2 now"),
        (["vpt"], {"options": {"vpt": {"length": 2}}}, "vpt.length: 4 before, 2 now"),
    ]:
        with pytest.raises(ValueError, match=words):
            run(methods, **change)
    other = tmp_path / "other"
    for name, level in (("bright", 220), ("dark", 40)):
        for i in range(2):
            write_video(other / name / f"{i}.mp4", np.full((5, 32, 32, 3), level, np.uint8))
    with pytest.raises(ValueError, match=r"data: .* before, .*videos.train: 16 before, 4 now"):
        run(["linear"], data=other)
    # The same file name, other weights in it.
    content = Path(weights).read_bytes()
    try:
        save_file({name: 0.3 * x for name, x in published().items()}, weights)
        with pytest.raises(ValueError, match="backbone_sha256"):
            run(["linear"])
    finally:
        Path(weights).write_bytes(content)
    assert contents(out) == before
    run(["vpt"], options={"vpt": {"length": 4}})  # a default that is given is no other setting


def test_runs_of_another_kind_of_device_or_precision_are_refused(weights, class_folder, tmp_path, in_process):
    def run(**change):
        config = replace(QUICK, **change)
        return compare(class_folder, ["linear"], [0], config, out=tmp_path, backbone=weights)

    first = run(device="cpu")
    training = first.settings["training"]
    assert (training["device"], training["precision"]) == ("cpu", "float32")
    file = tmp_path / "linear-lr0.01-seed0" / "result.json"
    content = json.loads(file.read_text())

    def rewrite(**change):
        changed = {name: x for name, x in (training | change).items() if x != "left out"}
        file.write_text(json.dumps(content | {"settings": content["settings"] | {"training": changed}}))

    for change, words in [
        ({"device": "cuda"}, 'training.device: "cuda" before, "cpu" now'),
        ({"precision": "bf16"}, 'training.precision: "bf16" before, "float32" now'),
    ]:
        rewrite(**change)
        with pytest.raises(ValueError, match=words):
            run()
    rewrite(device="left out", precision="left out", workers=0)  # an older version
    assert run(workers=1, precision="float32").runs == first.runs


def test_device_and_precision_are_resolved_once_for_all_runs(
    weights, class_folder, tmp_path, in_process, monkeypatch
):
    """With a GPU that is there for the parent only."""
    told = []
    monkeypatch.setattr(worker, "run_alone", lambda samples, **arguments: told.append(arguments))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, device in (("auto", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")):
        config = replace(QUICK, device=name)
        compare(class_folder, ["linear"], [0], config, out=tmp_path / device, backbone=weights)
        training = told[-1]["settings"]["training"]
        assert told[-1]["device"] == device and training["device"] == device.partition(":")[0]
        assert training["precision"] == ("float32" if device == "cpu" else "bf16")


def test_another_annotation_of_as_many_videos_is_refused(weights, class_folder, tmp_path, in_process):
    videos = sorted(class_folder.rglob("*.mp4"))
    for round_, turned in enumerate((0, 1)):
        lines = [
            f"{x},{('bright', 'dark')[i // 2 % 2 ^ turned]},{('train', 'test')[i % 2]}"
            for i, x in enumerate(videos)
        ]
        (tmp_path / "a.csv").write_text("\n".join(["path,label,split", *lines]))
        if not round_:
            compare(tmp_path / "a.csv", ["linear"], [0], QUICK, out=tmp_path / "out", backbone=weights)
    with pytest.raises(ValueError, match="annotation.t"):
        compare(tmp_path / "a.csv", ["linear"], [0], QUICK, out=tmp_path / "out", backbone=weights)


def test_all_seeds_are_validated_on_the_same_videos(weights, class_folder, tmp_path, in_process):
    compare(class_folder, ["linear"], [0, 1], QUICK, out=tmp_path, backbone=weights)
    splits = {(tmp_path / f"linear-lr0.01-seed{x}" / "split.csv").read_text() for x in (0, 1)}
    assert len(splits) == 1 and "val" in splits.pop()


def test_the_table_notes_that_the_test_split_selected_the_epoch(weights, class_folder, tmp_path, in_process):
    config = TrainConfig(epochs=1, select_on="test")
    result = compare(class_folder, ["linear"], [0], config, out=tmp_path, backbone=weights)
    assert (
        "note: the epoch is selected on the TEST split, which gives an optimistically biased accuracy"
        in result.table()
    )


def test_differences_are_found_at_any_depth():
    assert differences({"a": {"b": 1, "c": [2]}}, {"a": {"b": 1, "c": [2]}}) == []
    assert differences({"a": {"b": 1}}, {"a": {"b": 2, "d": 3}}) == [
        "a.b: 1 before, 2 now",
        "a.d: null before, 3 now",
    ]


def test_nothing_but_an_unfinished_run_is_removed(weights, class_folder, tmp_path, in_process):
    def run():
        return compare(class_folder, ["linear"], [0], QUICK, out=tmp_path, backbone=weights)

    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not a comparison"):
        run()
    assert [x.name for x in tmp_path.iterdir()] == ["precious.txt"]
    (tmp_path / "precious.txt").unlink()
    run()
    (tmp_path / "linear-lr0.01-seed0" / "result.json").unlink()
    (tmp_path / "linear-lr0.01-seed0" / "config.yaml").write_text("method: linear\nlr: 0.1\nseed: 0\n")
    with pytest.raises(ValueError, match="is not an unfinished run of linear, lr 0.01, seed 0; move it away"):
        run()
    assert (tmp_path / "linear-lr0.01-seed0" / "adapter").exists()
    (tmp_path / "linear-lr0.01-seed0" / "result.json").write_text("{")
    with pytest.raises(ValueError, match=r"result.json: not readable; remove .*linear-lr0.01-seed0"):
        run()


def test_two_comparisons_do_not_share_a_folder(weights, class_folder, tmp_path, monkeypatch):
    def run():
        return compare(class_folder, ["linear"], [0], QUICK, out=tmp_path, backbone=weights)

    class Meanwhile(Here):
        def wait(self):
            with pytest.raises(ValueError, match="another comparison is running"):
                run()
            return super().wait()

    monkeypatch.setattr(worker, "Popen", Meanwhile)
    assert not run().failed and len(contents(tmp_path / "linear-lr0.01-seed0")) > 5
    assert not run().failed  # and it is free again


def test_without_a_test_split_the_accuracy_is_that_on_validation(weights, class_folder, tmp_path, in_process):
    data = class_folder / "train"
    result = compare(data, ["linear"], [0, 1], QUICK, out=tmp_path, backbone=weights)
    assert result.settings["evaluated_on"] == "val" and result.settings["videos"] == {"train": 16}
    assert all(run["top1"] == run["val_top1"] and run["videos"] == 4 for run in result.runs)
    assert any("split val, which also selected epoch and lr" in line for line in result.table())


def test_the_csv_and_the_json_agree_with_the_rows(weights, class_folder, tmp_path, in_process):
    result = compare(class_folder, ["linear", "vpt"], [0, 1], QUICK, out=tmp_path, backbone=weights)
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved == json.loads(json.dumps(result.summary()))
    assert set(saved) == {"methods", "seeds", "settings", "runs", "rows"}
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{name: "" if x is None else str(x) for name, x in row.items()} for row in saved["rows"]]
    assert saved["rows"][0]["difference"] is None
    hits = [
        [run["hits"].count("1") for run in saved["runs"] if run["method"] == x] for x in ("linear", "vpt")
    ]
    assert saved["rows"][1]["difference"] == pytest.approx((sum(hits[1]) - sum(hits[0])) / 16)
    tops = [run["top1"] for run in saved["runs"] if run["method"] == "vpt"]
    assert len(tops) == 2 and saved["rows"][1]["top1"] == pytest.approx(sum(tops) / 2)
    mean, half = sum(tops) / 2, student(tops)[1] - sum(tops) / 2
    low, high = wilson(mean, 8)
    low, high = max(0, mean - math.hypot(mean - low, half)), min(1, mean + math.hypot(high - mean, half))
    assert (saved["rows"][1]["top1_low"], saved["rows"][1]["top1_high"]) == pytest.approx((low, high))
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_with_several_rates_the_other_seeds_run_at_the_rate_that_the_first_selected(
    weights, class_folder, tmp_path, in_process, capsys
):
    flags = [
        "--methods",
        "linear,vpt",
        "--epochs",
        "1",
        "--backbone",
        weights,
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(["compare", str(class_folder), *flags, "--seeds", "0,1", "--lr", "0.01,0.0001"]) == 0
    saved = json.loads((tmp_path / "out" / "results.json").read_text())
    first = [(x["lr"], x["method"]) for x in saved["runs"] if x["seed"] == 0]
    assert first == [(0.01, "linear"), (0.01, "vpt"), (0.0001, "linear"), (0.0001, "vpt")]
    best = {}
    for run in sorted(saved["runs"], key=lambda x: (-x["val_loss"], x["val_top1"])):
        if run["seed"] == 0:
            best[run["method"]] = run["lr"]
    assert [(x["method"], x["lr"]) for x in saved["runs"] if x["seed"] == 1] == list(best.items()) or [
        (x["method"], x["lr"]) for x in saved["runs"] if x["seed"] == 1
    ] == list(reversed(best.items()))
    assert {x["method"]: x["lr"] for x in saved["rows"]} == best
    for run in saved["runs"]:
        folder = tmp_path / "out" / f"{run['method']}-lr{run['lr']}-seed{run['seed']}"
        assert yaml.safe_load((folder / "config.yaml").read_text())["lr"] == run["lr"]
    assert "run 6/6, vpt" in capsys.readouterr().err
    before = contents(tmp_path / "out")
    # One more rate: only that is run, and what it changes.
    assert main(["compare", str(class_folder), *flags, "--seeds", "0", "--lr", "0.01,0.0001,0.001"]) == 0
    after = contents(tmp_path / "out")
    runs = {x for x in before if x.name == "result.json"}
    new = {x.parent.name for x in after.keys() - before.keys()}
    assert all(after[x] == before[x] for x in runs)
    assert {x for x in new if "seed" in x} == {"linear-lr0.001-seed0", "vpt-lr0.001-seed0"}


def test_an_interrupt_stops_the_run_and_the_message_tells_how_to_resume(
    weights, class_folder, tmp_path, monkeypatch, capsys
):
    mark = tmp_path / "started"
    code = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    monkeypatch.setattr(worker, "CHILD", code)

    def press():
        deadline = time.monotonic() + 200
        while not (mark.exists() and mark.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    out = tmp_path / "out"
    arguments = ["compare", str(class_folder), "--methods", "linear", "--backbone", weights]
    started = time.monotonic()
    assert main([*arguments, "--out", str(out)]) == 130
    thread.join()
    assert time.monotonic() - started < 300
    assert f"interrupted; the same command with --out {out} resumes" in capsys.readouterr().err
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_a_comparison_without_out_gets_the_next_free_number(
    weights, class_folder, tmp_path, in_process, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    flags = ["--methods", "[linear]", "--seeds", "[4]", "--epochs", "1", "--backbone", weights]
    for _ in range(2):
        assert main(["compare", str(class_folder), *flags]) == 0
    stdout = capsys.readouterr().out
    names = sorted(x.name for x in (tmp_path / "runs").iterdir())
    assert names == [f"compare-{class_folder.name}-{i}" for i in (1, 2)]
    assert "linear" in stdout and f"runs/{names[1]} has results.json, results.csv and accuracy.png" in stdout


SMALL_NANO = {"backbone": "videomamba_nano", "size": 32, "frames": 2}


def test_without_a_rate_each_method_trains_at_its_default(class_folder, tmp_path, in_process, monkeypatch):
    methods, config = ["linear", "attentive"], TrainConfig(epochs=1, batch_size=8)
    result = compare(class_folder, methods, [0, 1], config, out=tmp_path, **SMALL_NANO)
    nano = BACKBONES["videomamba_nano"]
    expected = {method: default_lr(method, nano) for method in methods}
    assert len(set(expected.values())) == 2
    assert {(run["method"], run["lr"]) for run in result.runs} == set(expected.items())
    assert len(result.runs) == 4 and {row["method"]: row["lr"] for row in result.rows} == expected
    assert [line.split()[1] for line in result.table()[1:3]] == [f"{lr:g}" for lr in expected.values()]
    assert any(line.startswith("lr: the default of each method; ") for line in result.table())
    for method, lr in expected.items():
        config_file = tmp_path / f"{method}-lr{lr}-seed0" / "config.yaml"
        assert yaml.safe_load(config_file.read_text())["lr"] == lr
    monkeypatch.setattr(worker, "Popen", None)  # nothing may be started
    assert compare(class_folder, methods, [0, 1], config, out=tmp_path, **SMALL_NANO) == result
    one = compare(class_folder, ["linear"], [0], config, out=tmp_path, lrs=[expected["linear"]], **SMALL_NANO)
    assert one.runs == result.runs[:1]


def test_a_rate_that_is_given_holds_for_all_methods(class_folder, tmp_path, in_process):
    config = TrainConfig(epochs=1, batch_size=8, lr=0.02)
    for out, change in (("a", {"config": config}), ("b", {"config": QUICK, "lrs": [0.02]})):
        result = compare(
            class_folder, ["linear", "attentive"], [0], out=tmp_path / out, **change, **SMALL_NANO
        )
        assert [row["lr"] for row in result.rows] == [0.02, 0.02]
        assert any(line.startswith("lr: the same for all methods; ") for line in result.table())


def test_a_comparison_of_an_older_version_resumes(weights, class_folder, tmp_path, in_process, monkeypatch):
    arguments = {"config": QUICK, "out": tmp_path, "backbone": weights}
    before = compare(class_folder, ["linear", "partial"], [0], **arguments)
    for path in tmp_path.glob("*/result.json"):
        run = json.loads(path.read_text())
        training = run["settings"]["training"]
        for old, new in RENAMED.items():
            training[old] = training.pop(new)
        training.pop("features_limit", None)  # a field that did not exist yet
        run["settings"]["notes"] = ["in other words"]
        path.write_text(json.dumps(run))
    monkeypatch.setattr(worker, "Popen", None)  # nothing may be started
    assert compare(class_folder, ["linear", "partial"], [0], **arguments).runs == before.runs
    with pytest.raises(ValueError, match="training.crop_scale: .* before, .* now"):
        arguments["config"] = replace(QUICK, crop_scale=(0.1, 1.0))
        compare(class_folder, ["linear"], [0], **arguments)


def test_warnings_of_a_comparison_are_issued_once(class_folder, tmp_path, in_process, capsys):
    text = "the epoch is selected on the TEST split"
    flags = ["--weights", "random", "--backbone", "videomamba_nano", "--size", "32", "--frames", "2"]
    flags += ["--epochs", "1", "--select-on", "test", "--lr", "0.01", "--out", str(tmp_path / "out")]
    assert main(["compare", str(class_folder), "--methods", "linear,mean", "--seeds", "0", *flags]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if text in line]
    assert len(lines) == 1 and lines[0].startswith("videossp: ")
    config = TrainConfig(epochs=1, select_on="test", lr=0.01)
    with pytest.warns(VideoSSPWarning, match=text):
        compare(class_folder, ["linear"], [0], config, out=tmp_path / "python", **SMALL_NANO)
