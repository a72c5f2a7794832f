"""The training loop: one for every method."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader

from videossp.augment import mix, parse_rand_augment, soft_targets
from videossp.classifier import Classifier, place
from videossp.clips import TrainClips
from videossp.datasets import Samples, read_data
from videossp.evaluate import evaluate
from videossp.optimizer import learning_rate, parameter_groups
from videossp.plan import TrainConfig, make_plan, plan_lines
from videossp.run import Run, make_run_folder, write_results, write_setup
from videossp.video import DataError


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
        data: a data set, or its folder or annotation file (`read_data`). Its test split is not read, unless
            `config.choose_on` says so.
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
    samples = data if isinstance(data, Samples) else read_data(data)
    plan = make_plan(samples, classifier.classes, config)
    folder = None if out is None else make_run_folder(out)
    set_seed(config.seed)
    accelerator = Accelerator()
    if accelerator.num_processes > 1:
        raise ValueError("training with several processes is not supported yet; start one")
    clips = TrainClips(
        plan.training,
        classifier.form,
        scale=config.scale,
        flip=plan.flip,
        seed=config.seed,
        num_sample=config.num_sample,
        rand_augment=parse_rand_augment(config.rand_augment) if config.rand_augment else None,
        erasing=config.erasing,
    )
    optimizer = torch.optim.AdamW(parameter_groups(classifier, plan, config), lr=plan.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate(plan, config))
    classifier.backbone.grad_checkpoint = config.grad_checkpoint
    model, optimizer = accelerator.prepare(classifier, optimizer)
    console = Console(stderr=True)

    def say(line: str) -> None:
        if progress:
            console.print(line, highlight=False, soft_wrap=True, markup=False)

    if folder:
        write_setup(folder, classifier, samples.origin, asdict(config), plan.training, plan.validation)
    if samples.ignored:
        say(f"left out, no videos by their names: {some(samples.ignored)}")
    if samples.missing:
        say(f"left out, not on disk: {some(samples.missing)}")
    for line in plan_lines(classifier, plan, config):
        say(line)
    started, history = time.monotonic(), []
    failures: dict[str, str] = {}
    best, best_weights = None, None
    videos = config.batch_size * config.accumulate  # of a step
    for epoch in range(config.epochs):
        clips.epoch = epoch
        order = epoch_order(len(clips), config.seed, epoch)
        if config.drop_last:
            order = order[: plan.steps_per_epoch * videos]
        batches = [order[i : i + config.batch_size] for i in range(0, len(order), config.batch_size)]
        loader = DataLoader(clips, batch_sampler=batches, num_workers=config.workers, collate_fn=collate)
        model.train()
        total, seen, clock, waited = 0.0, 0, time.monotonic(), 0.0
        gathered, expected = 0, 0  # clips of the step: whose gradients are there, and that were planned
        items = iter(bar(loader, f"epoch {epoch + 1}/{config.epochs}", len(batches), progress))
        for number in range(1, len(batches) + 1):
            before = time.monotonic()
            clip, labels, broken = next(items)
            waited += time.monotonic() - before
            if broken and config.on_error == "error":
                raise DataError(next(iter(broken.values())))
            for name, reason in broken.items():
                if name not in failures:
                    say(f"skipped: {reason}")
                    failures[name] = reason
            if gathered == expected == 0:
                first = (number - 1) * config.batch_size
                expected = len(order[first : first + videos]) * config.num_sample
            if len(labels):
                # 1: not the draws of any video of TrainClips.
                mixing = np.random.default_rng((config.seed, epoch, number, 1))
                loss = loss_of(model, clip, labels, config, mixing, accelerator.device)
                if not torch.isfinite(loss):
                    raise RuntimeError(
                        f"the loss is {loss.item()} in epoch {epoch + 1}; "
                        f"a smaller --lr (now {config.lr}) may help"
                    )
                accelerator.backward(loss * (len(labels) / expected))
                gathered += len(labels)
                total, seen = total + loss.item() * len(labels), seen + len(labels)
            if number % config.accumulate and number < len(batches):
                continue
            if gathered:
                if gathered < expected:  # some could not be decoded
                    scale_gradients(optimizer, expected / gathered)
                optimizer.step()
                optimizer.zero_grad()
            gathered = expected = 0
            rate = schedule.get_last_lr()[0]
            schedule.step()
        next(items, None)  # the bar ends
        if not seen:
            raise DataError(f"none of the {len(plan.training)} training videos can be decoded")
        seconds = time.monotonic() - clock
        result = evaluate(
            classifier,
            plan.validation,
            segments=1,
            crops=1,
            workers=config.workers,
            on_error=config.on_error,
            progress=progress,
        )
        if len(result.failures) == len(plan.validation):
            raise DataError(f"none of the {len(plan.validation)} validation videos can be decoded")
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
            "data_wait": waited / seconds,
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


def loss_of(
    model: nn.Module,
    clip: Tensor,
    labels: Tensor,
    config: TrainConfig,
    rng: np.random.Generator,
    device: torch.device,
) -> Tensor:
    """Mean cross entropy of a batch, whose clips are mixed if the config says so."""
    clip, labels = clip.to(device), labels.to(device)
    if not config.mixup and not config.cutmix:
        return nn.functional.cross_entropy(model(clip), labels, label_smoothing=config.label_smoothing)
    classes: int = model.head.linear.out_features  # type: ignore[union-attr, assignment]
    targets = soft_targets(labels, classes, config.label_smoothing)
    clip, targets = mix(clip, targets, config.mixup, config.cutmix, rng)
    return nn.functional.cross_entropy(model(clip), targets)


def epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """The order of the videos in an epoch: a permutation that depends on (seed, epoch) alone."""
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


def scale_gradients(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Multiply every gradient."""
    for group in optimizer.param_groups:
        for x in group["params"]:
            if x.grad is not None:
                x.grad.mul_(factor)


def collate(items: list[tuple[Tensor | None, int, str, str]]) -> tuple[Tensor, Tensor, dict[str, str]]:
    """(clips, labels, reason by name of what could not be decoded); the clips of a video stand together."""
    good = [(clips, label) for clips, label, _, _ in items if clips is not None]
    clips = torch.cat([clips for clips, _ in good]) if good else torch.empty(0)
    labels = [label for clips, label in good for _ in clips]
    broken = {name: reason for clips, _, name, reason in items if clips is None}
    return clips, torch.tensor(labels, dtype=torch.long), broken


def some(names: tuple[str, ...], most: int = 10) -> str:
    """Names for a message, not more than fit."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def bar(loader: Any, title: str, total: int, show: bool) -> Iterator[Any]:
    """The batches, with a progress bar on a terminal."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not (show and console.is_terminal)
    ) as shown:
        yield from shown.track(loader, total=total)
