"""The videos that each process takes in each step, and batches of their clips."""

from typing import NamedTuple

import torch
from torch import Tensor

from videossp.data.clips import Unfinished
from videossp.training.balance import balanced_order
from videossp.training.config import TrainConfig
from videossp.training.plan import Plan


class Batch(NamedTuple):
    """A batch of clips.

    Attributes:
        clips: (clips, 3, frames, height, width), normalised; unfinished ones are (clips, frames, 3, height,
            width) in [0, 1], see `TrainClips.unfinished`.
        labels: (clips,).
        names: of the videos, in the order of their clips.
        unreadable: reason by name of each video that could not be decoded.
        flipped: (clips,) bool, whether to mirror each unfinished clip; None if the clips are finished.
    """

    clips: Tensor
    labels: Tensor
    names: list[str]
    unreadable: dict[str, str]
    flipped: Tensor | None = None


class Share(NamedTuple):
    """The part of a step that one process computes.

    Attributes:
        batches: (number, items of `TrainClips`) of each of its batches.
        clips: clips of the step over all processes.
    """

    batches: list[tuple[int, list[int]]]
    clips: int


def shares_of(epoch: int, plan: Plan, config: TrainConfig, rank: int, processes: int) -> list[Share]:
    """The shares of process `rank` in the steps of an epoch.

    The batches of a step have the same numbers and the same videos however many processes divide them.
    """
    size = config.batch_size
    order = epoch_order(len(plan.training), config.seed, epoch)
    if config.balance == "sampler":
        generator = torch.Generator().manual_seed(config.seed * 100_003 + epoch)
        order = balanced_order([x.label for x in plan.training], generator)
    videos = size * config.grad_accum_steps * processes
    shares = []
    for step in range(plan.steps_per_epoch):
        part = order[step * videos : (step + 1) * videos]
        batches = [(i, part[i * size : (i + 1) * size]) for i in range(videos // size)]
        mine = [(number, indices) for number, indices in batches[rank::processes] if indices]
        shares.append(Share(mine, len(part) * config.num_sample))
    return shares


def epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """The order of the videos in an epoch: a permutation that depends on (seed, epoch) alone."""
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


def collate(items: list[tuple[Tensor | Unfinished | None, int, str, str]]) -> Batch:
    """Make a batch of items of `TrainClips`; the clips of a video follow each other."""
    decoded = [(clips, label, name) for clips, label, name, _ in items if clips is not None]
    clips = [x.images if isinstance(x, Unfinished) else x for x, *_ in decoded]
    flipped = [x.flipped for x, *_ in decoded if isinstance(x, Unfinished)]
    return Batch(
        torch.cat(clips) if clips else torch.empty(0),
        torch.tensor(
            [label for x, (_, label, _) in zip(clips, decoded, strict=True) for _ in x], dtype=torch.long
        ),
        [name for *_, name in decoded],
        {name: reason for clips, _, name, reason in items if clips is None},
        torch.cat(flipped) if flipped else None,
    )
