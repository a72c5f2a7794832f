"""Comparisons: what is run and what is not, what a row says, what becomes of failures."""

import csv
import json
import math
import os
import signal
import threading
import time
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
from videossp.comparison.intervals import quantile, student, wilson
from videossp.comparison.results import Comparison, difference
from videossp.data.datasets import read_data
from videossp.methods import METHODS
from videossp.model.hooks import Tuner
from videossp.reporting.figures import draw_comparison
from videossp.training.config import TrainConfig
from videossp.training.settings import differences

QUICK = TrainConfig(epochs=1, batch_size=8, lr=1e-2)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A checkpoint small enough to train in a test, which a new process can read too."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file({name: 0.2 * x for name, x in published().items()}, path)
    return str(path)


class Here:
    """Stands for a process of its own: makes the run in this one."""

    def __init__(self, command, **_):
        _, self.job = json.loads(command[-1])
        self.code = None

    def wait(self):
        try:
            if self.code is None:
                self.code = worker.run_alone(**self.job) or 0
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
    """The runs without what differs from one time to the next."""
    times = ("seconds_per_clip", "minutes", "memory_gb")
    return [{name: x for name, x in run.items() if name not in times} for run in comparison.runs]


def test_the_quantiles_are_those_of_students_t():
    for freedom in (*range(1, 35), 60, 120):
        t = np.linspace(-quantile(freedom), quantile(freedom), 200_001)
        peak = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
        inside = np.trapezoid(peak * (1 + t**2 / freedom) ** (-(freedom + 1) / 2), t)
        assert inside == pytest.approx(0.95, abs=5e-5)


def test_the_interval_of_a_mean_is_that_of_the_textbook():
    # mean 0.6, standard deviation 0.1, 2 degrees of freedom: 4.303 * 0.1 / sqrt(3) = 0.24843
    assert student([0.5, 0.6, 0.7]) == pytest.approx((0.35157, 0.84843), abs=1e-5)
    many = [0.0, 1.0] * 50  # 99 degrees of freedom: 1.9842 * sqrt(0.25 * 100 / 99) / 10
    assert student(many)[1] == pytest.approx(0.5 + 1.9842 * math.sqrt(0.25 * 100 / 99) / 10, abs=1e-5)


def test_the_interval_of_a_share_is_wilsons():
    assert wilson(0.8, 10) == pytest.approx((0.49016, 0.94332), abs=2e-5)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.27754), abs=2e-5)
    for count in range(1, 50):
        assert wilson(1.0, count)[1] == 1.0 and wilson(0.0, count)[0] == 0.0


def test_each_run_is_a_process_of_its_own_with_the_figures_of_its_classifier(weights, class_folder, tmp_path):
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


def test_finished_runs_are_not_run_again_and_a_resumed_comparison_equals_a_whole_one(
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


def test_fewer_methods_and_seeds_are_a_part_of_the_same_comparison(
    weights, class_folder, tmp_path, in_process, monkeypatch
):
    arguments = {"config": QUICK, "out": tmp_path, "backbone": weights}
    both = compare(class_folder, ["linear"], [0, 1], **arguments)
    monkeypatch.setattr(worker, "Popen", None)  # nothing may be started
    one = compare(class_folder, ["linear"], [1], **arguments)
    assert one.runs == both.runs[1:] and "Wilson, 8 videos" in one.rows[0]["interval"]
    assert compare(class_folder, ["linear"], [0, 1], **arguments) == both


def test_a_failed_run_is_named_and_the_others_are_kept(
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
        ("import os; os.kill(os.getpid(), 9)", "its process was killed by SIGKILL, for want of memory?"),
        ("raise SystemExit(7)", "its process ended with exit code 7"),
    ],
)
def test_a_process_that_dies_is_named(weights, class_folder, tmp_path, monkeypatch, code, reason):
    monkeypatch.setattr(worker, "CHILD", code)
    result = compare(class_folder, ["linear", "vpt"], [0], QUICK, out=tmp_path, backbone=weights)
    assert [run["error"] for run in result.runs] == [reason, reason]


def test_other_settings_are_refused_and_named(weights, class_folder, tmp_path, in_process):
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
        (["vpt"], {"options": {"vpt": {"length": 2}}}, "vpt.length: 80 before, 2 now"),
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
    run(["vpt"], options={"vpt": {"length": 80}})  # a default that is given is no other setting


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


def test_the_table_says_that_the_test_split_chose_the_epoch(weights, class_folder, tmp_path, in_process):
    config = TrainConfig(epochs=1, select_on="test")
    result = compare(class_folder, ["linear"], [0], config, out=tmp_path, backbone=weights)
    assert (
        "note: the epoch is selected on the TEST split, so the accuracy on it is too good" in result.table()
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


def test_without_a_test_split_the_validation_split_counts_and_the_table_says_so(
    weights, class_folder, tmp_path, in_process
):
    data = class_folder / "train"
    result = compare(data, ["linear"], [0, 1], QUICK, out=tmp_path, backbone=weights)
    assert result.settings["evaluated_on"] == "val" and result.settings["videos"] == {"train": 16}
    assert all(run["top1"] == run["val_top1"] and run["videos"] == 4 for run in result.runs)
    assert any("split val, which also chose epoch and lr" in line for line in result.table())


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


def test_a_row_takes_the_mean_of_times_and_the_largest_memory():
    shared = {"method": "x", "lr": 0.01, "error": None, "videos": 20, "parameters": 50, "all_parameters": 200}
    shared |= {"method_parameters": 40, "adapter_mb": 1.5, "val_top1": 0.5, "val_loss": 1.0}
    runs = [
        {**shared, "seed": 0, "top1": 0.59, "seconds_per_clip": 1.0, "memory_gb": 3.0},
        {**shared, "seed": 1, "top1": 0.61, "seconds_per_clip": 2.0, "memory_gb": 2.0},
        {"method": "x", "lr": 0.01, "seed": 2, "error": "RuntimeError: no"},
    ]
    result = Comparison(("x",), (0, 1, 2), {"evaluated_on": "test"}, runs)
    assert result.rows == [
        {
            "method": "x",
            "seeds": 2,
            "failed": 1,
            "lr": 0.01,
            "parameters": 50,
            "parameters_m": 5e-5,
            "parameters_percent": 25.0,
            "method_parameters": 40,
            "top1": pytest.approx(0.6),
            # Of 0.59 and 0.61 the standard deviation is 0.01414: 12.706 x 0.01. Wilson's, of 12 in 20, is
            # 0.38658 to 0.78119.
            "top1_low": pytest.approx(0.6 - math.hypot(0.12706, 0.6 - 0.38658), abs=1e-5),
            "top1_high": pytest.approx(0.6 + math.hypot(0.12706, 0.78119 - 0.6), abs=1e-5),
            "interval": "Wilson, 20 videos + Student t, 2 seeds",
            "difference": None,
            "difference_low": None,
            "difference_high": None,
            "seconds_per_clip": 1.5,
            "memory_gb": 3.0,
            "adapter_mb": 1.5,
        }
    ]
    said = " ".join(result.table()[1].split())
    assert said == "x 0.01 2 of 3 0.0001 25.000 60.0 (35.2 to 82.1) 1.500 3.00 1.500"


def test_a_difference_is_paired_by_seed_and_video():
    def run(seed, hits):
        return {"seed": seed, "hits": hits}

    ours, theirs = [run(0, "1110"), run(1, "1100"), run(7, "0000")], [run(1, "0100"), run(0, "1001")]
    mean, low, high = difference(ours, theirs)
    # By video 0.5, 0.5, 0.5, -0.5, and of the two added 1, 0, 0, -1, half of each: of 6 the mean is 1/6, that
    # of the squares 2/6. By seed 0.25 and 0.25: no spread.
    half = 1.96 * math.sqrt((2 / 6 - 1 / 36) / 6)
    assert (mean, low, high) == pytest.approx((0.25, 1 / 6 - half, 1 / 6 + half))
    # Seeds that disagree, 0.5 and 0: 12.706 x 0.3536 / root of 2; by video 0, 0.5, 0.5, 0.
    _, _, high = difference([run(0, "1110"), run(1, "1100")], [run(0, "1000"), run(1, "1100")])
    over_videos = 1 / 6 + 1.96 * math.sqrt((1.5 / 6 - 1 / 36) / 6)
    assert high == pytest.approx(0.25 + math.hypot(12.706 * 0.25, over_videos - 0.25))
    assert difference([run(0, "1")], [run(1, "1")]) is None
    assert difference([{"seed": 0}], theirs) is None


def test_methods_that_never_disagree_are_not_equal_for_sure():
    hits = [{"seed": 0, "hits": "1" * 20}]
    # Of 20 videos none speaks for either: 1.96 x the root of 1/22 over the root of 22.
    assert difference(hits, hits) == pytest.approx((0.0, -1.96 / 22, 1.96 / 22))
    worse = [{"seed": 0, "hits": "0" * 20}]
    mean, low, high = difference(hits, worse)
    assert mean == 1 and low < 0.8 and high > 1


def one_of(method, lr, seed, val_top1, val_loss, hits="1100"):
    """A run as far as a row needs it."""
    figures = dict.fromkeys(("parameters", "all_parameters", "method_parameters"), 1)
    figures |= dict.fromkeys(("seconds_per_clip", "memory_gb", "adapter_mb"), 1.0)
    top1 = hits.count("1") / len(hits)
    run = {"method": method, "lr": lr, "seed": seed, "error": None, "videos": len(hits), "hits": hits}
    return run | figures | {"top1": top1, "val_top1": val_top1, "val_loss": val_loss}


def test_the_rate_is_chosen_by_validation_alone_and_with_the_first_seed():
    runs = [
        one_of("x", 0.001, 0, 0.7, 0.5, hits="1111"),  # best on test, which must not matter
        one_of("x", 0.003, 0, 0.7, 0.4),
        one_of("x", 0.01, 0, 0.8, 0.4, hits="0001"),  # the same loss, more accurate
        one_of("x", 0.03, 0, 0.8, 0.4, hits="1111"),  # the same: the smaller rate
        one_of("x", 0.1, 0, 0.9, 0.6),  # most accurate, but not by the loss
        one_of("x", 0.001, 1, 1.0, 0.0, hits="1111"),  # of another seed
        one_of("x", 0.01, 1, 0.1, 2.0, hits="0011"),
        one_of("y", 0.001, 0, 0.2, 0.5, hits="1111"),
        {"method": "y", "lr": 0.003, "seed": 0, "error": "FloatingPointError: no"},
    ]
    result = Comparison(("x", "y"), (0, 1), {"evaluated_on": "test"}, runs)
    x, y = result.rows
    assert (x["lr"], x["seeds"], x["top1"]) == (0.01, 2, pytest.approx(3 / 8))
    assert (y["lr"], y["seeds"], y["failed"], y["top1"]) == (0.001, 1, 0, 1.0)
    assert y["difference"] == 0.75  # to seed 0 of x at 0.01
    said = result.table()
    for row, line in zip(result.rows, said[1:], strict=False):
        low, high = (100 * row[f"top1_{end}"] for end in ("low", "high"))
        assert f" ({low:.1f} to {high:.1f})" in line
    low, high = (100 * y[f"difference_{end}"] for end in ("low", "high"))
    assert f"+75.0 ({low:+.1f} to {high:+.1f})" in said[2]
    assert [line.split()[1] for line in said[1:3]] == ["0.01", "0.001"]
    assert "FAILED y, lr 0.003, seed 0: FloatingPointError: no" in said
    assert said[-1] == (
        "lr: least loss of 0.001, 0.003, 0.01, 0.03, 0.1 on the split that chose the epoch, with seed 0; "
        "at an end of these: y, so try further ones"
    )
    assert "one for all" in Comparison(("y",), (0,), {"evaluated_on": "test"}, runs[7:8]).table()[-1]
    none_good = Comparison(("y",), (0,), {"evaluated_on": "test"}, runs[8:])
    assert none_good.rows[0]["lr"] == 0.003 and none_good.rows[0]["failed"] == 1


def test_of_several_rates_the_first_seed_runs_all_and_the_others_the_chosen_one(
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


def test_seeds_that_agree_do_not_make_an_interval_of_nothing():
    shared = {
        "method": "x",
        "lr": 0.01,
        "error": None,
        "videos": 20,
        "parameters": 50,
        "all_parameters": 200,
        "top1": 0.8,
        "val_top1": 0.5,
        "val_loss": 1.0,
    }
    shared |= {"method_parameters": 40, "adapter_mb": 1.5, "seconds_per_clip": 1.0, "memory_gb": 3.0}
    result = Comparison(("x",), (0, 1), {"evaluated_on": "test"}, [{**shared, "seed": x} for x in (0, 1)])
    (row,) = result.rows
    assert (row["top1_low"], row["top1_high"]) == pytest.approx(wilson(0.8, 20))
    assert "80.0 (58.4 to 91.9)" in result.table()[1]


def test_an_interrupt_stops_the_run_and_says_how_to_go_on(
    weights, class_folder, tmp_path, monkeypatch, capsys
):
    mark = tmp_path / "started"
    code = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    monkeypatch.setattr(worker, "CHILD", code)

    def press():
        while not (mark.exists() and mark.read_text()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    out = tmp_path / "out"
    arguments = ["compare", str(class_folder), "--methods", "linear", "--backbone", weights]
    started = time.monotonic()
    assert main([*arguments, "--out", str(out)]) == 130
    thread.join()
    assert time.monotonic() - started < 30
    assert f"interrupted; the same command with --out {out} goes on" in capsys.readouterr().err
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_a_comparison_without_a_name_gets_the_next_free_number(
    weights, class_folder, tmp_path, in_process, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    flags = ["--methods", "[linear]", "--seeds", "[4]", "--epochs", "1", "--backbone", weights]
    for _ in range(2):
        assert main(["compare", str(class_folder), *flags]) == 0
    stdout = capsys.readouterr().out
    names = sorted(x.name for x in (tmp_path / "runs").iterdir())
    assert names == [f"compare-{class_folder.name}-{i}" for i in (1, 2)]
    assert "linear" in stdout and f"figures and picture in runs/{names[1]}" in stdout


def test_the_names_of_close_points_do_not_overlap(tmp_path, monkeypatch):
    module, boxes = __import__("videossp.reporting.figures", fromlist=["pictures"]), []
    real = module.place_name

    def spy(*arguments, **things):
        box = real(*arguments, **things)
        assert not box.count_overlaps([*things["blocked"], *things["busy"]])
        boxes.append(box)
        return box

    monkeypatch.setattr(module, "place_name", spy)
    rows = [
        {"method": name, "parameters_m": 2 + 0.01 * i, "top1": 0.9, "top1_low": 0.88, "top1_high": 0.92}
        for i, name in enumerate(METHODS)
    ]
    draw_comparison([*rows, {"method": "failed", "top1": None}], tmp_path / "a.png")
    assert len(boxes) == len(METHODS) and all(box.count_overlaps(boxes) == 1 for box in boxes)
