"""Classes of different sizes: `class_weights` for the loss, `balanced_order` for the videos of an epoch."""

from collections.abc import Sequence
from itertools import chain, islice

import torch
from torch import Tensor


def class_weights(labels: Sequence[int], classes: int) -> Tensor:
    """(classes,) weights of the loss with which all classes that have videos count the same.

    The weight of a class is inverse to its number of videos; the mean over the videos is 1. A class without
    videos has weight 0.
    """
    counts = torch.tensor(labels).bincount(minlength=classes)
    present = counts > 0
    weights = torch.zeros(classes)
    weights[present] = len(labels) / (int(present.sum()) * counts[present])
    return weights


def balanced_order(labels: Sequence[int], generator: torch.Generator) -> list[int]:
    """An epoch of as many items as there are videos, in which all classes have equally many; in random order.

    Of a large class, a random part of the videos is used. Of a small class, all videos are used before one is
    used again.

    Args:
        labels: of the videos.
        generator: decides all that is random.

    Returns:
        Items: i is video i, and i + k * len(labels) is its use number k, counted from 0.
    """
    count = len(labels)
    videos: dict[int, list[int]] = {}
    for i, label in enumerate(labels):
        videos.setdefault(label, []).append(i)
    shares, rest = divmod(count, len(videos))
    names = sorted(videos)
    more = {names[i] for i in torch.randperm(len(names), generator=generator)[:rest].tolist()}
    items: list[int] = []
    for name, own in videos.items():
        size = shares + (name in more)
        uses = -(-size // len(own))
        rounds = (
            [own[i] + k * count for i in torch.randperm(len(own), generator=generator).tolist()]
            for k in range(uses)
        )
        items += islice(chain.from_iterable(rounds), size)
    return [items[i] for i in torch.randperm(len(items), generator=generator).tolist()]
