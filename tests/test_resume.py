"""A run that is interrupted, killed or damaged goes on to the same weights and figures as a quiet one."""

import json
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import SSP_SMALL
from videossp.classifier import Classifier
from videossp.loop import Loop
from videossp.plan import TrainConfig
from videossp.state import found_states, load_state, save_state
from videossp.train import train

# All that is drawn or accumulated over steps: dropout, stochastic depth, mixing, averaging, batches.
CONFIG = TrainConfig(
    epochs=3,
    batch_size=2,
    accumulate=2,
    lr=1e-2,
    seed=1,
    num_sample=2,
    rand_augment="rand-m5-n2-mstd0.5-inc1",
    erasing=0.3,
    mixup=0.5,
    cutmix=0.5,
    ema=0.9,
    clip_grad=1.0,
    save_minutes=0,  # a checkpoint after each step
)
TIMES = ("seconds", "seconds_per_clip", "data_wait")


def make(backbone):
    options = {"drop_path": 0.3, "dropout": 0.3, **SSP_SMALL}
    return Classifier.create(backbone, classes=["bright", "dark"], **options)


def outcome(folder):
    """The weights of the adapter and the figures of the epochs, without times."""
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return weights, [{name: x for name, x in row.items() if name not in TIMES} for row in rows]


def assert_same(folder, quiet):
    (weights, rows), (expected, history) = outcome(folder), outcome(quiet)
    assert rows == history
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], x) for name, x in expected.items())


@pytest.fixture
def quiet(small_backbone, class_folder, tmp_path):
    """The run that nothing interrupts."""
    train(make(small_backbone), class_folder, CONFIG, out=tmp_path / "quiet")
    return tmp_path / "quiet"


class Break(Exception):
    pass


def break_at(monkeypatch, step):
    """The training fails in the forward pass of this step."""
    real = Loop.loss

    def loss(self, batch, number):
        if self.step == step:
            raise Break
        return real(self, batch, number)

    monkeypatch.setattr(Loop, "loss", loss)


def test_a_run_broken_twice_ends_like_a_quiet_one(quiet, small_backbone, class_folder, tmp_path, monkeypatch):
    """In the middle of the first epoch, and at the beginning of the third (three steps each)."""
    run = tmp_path / "run"
    for step in (1, 6):
        with monkeypatch.context() as patch, pytest.raises(Break):
            break_at(patch, step)
            train(make(small_backbone), class_folder, CONFIG, out=run, resume=step > 1)
        assert found_states(run / "checkpoints")[0][0] == step
    result = train(make(small_backbone), class_folder, CONFIG, out=run, resume=True)
    assert_same(run, quiet)
    assert result.best in result.history and len(result.history) == 3
    assert not found_states(run / "checkpoints")
    with pytest.raises(ValueError, match="finished, all 3 epochs"):
        train(make(small_backbone), class_folder, CONFIG, out=run, resume=True)


def test_workers_and_their_number_change_nothing(quiet, small_backbone, class_folder, tmp_path):
    config = TrainConfig(**CONFIG.__dict__ | {"workers": 2})
    train(make(small_backbone), class_folder, config, out=tmp_path / "workers")
    assert_same(tmp_path / "workers", quiet)


def test_a_damaged_checkpoint_is_said_and_the_one_before_is_taken(
    quiet, small_backbone, class_folder, tmp_path, monkeypatch, capsys
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Break):
        break_at(patch, 5)
        train(make(small_backbone), class_folder, CONFIG, out=run)
    (_, newest), (_, before) = found_states(run / "checkpoints")
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    train(make(small_backbone), class_folder, CONFIG, out=run, resume=True, progress=True)
    said = capsys.readouterr().err
    assert f"{newest.name}: damaged, left out" in said.replace("\n", "")
    assert f"goes on after step {int(before.name.split('-')[1])}" in said
    assert_same(run, quiet)


def test_a_checkpoint_of_another_training_is_refused(small_backbone, class_folder, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Break):
        break_at(patch, 2)
        train(make(small_backbone), class_folder, CONFIG, out=run)
    other = TrainConfig(**CONFIG.__dict__ | {"lr": 0.5})
    with pytest.raises(ValueError, match=r"of another training: lr: 0\.01 there, 0\.5 here"):
        train(make(small_backbone), class_folder, other, out=run, resume=True)
    with pytest.raises(ValueError, match="no such run folder"):
        train(make(small_backbone), class_folder, CONFIG, out=tmp_path / "none", resume=True)


def test_the_newest_two_checkpoints_are_kept_and_come_back(tmp_path):
    tensors = {"a": torch.randn(3), "b/c": torch.arange(4)}
    for step in (1, 2, 3):
        save_state(tmp_path, step, {**tensors, "step": torch.tensor(step)}, {"step": step, "x": [0.1]})
    assert [step for step, _ in found_states(tmp_path)] == [3, 2] and len(list(tmp_path.iterdir())) == 2
    found, facts = load_state(tmp_path, pytest.fail)
    assert facts == {"step": 3, "x": [0.1]} and torch.equal(found["a"], tensors["a"])
    assert load_state(tmp_path / "none", pytest.fail) is None


def child(backbone, data, out, config):
    """A training in a process of its own."""
    torch.set_num_threads(2)
    resume = (out / "config.yaml").is_file()
    train(make(backbone), data, config, out=out, resume=resume)


def test_twenty_kills_at_random_moments_change_nothing(small_backbone, class_folder, tmp_path, monkeypatch):
    """SIGKILL: nothing can be tidied up. Files half written, a lock held, an epoch half validated."""
    config = TrainConfig(**CONFIG.__dict__ | {"epochs": 16})
    train(make(small_backbone), class_folder, config, out=tmp_path / "quiet")
    run, rng = tmp_path / "run", random.Random(0)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where the fork server finds `warmed`
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["warmed"])

    def start():
        process = context.Process(target=child, args=(small_backbone, class_folder, run, config))
        process.start()
        return process

    def step():
        return max((step for step, _ in found_states(run / "checkpoints")), default=0)

    for _ in range(20):  # after 0 to 3 of the 48 steps, and then at any moment of the next ones
        process, goal, deadline = start(), step() + rng.randrange(4), time.monotonic() + 60
        while step() < goal and time.monotonic() < deadline:
            time.sleep(0.001)
        process.join(rng.uniform(0, 0.2))
        assert process.is_alive(), "the run ended before it was killed often enough"
        process.kill()
        process.join()
    assert step() > 10
    process = start()
    process.join(120)
    assert process.exitcode == 0
    assert_same(run, tmp_path / "quiet")


PROCESSES = """
import json, sys
sys.path, out, data, settings = json.loads(sys.argv[1])
import warmed, torch
from videossp.plan import TrainConfig
from videossp.train import train
from test_resume import plain
torch.set_num_threads(1)
train(plain("videomamba_small_test"), data, TrainConfig(**settings), out=out)
"""


def plain(backbone):
    return Classifier.create(backbone, classes=["bright", "dark"], drop_path=0.3, **SSP_SMALL)


def together(processes, out, data, settings):
    """The run by several gloo processes, as torchrun starts them."""
    job = json.dumps([[str(Path(__file__).parent), *sys.path], str(out), str(data), settings])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESSES, job],
            env={**os.environ, **group, "RANK": str(k), "LOCAL_RANK": str(k), "ACCELERATE_USE_CPU": "1"},
        )
        for k in range(processes)
    ]
    assert [child.wait(timeout=180) for child in children] == [0] * processes


def test_two_processes_train_and_evaluate_like_one(small_backbone, class_folder, tmp_path):
    """14 training videos in steps of 4: the last has two, and the second process none of them."""
    settings = {"epochs": 2, "lr": 1e-2, "seed": 3, "val_share": 0.15, "mixup": 0.5, "num_sample": 2}
    torch.set_num_threads(1)
    one = TrainConfig(**settings, batch_size=2, accumulate=2)
    train(plain(small_backbone), class_folder, one, out=tmp_path / "one")
    together(2, tmp_path / "two", class_folder, {**settings, "batch_size": 2})
    (weights, rows), (expected, history) = outcome(tmp_path / "two"), outcome(tmp_path / "one")
    for row, wanted in zip(rows, history, strict=True):
        assert row["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
        assert row["val_loss"] == pytest.approx(wanted["val_loss"], rel=1e-4)
        assert row["val_top1"] == wanted["val_top1"]
    for name, x in expected.items():
        torch.testing.assert_close(weights[name], x, rtol=1e-3, atol=1e-4)
    assert (tmp_path / "two" / "report.html").is_file()
