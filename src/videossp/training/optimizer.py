"""The tuned set as groups of the optimiser, and the learning rate over the steps."""

import math
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor

from videossp.classifier import Classifier
from videossp.training.config import TrainConfig
from videossp.training.plan import Plan


def parameter_groups(classifier: Classifier, plan: Plan, config: TrainConfig) -> list[dict[str, Any]]:
    """The tuned set for the optimiser, by learning rate and weight decay.

    Not decayed: vectors (biases, norms, gains), what the tuner says (`undecayed`), and of a thawed backbone
    A, convolutions, cls and positions, which decay would pull away from what was learned.

    With layer decay d on L blocks, block i (from 0) trains at lr * d^(L - i), the embedding at
    lr * d^(L + 1), the head, the final norm and what a method shares among blocks at lr. (The published
    code gives every block the rate of the head: its line for the blocks is commented out.)
    """
    own = [f"tuner.{pattern}" for pattern in classifier.tuner.undecayed]
    spared = [*own, "*.A_log", "*.A_b_log", "*.conv1d*.weight", "backbone.cls_token", "backbone.*pos_embed*"]

    def decay(name: str, x: Tensor) -> float:
        matrix = x.ndim > 1 and not any(fnmatchcase(name, pattern) for pattern in spared)
        return config.weight_decay if matrix else 0.0

    # Matrices first, as the optimiser's state has them.
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, x in classifier.trainable().items():
        depth = classifier.backbone.config.depth
        above = 0 if config.layer_decay == 1 else depth + 1 - layer_number(classifier, name)
        weight_decay = decay(name, x)
        group = groups.setdefault(
            (above, weight_decay == 0),
            {"params": [], "lr": plan.lr * config.layer_decay**above, "weight_decay": weight_decay},
        )
        group["params"].append(x)
    return [groups[key] for key in sorted(groups)]


def layer_number(classifier: Classifier, name: str) -> int:
    """0 for the embedding, i + 1 for block i, the number of blocks + 1 for what comes after or is shared."""
    last = classifier.backbone.config.depth + 1
    room, _, rest = name.partition(".")
    if room == "backbone":
        block = re.match(r"layers\.(\d+)\.", rest)
        return int(block[1]) + 1 if block else 0
    layer = classifier.tuner.layer_of(rest) if room == "tuner" else None
    return last if layer is None else layer + 1


def learning_rate(plan: Plan, config: TrainConfig) -> Callable[[int], float]:
    """step -> factor on the peak: linear warm-up from min_lr, then half a cosine down to it."""
    warmup = round(config.warmup_epochs * plan.steps_per_epoch)
    steps = config.epochs * plan.steps_per_epoch
    floor = plan.min_lr / plan.lr

    def factor(step: int) -> float:
        if step < warmup:
            return floor + (1 - floor) * (step + 1) / warmup
        done = (step - warmup) / max(1, steps - warmup)
        return floor + (1 - floor) * (1 + math.cos(math.pi * min(1.0, done))) / 2

    return factor
