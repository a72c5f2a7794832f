"""What goes wrong in a training is one line that says what to do, and leaves a checkpoint to go on from."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import videossp.clips
from conftest import SSP_SMALL, write_video
from videossp.classifier import Classifier
from videossp.cli import main
from videossp.datasets import Samples, read_data
from videossp.faults import Diverged, first_not_finite
from videossp.loop import Loop
from videossp.plan import TrainConfig
from videossp.state import found_states
from videossp.stop import StopAsked
from videossp.train import train
from videossp.video import DataError

CONFIG = TrainConfig(epochs=2, batch_size=4, lr=1e-2, seed=1, save_minutes=0)


def make(backbone):
    return Classifier.create(backbone, classes=["bright", "dark"], **SSP_SMALL)


def spoil(monkeypatch, *steps):
    """The loss of these steps is not a number."""
    real = Loop.loss
    monkeypatch.setattr(
        Loop, "loss", lambda self, batch, i: real(self, batch, i) * (np.nan if self.step in steps else 1)
    )


def test_a_step_that_is_not_finite_is_skipped_and_said(small_backbone, class_folder, monkeypatch, capsys):
    spoil(monkeypatch, 1)
    run = train(make(small_backbone), class_folder, CONFIG, progress=True)
    said = capsys.readouterr().err.replace("\n", " ")
    assert "step 2 (epoch 1): not finite: the loss, with train/" in said and "(1 of at most 5)" in said
    assert [row["skipped_steps"] for row in run.history] == [1, 1]


def test_a_skipped_step_changes_no_weight(small_backbone, class_folder, monkeypatch):
    spoil(monkeypatch, *range(3))
    classifier = make(small_backbone)
    before = {name: x.clone() for name, x in classifier.tuned().items()}
    with pytest.raises(Diverged, match=r"step 3 \(epoch 1\).*no step of the epoch was finite"):
        train(classifier, class_folder, CONFIG)
    assert all(torch.equal(x, before[name]) for name, x in classifier.tuned().items())


def test_too_many_skipped_steps_end_the_run_with_its_state_saved(
    small_backbone, class_folder, tmp_path, monkeypatch
):
    spoil(monkeypatch, 1, 2)
    config = TrainConfig(**CONFIG.__dict__ | {"max_skipped": 1})
    with pytest.raises(Diverged, match=r"step 3 .*2 steps were not finite"):
        train(make(small_backbone), class_folder, config, out=tmp_path / "run")
    assert found_states(tmp_path / "run" / "checkpoints")[0][0] == 2


def test_a_gradient_that_is_not_finite_is_named(small_backbone, class_folder, monkeypatch, capsys):
    classifier = make(small_backbone)
    weight = classifier.head.linear.weight
    weight.register_hook(lambda x: x * (np.inf if loops[0].step == 0 else 1))
    loops, real = [], Loop.run
    monkeypatch.setattr(Loop, "run", lambda self, save: (loops.append(self), real(self, save))[1])
    train(classifier, class_folder, CONFIG, progress=True)
    assert "not finite: the gradient of head.linear.weight" in capsys.readouterr().err.replace("\n", " ")


def test_the_first_tensor_that_is_not_finite_is_named(small_backbone):
    classifier, clips = make(small_backbone), torch.zeros(1, 3, 4, 32, 32)
    assert first_not_finite(classifier, clips) == "the loss"
    assert first_not_finite(classifier, clips + torch.inf) == "the clips"
    with torch.no_grad():
        classifier.head.linear.weight.fill_(3e38)
    assert first_not_finite(classifier, clips + 1) == "the output of head.linear"
    with torch.no_grad():
        classifier.backbone.layers[1].mixer.D[0] = torch.nan
    assert first_not_finite(classifier, clips) == "the parameter backbone.layers.1.mixer.D"


def test_an_unreadable_video_in_the_middle_of_an_epoch_leaves_a_checkpoint(
    small_backbone, tmp_path, monkeypatch
):
    for i in range(8):
        for name, level in (("bright", 220), ("dark", 40)):
            write_video(tmp_path / "data" / name / f"{i}.mp4", np.full((5, 32, 32, 3), level, np.uint8))
    data, run = read_data(tmp_path / "data"), tmp_path / "run"
    bad = Path(data.splits["train"][3].path)
    good = bad.read_bytes()
    bad.write_bytes(b"no video")
    splits = {"train": data.splits["train"], "val": data.splits["train"][4:6]}
    samples = Samples(data.classes, splits, origin=data.origin)
    config = TrainConfig(epochs=1, batch_size=2, seed=3, save_minutes=0)
    with pytest.raises(DataError, match=f"{bad.name}: not a readable video"):
        train(make(small_backbone), samples, config, out=run)
    (step, _), *_ = found_states(run / "checkpoints")
    assert 0 < step < 8
    bad.write_bytes(good)  # mended: the run goes on
    assert len(train(make(small_backbone), samples, config, out=run, resume=True).history) == 1


def workers_that(monkeypatch, act):
    """Decoding processes that do this at the third clip of the second epoch."""
    real = videossp.clips.TrainClips.__getitem__

    def item(self, index):
        if self.epoch == 1 and torch.utils.data.get_worker_info():
            act()
        return real(self, index)

    monkeypatch.setattr(videossp.clips.TrainClips, "__getitem__", item)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "a process that decodes died"),
        (lambda: time.sleep(60), "a process that decodes does not answer"),
    ],
    ids=["dies", "hangs"],
)
def test_a_worker_that_is_lost_is_one_line_and_the_run_goes_on(
    small_backbone, class_folder, tmp_path, monkeypatch, act, words
):
    config = TrainConfig(**CONFIG.__dict__ | {"workers": 1, "timeout": 2})
    with monkeypatch.context() as patch:
        workers_that(patch, act)
        with pytest.raises(RuntimeError, match=f"{words}.*--resume goes on"):
            train(make(small_backbone), class_folder, config, out=tmp_path / "run")
    result = train(make(small_backbone), class_folder, config, out=tmp_path / "run", resume=True)
    assert len(result.history) == 2


LIMITED = """
import json, resource, sys
sys.path, kind, arguments = json.loads(sys.argv[1])
import warmed, torch
from videossp.cli import main
from videossp.loop import Loop
real = Loop.one_step
def one_step(self, *rest):
    if self.step == 4:
        if kind == "disk":
            import signal
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        else:
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, used + 2**20))
            torch.empty(2**28)
    return real(self, *rest)
Loop.one_step = one_step
sys.exit(main(arguments))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize(("kind", "words"), [("disk", "File too large"), ("memory", "too little memory")])
def test_a_full_disk_and_too_little_memory_are_one_line_and_leave_a_checkpoint(
    small_backbone, class_folder, tmp_path, kind, words
):
    run = tmp_path / "run"
    flags = [f"--ssp.{name}={value}" for name, value in SSP_SMALL.items()]
    settings = ["--epochs", "3", "--batch-size", "4", "--save-minutes", "0", "--out", str(run)]
    arguments = ["train", str(class_folder), "--backbone", small_backbone, *flags, *settings]
    job = json.dumps([[str(Path(__file__).parent), *sys.path], kind, arguments])
    child = subprocess.run([sys.executable, "-c", LIMITED, job], capture_output=True, text=True, timeout=120)
    said = child.stderr
    assert child.returncode == 1 and words in said and "Traceback" not in said, said
    if kind == "memory":
        assert "smaller --batch-size (now 4) or --frames, or --grad-checkpoint true, need less" in said
    assert found_states(run / "checkpoints")
    assert main(["train", "--resume", str(run)]) == 0
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_the_step_and_it_goes_on(
    small_backbone, class_folder, tmp_path, monkeypatch, number
):
    run = tmp_path / "run"
    flags = ["--backbone", small_backbone, *(f"--ssp.{name}={value}" for name, value in SSP_SMALL.items())]
    real = Loop.loss

    def loss(self, batch, i):
        if self.step == 1:
            os.kill(os.getpid(), number)
        return real(self, batch, i)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "loss", loss)
        arguments = ["train", str(class_folder), *flags, "--batch-size", "4", "--epochs", "2"]
        assert main([*arguments, "--out", str(run)]) == 130
    assert found_states(run / "checkpoints")[0][0] == 2
    assert main(["train", "--resume", str(run), "--lr", "1"]) == 2
    assert main(["train", "--resume", str(run), "--workers", "1"]) == 0
    assert main(["train", "--resume", str(run)]) == 2  # finished


def test_a_second_signal_ends_at_once_and_handlers_are_given_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopAsked() as stop, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_two_processes_do_not_train_in_one_folder(small_backbone, class_folder, tmp_path):
    from videossp.run import claim_run

    (tmp_path / "run").mkdir()
    with claim_run(tmp_path / "run"), pytest.raises(ValueError, match="another process trains in it"):
        train(make(small_backbone), class_folder, CONFIG, out=tmp_path / "run")
