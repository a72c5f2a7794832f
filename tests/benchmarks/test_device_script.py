"""benchmarks/device.py in a dry run: every stage, what a second run repeats, and what counts as wrong."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from videossp.model.config import BACKBONES

SCRIPT = Path(__file__).parents[2] / "benchmarks/device.py"
STAGES = ["machine", "correctness", "scan", "around", "model", "frames", "videomae"]


@pytest.fixture
def script(monkeypatch):
    """The script as it is with --dry, which it reads when it is loaded."""
    monkeypatch.setattr(sys, "argv", ["device.py", "--dry"])
    monkeypatch.setitem(BACKBONES, "videomamba_middle", BACKBONES["videomamba_middle"])  # restored afterwards
    spec = importlib.util.spec_from_file_location("device_dry_run", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def measure(script, monkeypatch, tmp_path):
    """Do some stages. Returns the exit code, and the rows by stage."""

    def run(*stages, seconds=300):
        path = tmp_path / "device.json"
        arguments = ["device.py", "--dry", "--out", str(path), "--seconds", str(seconds), "--only", *stages]
        monkeypatch.setattr(sys, "argv", arguments)
        code = script.main()
        return code, json.loads(path.read_text())["stages"]

    return run


@pytest.mark.parametrize("stages", [["machine", "around"], STAGES], ids="+".join)
def test_every_stage_measures_something_and_only_once(measure, capsys, stages):
    code, rows = measure(*stages)
    failed = {
        name: x for stage in rows.values() for name, x in stage.items() if "error" in x or "left out" in x
    }
    assert (code, failed) == (0, {})
    expected = [x for x in stages if x != "videomae" or importlib.util.find_spec("transformers")]
    assert list(rows) == expected
    capsys.readouterr()
    assert measure(*stages) == (0, rows)
    assert not [x for x in capsys.readouterr().out.splitlines() if "median" in x or "ms" in x]


def test_rows_that_failed_or_were_left_out_are_done_again_and_others_are_not(script, tmp_path):
    done = []

    def work(name, problem=None):
        done.append(name)
        if problem:
            raise problem
        return {"value": 1.0}

    for seconds, problem in ((100, ValueError("no")), (0, None), (100, None)):
        report = script.Report(tmp_path / "x.json", seconds)
        report.stage = "scan"
        report.row("good", lambda: work("good"), 10)
        report.row("bad", lambda problem=problem: work("bad", problem), 10)
        report.row("late", lambda: work("late"), 200 if seconds else 10)
        assert report.failed == (["bad"] if problem else [])
    assert done == ["good", "bad", "bad"]
    rows = json.loads((tmp_path / "x.json").read_text())["stages"]["scan"]
    assert rows["good"]["value"] == rows["bad"]["value"] == 1.0
    assert rows["late"]["left out"].endswith("may need 200")


def test_rows_of_another_machine_are_not_kept(script, monkeypatch, tmp_path):
    for name in ("one", "other"):
        monkeypatch.setattr(script, "machine", lambda name=name: {"device": name})
        report = script.Report(tmp_path / "x.json", 100)
        assert report.data["stages"] == {}
        report.row("row", dict)
    assert json.loads((tmp_path / "x.json").read_text())["machine"] == {"device": "other"}


def test_a_kernel_that_is_wrong_random_or_leaves_memory_unwritten_fails(script):
    def silent(x):  # new_empty is NaN while kernels are compared
        out = x.new_empty(x.shape)
        out[0] = x[0].detach()
        return out + x - x

    wrong = {
        "right": (lambda x: 2 * x, True),
        "wrong": (lambda x: 2.001 * x, False),
        "random": (lambda x: 2 * x + 1e-6 * torch.rand_like(x), False),
        "unwritten": (silent, False),
    }
    x = torch.linspace(-1, 1, 12).reshape(3, 4)
    for name, (function, right) in wrong.items():
        result = script.compare(function, lambda x: 2 * x, [x], "float32")
        assert result["right"] is right, name
        if right:
            assert script.checked({name: result})["worst"] < 1e-6
        else:
            with pytest.raises(ArithmeticError, match=name):
                script.checked({name: result})


@pytest.mark.parametrize("ahead", [False, True])
def test_times_on_a_gpu_are_those_between_events(script, monkeypatch, ahead):
    """With a clock in place of a GPU: each run takes a millisecond more than the one before."""
    now, slept, runs = [0.0], [], []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = now[0]

        def elapsed_time(self, after):
            return after.at - self.at

    def work():
        runs.append(len(runs))
        now[0] += len(runs)

    monkeypatch.setattr(script, "DEVICE", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "_sleep", slept.append)
    found = script.timed(work, budget=1e-9, least=5, ahead=ahead)
    assert found == {"median": 6, "min": 4, "max": 8, "runs": 5}  # after two to warm up and one to plan
    assert len(slept) == ahead
