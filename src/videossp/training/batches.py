"""The videos that each process takes in each step, and batches of their clips."""

from typing import NamedTuple

import torch
from torch import Tensor

from videossp.training.config import TrainConfig
from videossp.training.plan import Plan


class Batch(NamedTuple):
    """A batch of clips.

    Attributes:
        clips: (clips, 3, frames, height, width).
        labels: (clips,).
        names: of the videos, in the order of their clips.
        unreadable: reason by name of each video that could not be decoded.
    """

    clips: Tensor
    labels: Tensor
    names: list[str]
    unreadable: dict[str, str]


class Share(NamedTuple):
    """The part of a step that one process computes.

    Attributes:
        batches: (number, indices of videos) of each of its batches.
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


def collate(items: list[tuple[Tensor | None, int, str, str]]) -> Batch:
    """Make a batch of items of `TrainClips`; the clips of a video follow each other."""
    decoded = [(clips, label, name) for clips, label, name, _ in items if clips is not None]
    labels = [label for clips, label, _ in decoded for _ in clips]
    return Batch(
        torch.cat([clips for clips, *_ in decoded]) if decoded else torch.empty(0),
        torch.tensor(labels, dtype=torch.long),
        [name for *_, name in decoded],
        {name: reason for clips, _, name, reason in items if clips is None},
    )
