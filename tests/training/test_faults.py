"""A fault in a training is one line that says what to do, and leaves a checkpoint to resume from."""

import multiprocessing
import os
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from forking import forks

from conftest import SSP_SMALL, write_video
from videossp.classifier import Classifier
from videossp.cli.main import main
from videossp.data import clips as clips_module
from videossp.data.datasets import VideoDataset, read_data
from videossp.errors import DataError, DivergedError, OutOfMemoryError, VideoSSPWarning, WorkerLostError
from videossp.inference.evaluate import evaluate
from videossp.system.lost_processes import explain_lost_processes
from videossp.training import feature_cache
from videossp.training.checkpoints import list_states
from videossp.training.config import TrainConfig
from videossp.training.faults import first_not_finite
from videossp.training.loop import Loop
from videossp.training.signals import GracefulStop
from videossp.training.train import train
from videossp.training.train_step import TrainStep

CONFIG = TrainConfig(epochs=2, batch_size=4, lr=1e-2, seed=1, save_minutes=0)


def make(backbone):
    return Classifier.create(backbone, classes=["bright", "dark"], **SSP_SMALL)


def spoil(monkeypatch, *steps):
    """The loss of these steps is not a number."""
    real = TrainStep.loss

    def loss(self, batch, number):
        return real(self, batch, number) * (np.nan if self.state.step in steps else 1)

    monkeypatch.setattr(TrainStep, "loss", loss)


def test_a_step_that_is_not_finite_is_skipped_with_a_warning(small_backbone, class_folder, monkeypatch):
    spoil(monkeypatch, 1)
    words = r"^step 2 \(epoch 1\): not finite: the loss, with train/.* skipped \(1 of at most 5\)$"
    with pytest.warns(VideoSSPWarning, match=words):
        run = train(make(small_backbone), class_folder, CONFIG)
    assert [row["skipped_steps"] for row in run.history] == [1, 1]
    assert "skipped because loss or gradient was not finite: 1 steps" in run.warnings


def test_a_skipped_step_of_an_earlier_epoch_is_not_blamed_for_unreadable_videos(
    small_backbone, class_folder, monkeypatch
):
    spoil(monkeypatch, 1)
    validate, places = Loop.validate, [Path(x.path) for x in read_data(class_folder).splits["train"]]
    content = {place: place.read_bytes() for place in places}

    def then_break(loop, epoch, stop):
        validate(loop, epoch, stop)
        for place in places:
            place.write_bytes(b"no video")

    monkeypatch.setattr(Loop, "validate", then_break)
    try:
        with pytest.raises(DataError, match="none of the .* training videos can be decoded"):
            train(make(small_backbone), class_folder, TrainConfig(**CONFIG.__dict__ | {"on_error": "skip"}))
    finally:
        for place, video in content.items():
            place.write_bytes(video)


def test_a_skipped_step_changes_no_weight(small_backbone, class_folder, monkeypatch):
    spoil(monkeypatch, *range(3))
    classifier = make(small_backbone)
    before = {name: x.clone() for name, x in classifier.trainable().items()}
    with pytest.raises(DivergedError, match=r"step 3 \(epoch 1\).*no step of the epoch was finite"):
        train(classifier, class_folder, CONFIG)
    assert all(torch.equal(x, before[name]) for name, x in classifier.trainable().items())


def test_too_many_skipped_steps_end_the_run_with_its_state_saved(
    small_backbone, class_folder, tmp_path, monkeypatch
):
    spoil(monkeypatch, 1, 2)
    config = TrainConfig(**CONFIG.__dict__ | {"max_skipped": 1})
    with pytest.raises(DivergedError, match=r"step 3 .*2 steps were not finite"):
        train(make(small_backbone), class_folder, config, out=tmp_path / "run")
    assert list_states(tmp_path / "run" / "checkpoints")[0][0] == 2
    more = TrainConfig(**CONFIG.__dict__ | {"max_skipped": 2})
    run = train(make(small_backbone), class_folder, more, out=tmp_path / "run", resume=True)
    assert [row["skipped_steps"] for row in run.history] == [2, 2]  # the step that ended it counts once


def test_with_max_skipped_0_the_first_such_step_ends_the_run(small_backbone, class_folder, monkeypatch):
    spoil(monkeypatch, 0)
    config = TrainConfig(**CONFIG.__dict__ | {"max_skipped": 0})
    with pytest.raises(DivergedError, match=r"step 1 \(epoch 1\).* 1 step was not finite"):
        train(make(small_backbone), class_folder, config)


def test_nonfinite_weights_after_last_step_are_detected_in_validation(small_backbone, class_folder, tmp_path):
    """Each loss is finite; the weights after the only step are not, and only the validation can notice."""
    config = TrainConfig(epochs=1, batch_size=16, lr=1e20, warmup_epochs=0)
    with pytest.raises(DivergedError, match="epoch 1, validation: .*not finite.*; a smaller --lr"):
        train(make(small_backbone), class_folder, config, out=tmp_path / "run")
    assert not (tmp_path / "run" / "adapter").exists()


def test_a_gradient_that_is_not_finite_is_named(small_backbone, class_folder, monkeypatch):
    classifier = make(small_backbone)
    weight = classifier.head.linear.weight
    weight.register_hook(lambda x: x * (np.inf if loops[0].state.step == 0 else 1))
    loops, real = [], Loop.run
    monkeypatch.setattr(
        Loop, "run", lambda self, *args, **named: (loops.append(self), real(self, *args, **named))[1]
    )
    with pytest.warns(VideoSSPWarning, match="not finite: the gradient of head.linear.weight"):
        train(classifier, class_folder, CONFIG)


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
    samples = VideoDataset(data.classes, splits, origin=data.origin)
    config = TrainConfig(epochs=1, batch_size=2, seed=3, save_minutes=0)
    with pytest.raises(DataError, match=f"{bad.name}: not a readable video"):
        train(make(small_backbone), samples, config, out=run)
    (step, _), *_ = list_states(run / "checkpoints")
    assert 0 < step < 8
    bad.write_bytes(good)  # repaired
    assert len(train(make(small_backbone), samples, config, out=run, resume=True).history) == 1


def workers_that(monkeypatch, act):
    """Decoding processes that do this at the third clip of the second epoch."""
    real = clips_module.TrainClips.__getitem__

    def item(self, index):
        if self.epoch == 1 and torch.utils.data.get_worker_info():
            act()
        return real(self, index)

    monkeypatch.setattr(clips_module.TrainClips, "__getitem__", item)


def kill_workers(*_):
    """As the system's memory killer does, while this process computes."""
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGKILL)
    time.sleep(60)  # ends with the error that torch raises when a worker has died


def in_step_5(monkeypatch, act):
    """This process does this in the forward pass of the second step of the second epoch."""
    real = TrainStep.loss

    def loss(self, batch, number):
        if self.state.step == 4:
            act()
        return real(self, batch, number)

    monkeypatch.setattr(TrainStep, "loss", loss)


def in_validation(monkeypatch, act):
    """Decoding processes that do this at the first video of a validation."""
    monkeypatch.setattr(clips_module.EvalViews, "__getitem__", lambda self, index: act())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("where", "act", "words"),
    [
        (workers_that, lambda: os.kill(os.getpid(), signal.SIGKILL), "a worker process died"),
        (workers_that, lambda: time.sleep(60), "a worker process did not answer"),
        (in_step_5, kill_workers, "a worker process died"),
        (in_validation, lambda: os.kill(os.getpid(), signal.SIGKILL), "a worker process died"),
        (in_validation, lambda: time.sleep(60), "a worker process did not answer"),
    ],
    ids=[
        "dies",
        "hangs",
        "dies while another thing is computed",
        "dies in validation",
        "hangs in validation",
    ],
)
def test_a_lost_worker_is_one_line_and_the_run_can_be_resumed(
    small_backbone, class_folder, tmp_path, monkeypatch, where, act, words
):
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.5)  # patience at the end
    # Short only where it must pass: a busy machine takes more than two seconds for a batch.
    config = TrainConfig(**CONFIG.__dict__ | {"workers": 1, "timeout": 2 if "not answer" in words else 300})
    with monkeypatch.context() as patch:
        where(patch, act)
        with pytest.raises(WorkerLostError, match=f"^{words}.*continue the run with --resume$"):
            train(make(small_backbone), class_folder, config, out=tmp_path / "run")
    patient = TrainConfig(**config.__dict__ | {"timeout": 300})
    result = train(make(small_backbone), class_folder, patient, out=tmp_path / "run", resume=True)
    assert len(result.history) == 2


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_worker_that_hangs_while_features_are_computed_is_noticed(
    small_backbone, class_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.5)
    monkeypatch.setattr(clips_module.TrainClips, "__getitem__", lambda self, index: time.sleep(60))
    classifier = Classifier.create(small_backbone, classes=["bright", "dark"], method="linear")
    caching = {"workers": 1, "timeout": 2, "fixed_augmentations": 1, "features": str(tmp_path)}
    with pytest.raises(WorkerLostError, match="^a worker process did not answer") as lost:
        train(classifier, class_folder, TrainConfig(**CONFIG.__dict__ | caching))
    assert "resume" not in str(lost.value)  # there is no run folder


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: time.sleep(60), "a worker process did not answer"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "a worker process died"),
    ],
    ids=["hangs", "dies"],
)
def test_a_lost_worker_of_an_evaluation_is_one_line(small_backbone, class_folder, monkeypatch, act, words):
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.5)
    in_validation(monkeypatch, act)
    samples = read_data(class_folder).splits["test"]
    with pytest.raises(WorkerLostError, match=f"^{words}") as lost:
        # Short only where it must pass: a busy machine takes more than two seconds to start a worker.
        evaluate(make(small_backbone), samples, workers=1, timeout=2 if "not answer" in words else 300)
    assert "resume" not in str(lost.value)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_loader_that_lost_a_worker_is_ended(monkeypatch):
    """Until then torch raises the error again when another child process ends."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.5)
    lost, healthy = (iter(torch.utils.data.DataLoader(range(100), num_workers=1)) for _ in range(2))
    with pytest.raises(WorkerLostError, match="a worker process died"), explain_lost_processes():
        os.kill(lost._workers[0].pid, signal.SIGKILL)
        time.sleep(60)
    assert lost._shutdown and not healthy._shutdown
    assert len(list(healthy)) == 100


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that",
            "/dev/shm.*--workers 0",
        ),
        ("[gloo/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:9095. This is", "another process of"),
        (
            "[gloo/tcp/pair.cc:537] Read error [127.0.0.1]:4502: Connection reset by peer.",
            "another process of",
        ),
    ],
)
def test_torch_errors_about_lost_processes_become_one_line(text, words):
    with (
        pytest.raises(WorkerLostError, match=f"{words}.*continue the run with --resume$"),
        explain_lost_processes(resumable=True),
        explain_lost_processes(),
    ):
        raise RuntimeError(text)
    with pytest.raises(WorkerLostError, match=words) as lost, explain_lost_processes():
        raise RuntimeError(text)
    assert "resume" not in str(lost.value)
    with pytest.raises(RuntimeError, match="^size mismatch$"), explain_lost_processes():
        raise RuntimeError("size mismatch")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
# A signal between the opening of a file and its `with` leaves the file to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_to_a_whole_group_is_an_interruption_not_a_lost_worker(
    small_backbone, class_folder, tmp_path, monkeypatch
):
    """As torchrun, systemd and batch systems send it: the worker processes die at the same time."""

    def signals():
        os.kill(os.getpid(), signal.SIGTERM)
        kill_workers()

    in_step_5(monkeypatch, signals)
    config = TrainConfig(**CONFIG.__dict__ | {"workers": 1})
    with pytest.raises(KeyboardInterrupt):
        train(make(small_backbone), class_folder, config, out=tmp_path / "run")
    assert list_states(tmp_path / "run" / "checkpoints")[0][0] == 4


def test_the_fault_is_raised_even_if_the_checkpoint_cannot_be_written(
    small_backbone, class_folder, tmp_path, monkeypatch, capsys
):
    def save_state(*_):
        raise MemoryError

    spoil(monkeypatch, 1)
    monkeypatch.setattr(sys.modules["videossp.training.train"], "save_state", save_state)
    config = TrainConfig(**CONFIG.__dict__ | {"max_skipped": 0, "save_minutes": 1000})
    with pytest.raises(DivergedError):
        train(make(small_backbone), class_folder, config, out=tmp_path / "run", progress=True)
    assert "the checkpoint cannot be written: MemoryError" in capsys.readouterr().err


def limited(kind, arguments, stderr):
    """The command line in a process whose files, or memory, may not grow from the fifth step on."""
    real = Loop.one_step

    def one_step(self, *rest):
        if self.state.step == 4 and kind == "disk":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        elif self.state.step == 4:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, used + 2**20))
            torch.empty(2**28)
        return real(self, *rest)

    Loop.one_step = one_step
    with stderr.open("w") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.exit(main(arguments))


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "Triton Error [CUDA]: out of memory",
    ],
)
def test_too_little_memory_on_a_gpu_is_one_line_with_the_levers(
    small_backbone, class_folder, monkeypatch, text
):
    def loss(*_):
        raise RuntimeError(text)

    monkeypatch.setattr(TrainStep, "loss", loss)
    words = (
        r"too little memory: smaller --batch-size \(now 8\) or --frames, or --grad-checkpoint true, need less"
    )
    with pytest.raises(OutOfMemoryError, match=words):
        train(make(small_backbone), class_folder, TrainConfig(epochs=1))


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize(("kind", "words"), [("disk", "File too large"), ("memory", "too little memory")])
def test_a_full_disk_and_too_little_memory_are_one_line_and_leave_a_checkpoint(
    small_backbone, class_folder, tmp_path, kind, words, monkeypatch
):
    run = tmp_path / "run"
    flags = [f"--ssp.{name}={value}" for name, value in SSP_SMALL.items()]
    settings = ["--epochs", "3", "--batch-size", "4", "--save-minutes", "0", "--out", str(run)]
    arguments = ["train", str(class_folder), "--backbone", small_backbone, *flags, *settings]
    child = forks(monkeypatch)(limited, kind, arguments, tmp_path / "stderr")
    child.join(120)
    errors = (tmp_path / "stderr").read_text()
    assert child.exitcode == 1 and words in errors and "Traceback" not in errors, errors
    if kind == "memory":
        assert "smaller --batch-size (now 4) or --frames, or --grad-checkpoint true, need less" in errors
    assert list_states(run / "checkpoints")
    assert main(["train", "--resume", str(run)]) == 0
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_the_step_and_it_can_be_resumed(
    small_backbone, class_folder, tmp_path, monkeypatch, number
):
    run = tmp_path / "run"
    flags = ["--backbone", small_backbone, *(f"--ssp.{name}={value}" for name, value in SSP_SMALL.items())]
    real = TrainStep.loss

    def loss(self, batch, i):
        if self.state.step == 1:
            os.kill(os.getpid(), number)
        return real(self, batch, i)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "loss", loss)
        arguments = ["train", str(class_folder), *flags, "--batch-size", "4", "--epochs", "2"]
        assert main([*arguments, "--out", str(run)]) == 130
    assert list_states(run / "checkpoints")[0][0] == 2
    assert main(["train", "--resume", str(run), "--lr", "1"]) == 2
    assert main(["train", "--resume", str(run), "--workers", "1"]) == 0
    assert main(["train", "--resume", str(run)]) == 2  # finished


def test_a_signal_while_features_are_computed_ends_at_once(
    small_backbone, class_folder, tmp_path, monkeypatch
):
    """Computing them can take hours, and stopping loses nothing."""
    made, real = [], feature_cache.packed

    def packed(features):
        if len(made) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        made.append(1)
        return real(features)

    monkeypatch.setattr(feature_cache, "packed", packed)
    classifier = Classifier.create(small_backbone, classes=["bright", "dark"], method="linear")
    config = TrainConfig(epochs=1, fixed_augmentations=1, features=str(tmp_path / "features"))
    with pytest.raises(KeyboardInterrupt):
        train(classifier, class_folder, config, out=tmp_path / "run")
    assert len(made) == 3 and len(list((tmp_path / "features").rglob("*.npy"))) == 3


def test_a_second_signal_raises_at_once_and_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with GracefulStop() as stop, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_at_once_raises_at_the_first_signal_and_for_an_earlier_one():
    with GracefulStop() as stop:
        with pytest.raises(KeyboardInterrupt), stop.at_once():
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("nothing was raised")
        with pytest.raises(KeyboardInterrupt), stop.at_once():
            pytest.fail("nothing was raised")


def test_two_processes_do_not_train_in_one_folder(small_backbone, class_folder, tmp_path):
    from videossp.training.run_folder import claim_run

    (tmp_path / "run").mkdir()
    with claim_run(tmp_path / "run"), pytest.raises(ValueError, match="another process trains in it"):
        train(make(small_backbone), class_folder, CONFIG, out=tmp_path / "run")
