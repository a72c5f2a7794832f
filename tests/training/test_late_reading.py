"""On a GPU the figures of a step are read while the next one is computed.

Here the CPU does the same, so that its results can be compared with those of a CPU that reads at once.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_resume import assert_same

from conftest import SSP_SMALL, write_video
from videossp.classifier import Classifier
from videossp.data.clips import TrainClips
from videossp.data.crop import finish_clips
from videossp.data.datasets import read_data
from videossp.data.sampling import ClipFormat
from videossp.errors import DataError, DivergedError, VideoSSPWarning
from videossp.training import loop as module
from videossp.training import train_step
from videossp.training.batches import collate, epoch_order
from videossp.training.checkpoints import list_states, load_state
from videossp.training.config import TrainConfig
from videossp.training.loop import Loop
from videossp.training.outcome import Outcome
from videossp.training.summaries import run_summary
from videossp.training.train import train
from videossp.training.train_step import TrainStep

CONFIG = TrainConfig(epochs=2, batch_size=4, lr=1e-2, seed=1, save_minutes=0)


@pytest.fixture
def late(monkeypatch):
    monkeypatch.setattr(module, "reads_late", lambda device: True)


def make(backbone):
    return Classifier.create(backbone, classes=["bright", "dark"], **SSP_SMALL)


def config(**changes):
    return TrainConfig(**CONFIG.__dict__ | changes)


def spoil(monkeypatch, *steps, factor=np.nan):
    """The loss of these steps is not finite."""
    real = TrainStep.loss

    def loss(self, batch, number):
        return real(self, batch, number) * (factor if self.state.step in steps else 1)

    monkeypatch.setattr(TrainStep, "loss", loss)


@pytest.mark.parametrize(
    "changes",
    [{}, {"ema_decay": 0.8, "max_grad_norm": 0.1}, {"grad_accum_steps": 2, "mixup": 0.5, "cutmix": 1.0}],
    ids=["plain", "average and clipping", "accumulation and mixing"],
)
def test_a_run_that_reads_late_is_the_run_that_reads_at_once(
    small_backbone, class_folder, monkeypatch, changes
):
    """Two optimiser kernels of torch round differently; nothing else differs."""
    spoil(monkeypatch, 1)
    runs = []
    for reads_late in (False, True):
        monkeypatch.setattr(module, "reads_late", lambda device, value=reads_late: value)
        classifier = make(small_backbone)
        with pytest.warns(VideoSSPWarning, match=r"step 2 \(epoch \d\): not finite") as warned:
            run = train(classifier, class_folder, config(**changes))
        texts = [str(x.message) for x in warned if "not finite" in str(x.message)]
        runs.append((run, {k: x.detach() for k, x in classifier.trainable().items()}, texts))
    (first, weights, texts), (second, late_weights, late_texts) = runs
    for a, b in zip(first.history, second.history, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        assert (a["skipped_steps"], a["val_top1"]) == (b["skipped_steps"], b["val_top1"])
    for name, x in weights.items():
        torch.testing.assert_close(late_weights[name], x, rtol=1e-3, atol=1e-5)
    assert late_texts == texts and len(texts) == 1


@pytest.mark.parametrize("factor", [np.nan, np.inf, -np.inf])
def test_steps_that_are_not_finite_change_no_weight(late, small_backbone, class_folder, monkeypatch, factor):
    spoil(monkeypatch, *range(3), factor=factor)
    classifier = make(small_backbone)
    before = {name: x.clone() for name, x in classifier.trainable().items()}
    with pytest.raises(DivergedError, match=r"step 3 \(epoch 1\).*no step of the epoch was finite"):
        train(classifier, class_folder, CONFIG)
    assert all(torch.equal(x, before[name]) for name, x in classifier.trainable().items())


def test_no_checkpoint_holds_a_step_that_is_not_finite(
    late, small_backbone, class_folder, tmp_path, monkeypatch
):
    """A checkpoint is written after each step; that of the spoiled one has the weights of the one before."""
    spoil(monkeypatch, 1)
    states, real = [], Loop.save

    def save(self):
        real(self)
        states.append(load_state(tmp_path / "run" / "checkpoints", lambda _: None))

    monkeypatch.setattr(Loop, "save", save)
    with pytest.warns(VideoSSPWarning, match="step 2"):
        train(make(small_backbone), class_folder, config(ema_decay=0.9), out=tmp_path / "run")
    by_step = {}
    for tensors, metadata in states:
        assert all(x.isfinite().all() for x in tensors.values())
        by_step.setdefault(metadata["step"], (tensors, metadata))
    (one, before), (two, after) = by_step[1], by_step[2]
    assert (before["skipped"], after["skipped"]) == (0, 1)
    assert before["under_way"]["clips"] == after["under_way"]["clips"] == 4
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_gradient_that_is_not_finite_is_named(late, small_backbone, class_folder, monkeypatch):
    classifier, loops, real = make(small_backbone), [], Loop.run
    classifier.head.linear.weight.register_hook(lambda x: x * (np.inf if loops[0].state.step == 0 else 1))
    monkeypatch.setattr(
        Loop, "run", lambda self, *args, **named: (loops.append(self), real(self, *args, **named))[1]
    )
    with pytest.warns(VideoSSPWarning, match="step 1 .*: not finite: the gradient of head.linear.weight"):
        train(classifier, class_folder, CONFIG)


def test_too_many_such_steps_end_the_run_and_it_can_be_resumed(
    late, small_backbone, class_folder, tmp_path, monkeypatch
):
    spoil(monkeypatch, 1, 2)
    with pytest.raises(DivergedError, match=r"step 3 .*2 steps were not finite"):
        train(make(small_backbone), class_folder, config(max_skipped=1), out=tmp_path / "run")
    step, _ = list_states(tmp_path / "run" / "checkpoints")[0]
    assert step == 3
    more = config(max_skipped=2)
    run = train(make(small_backbone), class_folder, more, out=tmp_path / "run", resume=True)
    assert [row["skipped_steps"] for row in run.history] == [2, 2]


def test_an_interruption_while_a_step_is_examined_does_not_lose_its_count(
    late, small_backbone, class_folder, tmp_path, monkeypatch
):
    real, interrupted = module.first_not_finite, []

    def examine(*arguments):
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return real(*arguments)

    spoil(monkeypatch, 1)
    monkeypatch.setattr(module, "first_not_finite", examine)
    with pytest.raises(KeyboardInterrupt), pytest.warns(VideoSSPWarning, match="step 2"):
        train(make(small_backbone), class_folder, config(save_minutes=60), out=tmp_path / "run")
    _, metadata = load_state(tmp_path / "run" / "checkpoints", lambda _: None)
    assert (metadata["step"], metadata["skipped"], metadata["under_way"]["clips"]) == (2, 1, 4)


def test_a_step_is_read_after_the_next_one_is_queued(late, small_backbone, class_folder, monkeypatch):
    events = []
    loss, figures, save = TrainStep.loss, Outcome.finite, Loop.save
    monkeypatch.setattr(TrainStep, "loss", lambda *args: (events.append("queue"), loss(*args))[1])
    monkeypatch.setattr(
        Outcome, "finite", property(lambda self: (events.append(f"read {self.step}"), figures.fget(self))[1])
    )
    monkeypatch.setattr(Loop, "save", lambda self: (save(self), events.append("save"))[0])
    train(make(small_backbone), class_folder, config(epochs=1, save_minutes=60))
    steps = events[: events.index("save")]
    assert steps == ["queue", "queue", "read 0", "queue", "read 1", "read 2"]


def test_an_unreadable_video_stops_the_run_before_its_step(late, small_backbone, tmp_path):
    for name, level in (("bright", 220), ("dark", 40)):
        for i in range(4):
            write_video(tmp_path / "data" / name / f"{i}.mp4", np.full((5, 32, 32, 3), level, np.uint8))
    samples = read_data(tmp_path / "data").splits["train"]
    plain = config(epochs=1, batch_size=1)
    train(make(small_backbone), tmp_path / "data", plain, out=tmp_path / "plain")
    names = [
        x.split(",")[0] for x in (tmp_path / "plain" / "split.csv").read_text().splitlines() if "train" in x
    ]
    order = [names[i] for i in epoch_order(len(names), plain.seed, 0)]
    broken = next(x for x in samples if x.name == order[2])  # of the third step
    Path(broken.path).write_bytes(b"no video")
    with pytest.raises(DataError, match=Path(broken.path).name):
        train(make(small_backbone), tmp_path / "data", plain, out=tmp_path / "run")
    _, metadata = load_state(tmp_path / "run" / "checkpoints", lambda _: None)
    assert (metadata["step"], metadata["skipped"], metadata["under_way"]["clips"]) == (2, 0, 2)


def test_an_interrupted_run_resumes_bit_identically(
    late, small_backbone, class_folder, tmp_path, monkeypatch
):
    train(make(small_backbone), class_folder, config(ema_decay=0.9), out=tmp_path / "quiet")
    real = TrainStep.loss

    def fail(self, batch, number):
        if self.state.step == 4:
            raise KeyboardInterrupt
        return real(self, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "loss", fail)
        with pytest.raises(KeyboardInterrupt):
            train(make(small_backbone), class_folder, config(ema_decay=0.9), out=tmp_path / "run")
    train(make(small_backbone), class_folder, config(ema_decay=0.9), out=tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", tmp_path / "quiet")


@pytest.mark.parametrize("num_sample, rand_augment", [(1, ""), (2, "rand-m7-n2-mstd0.5-inc1")])
def test_clips_that_a_gpu_finishes_have_the_same_digits(class_folder, num_sample, rand_augment):
    samples = read_data(class_folder).splits["train"]
    clip_format = ClipFormat(4, (32, 32))

    def clips(unfinished):
        drawn = TrainClips(
            samples,
            clip_format,
            crop_scale=(0.3, 1.0),
            flip=True,
            seed=3,
            num_sample=num_sample,
            rand_augment=module.parse_rand_augment(rand_augment) if rand_augment else None,
        )
        drawn.unfinished = unfinished
        return collate([drawn[i] for i in range(len(samples))])

    finished, rest = clips(False), clips(True)
    assert finished.flipped is None and 0 < rest.flipped.sum() < len(rest.flipped)
    assert rest.clips.shape[1:] == (4, 3, 32, 32) and torch.equal(rest.labels, finished.labels)
    assert torch.equal(finish_clips(rest.clips, rest.flipped, clip_format), finished.clips)


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_run_continues_on_another_kind_of_device_only_if_asked(
    small_backbone, class_folder, tmp_path, monkeypatch, kind
):
    real, settings = Loop.end_epoch, module.settings_of

    def interrupt(self, epoch, stop):
        if epoch == 1:
            raise KeyboardInterrupt
        real(self, epoch, stop)

    with monkeypatch.context() as patch:
        patch.setattr(module, "settings_of", lambda *args: settings(*args) | {"device_kind": kind})
        patch.setattr(Loop, "end_epoch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(make(small_backbone), class_folder, CONFIG, out=tmp_path / "run")
    files = sorted(str(x) for x in Path(tmp_path).rglob("*"))
    words = f"precision: .*; it was trained on {kind}, and this is cpu"  # the default depends on the device
    with pytest.raises(ValueError, match=words):
        other = config(precision="bf16")
        train(make(small_backbone), class_folder, other, out=tmp_path / "run", resume=True)
    words = f"was trained on {kind} and would continue on cpu, which is not exact: give --device {kind}, or"
    with pytest.raises(ValueError, match=words):
        train(make(small_backbone), class_folder, CONFIG, out=tmp_path / "run", resume=True)
    assert sorted(str(x) for x in Path(tmp_path).rglob("*")) == files
    words = f"began on {kind} and continues on cpu: not exactly the run without the change"
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "end_epoch", interrupt)
        with pytest.warns(VideoSSPWarning, match=words), pytest.raises(KeyboardInterrupt):
            train(
                make(small_backbone),
                class_folder,
                CONFIG,
                out=tmp_path / "run",
                resume=True,
                change_device=True,
            )
    # Now the run is one of the CPU, and still says that it was not before.
    with pytest.warns(VideoSSPWarning, match=words):
        run = train(make(small_backbone), class_folder, CONFIG, out=tmp_path / "run", resume=True)
    assert len(run.history) == 2 and run.warnings.count(words) == 1


@pytest.mark.filterwarnings("ignore:.*pin_memory")
def test_the_memory_of_a_gpu_is_that_of_the_steps_of_each_epoch(small_backbone, class_folder, monkeypatch):
    """With a GPU in name only. An evaluation takes all memory that is free, whatever the steps need."""
    peak, real = [0.0], Loop.__init__

    def in_name(self, *arguments):
        real(self, *arguments)
        self.device = torch.device("cuda", 0)

    def using(memory, function):
        return lambda *arguments: (peak.append(max(peak[-1], memory)), function(*arguments))[1]

    monkeypatch.setattr(Loop, "__init__", in_name)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peak.append(0.0))
    monkeypatch.setattr(module, "peak_memory", lambda device: peak[-1])
    monkeypatch.setattr(train_step, "to_device", lambda x, device: x)
    monkeypatch.setattr(TrainStep, "loss", using(2.5, TrainStep.loss))
    monkeypatch.setattr(Loop, "validate", using(70.0, Loop.validate))
    classifier = make(small_backbone)
    run = train(classifier, class_folder, CONFIG)
    assert [row["gpu_memory_gb"] for row in run.history] == [2.5, 2.5] and run.gpu_memory == 2.5
    assert run_summary(classifier, run)["GPU memory"] == "2.5 GB at most"
