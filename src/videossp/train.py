"""`TrainConfig` and the loop: one for every method."""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader

from videossp.classifier import Classifier, place
from videossp.clips import TrainClips, mirror
from videossp.datasets import Sample, Samples, read_folder, split_off
from videossp.evaluate import OnError, evaluate, relabel
from videossp.run import Run, make_run_folder, write_results, write_setup
from videossp.video import DataError


@dataclass(frozen=True)
class TrainConfig:
    """How to train; the same for every method.

    Attributes:
        epochs: passes over the training videos.
        batch_size: clips per step.
        lr: peak learning rate of AdamW.
        min_lr: learning rate at both ends: warm-up starts from it, the cosine ends at it.
        warmup_epochs: epochs of linear warm-up.
        weight_decay: of AdamW, on matrices only.
        label_smoothing: share of the target spread over all classes.
        scale: smallest and largest share of a frame that a random crop covers.
        flip: mirror half of the clips: on, off, or auto, which is off when a class name holds a direction.
        val_share: share of each class held out to choose the epoch, if there is no val folder.
        grad_checkpoint: compute the inside of each block again for the backward instead of keeping it:
            much less memory, about a third more time.
        on_error: at a video that cannot be decoded: stop with an error, or skip it and list it.
        workers: processes that decode ahead; 0 decodes in this one.
        seed: of everything random.
    """

    epochs: int = 10
    batch_size: int = 8
    lr: float = 1e-3
    min_lr: float = 1e-6
    warmup_epochs: float = 1.0
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    scale: tuple[float, float] = (0.5, 1.0)
    flip: Literal["auto", "on", "off"] = "auto"
    val_share: float = 0.2
    grad_checkpoint: bool = False
    on_error: OnError = "error"
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", tuple(self.scale))
        if self.epochs < 1 or self.batch_size < 1 or self.workers < 0:
            raise ValueError("epochs and batch_size must be at least 1, workers at least 0")
        if self.seed < 0 or not 0 <= self.label_smoothing < 1:
            raise ValueError("seed must be at least 0, label_smoothing at least 0 and below 1")
        if not 0 < self.val_share < 1:
            raise ValueError(f"val_share must lie between 0 and 1, got {self.val_share}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be two shares in (0, 1], the smaller first, got {self.scale}")
        if self.lr <= 0 or self.min_lr < 0 or self.weight_decay < 0 or self.warmup_epochs < 0:
            raise ValueError("lr must be positive; min_lr, weight_decay and warmup_epochs not negative")


def train(
    classifier: Classifier,
    data: str | Path | Samples,
    config: TrainConfig | None = None,
    *,
    out: str | Path | None = None,
    progress: bool = False,
) -> Run:
    """Train the tuned set of a classifier; it ends with the weights of the best epoch on validation.

    Args:
        classifier: changed in place. Its class names must hold those of the data.
        data: a folder of classes, or a data set. Its test split is never read.
        config: how.
        out: run folder to write; it must not hold anything yet.
        progress: messages and a bar on stderr.

    Raises:
        DataError: the data cannot be used, or a video cannot be decoded (on_error "error").
        RuntimeError: the loss is not finite.
    """
    if classifier.merged:
        raise ValueError("a merged classifier cannot be trained; load the adapter again")
    config = config or TrainConfig()
    samples = data if isinstance(data, Samples) else read_folder(data)
    training, validation, held_out = choose_splits(samples, classifier.classes, config)
    folder = None if out is None else make_run_folder(out)
    flip = mirror(config.flip, classifier.classes)
    set_seed(config.seed)
    accelerator = Accelerator()
    if accelerator.num_processes > 1:
        raise ValueError("training with several processes is not supported yet; start one")
    clips = TrainClips(training, classifier.form, scale=config.scale, flip=flip, seed=config.seed)
    steps = math.ceil(len(training) / config.batch_size)
    optimizer = torch.optim.AdamW(parameter_groups(classifier, config.weight_decay), lr=config.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate(config, steps))
    classifier.backbone.grad_checkpoint = config.grad_checkpoint
    model, optimizer = accelerator.prepare(classifier, optimizer)
    criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    console = Console(stderr=True)

    def say(line: str) -> None:
        if progress:
            console.print(line, highlight=False, soft_wrap=True)

    if folder:
        place_of_data = None if isinstance(data, Samples) else Path(data)
        write_setup(folder, classifier, place_of_data, asdict(config), training, validation)
    if samples.ignored:
        say(f"left out, no videos by their names: {', '.join(samples.ignored)}")
    tuned = sum(x.numel() for x in classifier.tuned().values())
    whole = sum(x.numel() for x in classifier.parameters())
    say(f"{classifier.source.name} + {classifier.method}: {tuned:,} of {whole:,} weights train")
    say(
        f"{len(training)} videos to train, {len(validation)} to validate ({held_out}), "
        f"{len(classifier.classes)} classes, {config.epochs} epochs of {steps} steps, "
        f"mirror images {'on' if flip else 'off'}"
    )
    started, history = time.monotonic(), []
    failures: dict[str, str] = {}
    best, best_weights = None, None
    for epoch in range(config.epochs):
        clips.epoch = epoch
        order = torch.randperm(
            len(clips), generator=torch.Generator().manual_seed(config.seed * 100_003 + epoch)
        )
        loader = DataLoader(
            clips,
            batch_size=config.batch_size,
            sampler=order.tolist(),
            num_workers=config.workers,
            collate_fn=collate,
        )
        model.train()
        total, seen, clock = 0.0, 0, time.monotonic()
        for clip, labels, broken in bar(loader, f"epoch {epoch + 1}/{config.epochs}", steps, progress):
            if broken and config.on_error == "error":
                raise DataError(next(iter(broken.values())))
            for name, reason in broken.items():
                if name not in failures:
                    say(f"skipped: {reason}")
                    failures[name] = reason
            if len(labels):
                loss = criterion(model(clip.to(accelerator.device)), labels.to(accelerator.device))
                if not torch.isfinite(loss):
                    raise RuntimeError(
                        f"the loss is {loss.item()} in epoch {epoch + 1}; "
                        f"a smaller --lr (now {config.lr}) may help"
                    )
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                total, seen = total + loss.item() * len(labels), seen + len(labels)
            rate = schedule.get_last_lr()[0]
            schedule.step()
        if not seen:
            raise DataError(f"none of the {len(training)} training videos can be decoded")
        seconds = time.monotonic() - clock
        result = evaluate(
            classifier, validation, workers=config.workers, on_error=config.on_error, progress=progress
        )
        if len(result.failures) == len(validation):
            raise DataError(f"none of the {len(validation)} validation videos can be decoded")
        failures |= result.failures
        row: dict[str, Any] = {
            "epoch": epoch + 1,
            "loss": total / seen,
            "val_top1": result.top(1),
            "val_mean_class_accuracy": result.mean_class_accuracy,
            "val_loss": result.loss,
            "lr": rate,
            "seconds": seconds,
            "seconds_per_clip": seconds / seen,
        }
        history.append(row)
        if best is None or (row["val_top1"], -row["val_loss"]) > (best["val_top1"], -best["val_loss"]):
            best, kept = row, result
            best_weights = {name: x.detach().clone() for name, x in classifier.tuned().items()}
            classifier.metrics = {"best_epoch": epoch + 1, "validation": result.summary()}
            if folder:
                classifier.save(folder / "adapter")
        if folder:
            with (folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            classifier.save(folder / "checkpoints" / "last")
        say(
            f"epoch {epoch + 1}/{config.epochs}: loss {row['loss']:.3f}, validation top-1 "
            f"{100 * row['val_top1']:.1f} % (best {100 * best['val_top1']:.1f} %, epoch {best['epoch']}), "
            f"{seconds:.1f} s"
        )
    assert best is not None and best_weights is not None  # epochs >= 1
    place(classifier, best_weights)
    classifier.eval()
    run = Run(history, best, kept, failures, time.monotonic() - started)
    if folder:
        write_results(folder, classifier, run)
    return run


def choose_splits(
    samples: Samples, classes: Sequence[str], config: TrainConfig
) -> tuple[list[Sample], list[Sample], str]:
    """(training, validation, how the validation set came about); never the test split."""
    splits = {split: relabel(members, samples.classes, classes) for split, members in samples.splits.items()}
    if not splits.get("train"):
        raise DataError("there is nothing to train on: no train split")
    if splits.get("val"):
        return splits["train"], splits["val"], "the folder val"
    training, validation = split_off(splits["train"], config.val_share, config.seed)
    if not validation:
        raise DataError(
            "too few videos to hold some out for validation: at least two of some class are needed"
        )
    return training, validation, f"{config.val_share:.0%} of each class, seed {config.seed}"


def parameter_groups(classifier: Classifier, weight_decay: float) -> list[dict[str, Any]]:
    """The tuned set for the optimiser.

    Not decayed: vectors (biases, norms, gains), what the tuner says (`undecayed`), and of a thawed backbone
    A, convolutions, cls and positions, which decay would pull away from what was learned.
    """
    own = [f"tuner.{pattern}" for pattern in classifier.tuner.undecayed]
    spared = [*own, "*.A_log", "*.A_b_log", "*.conv1d*.weight", "backbone.cls_token", "backbone.*pos_embed*"]

    def decays(name: str, x: Tensor) -> bool:
        return x.ndim > 1 and not any(fnmatchcase(name, pattern) for pattern in spared)

    tuned = classifier.tuned()
    return [
        {"params": [x for name, x in tuned.items() if decays(name, x)], "weight_decay": weight_decay},
        {"params": [x for name, x in tuned.items() if not decays(name, x)], "weight_decay": 0.0},
    ]


def learning_rate(config: TrainConfig, steps_per_epoch: int) -> Any:
    """step -> factor on lr: linear warm-up from min_lr, then half a cosine down to it."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    steps = config.epochs * steps_per_epoch
    floor = config.min_lr / config.lr

    def factor(step: int) -> float:
        if step < warmup:
            return floor + (1 - floor) * (step + 1) / warmup
        done = (step - warmup) / max(1, steps - warmup)
        return floor + (1 - floor) * (1 + math.cos(math.pi * min(1.0, done))) / 2

    return factor


def collate(items: list[tuple[Tensor | None, int, str, str]]) -> tuple[Tensor, Tensor, dict[str, str]]:
    """(clips, labels, reason by name of what could not be decoded)."""
    good = [(clip, label) for clip, label, _, _ in items if clip is not None]
    clips = torch.stack([clip for clip, _ in good]) if good else torch.empty(0)
    broken = {name: reason for clip, _, name, reason in items if clip is None}
    return clips, torch.tensor([label for _, label in good], dtype=torch.long), broken


def bar(loader: Any, title: str, total: int, show: bool) -> Iterator[Any]:
    """The batches, with a progress bar on a terminal."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not (show and console.is_terminal)
    ) as shown:
        yield from shown.track(loader, total=total)
