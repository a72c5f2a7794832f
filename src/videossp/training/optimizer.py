"""The trainable parameters as groups of the optimiser, by learning rate and weight decay."""

import re
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor

from videossp.classifier import Classifier
from videossp.training.config import TrainConfig
from videossp.training.plan import Plan

# Weight decay would pull these parts of a thawed backbone away from their pretrained values.
NOT_DECAYED = ("*.A_log", "*.A_b_log", "*.conv1d*.weight", "backbone.cls_token", "backbone.*pos_embed*")


def parameter_groups(classifier: Classifier, plan: Plan, config: TrainConfig) -> list[dict[str, Any]]:
    """Group the trainable parameters for the optimiser.

    Not decayed: vectors (biases, norms, gains), the tuner's `undecayed` parameters, and of a thawed backbone
    A, convolutions, the cls token and position embeddings.

    With layer decay d on L blocks, block i (from 0) trains at lr * d^(L - i) and the embedding at
    lr * d^(L + 1). The head, the final norm and parameters that a method shares among blocks train at lr.
    (The published code gives every block the rate of the head: its line for the blocks is commented out.)
    """
    spared = [*(f"tuner.{pattern}" for pattern in classifier.tuner.undecayed), *NOT_DECAYED]

    def decay(name: str, x: Tensor) -> float:
        decayed = x.ndim > 1 and not any(fnmatchcase(name, pattern) for pattern in spared)
        return config.weight_decay if decayed else 0.0

    # Matrices first: the optimiser's state in a checkpoint is numbered by this order.
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
    """The layer of a parameter, for layer decay.

    Returns:
        0 for the embedding, i + 1 for block i, the number of blocks + 1 for the head and shared parameters.
    """
    last = classifier.backbone.config.depth + 1
    part, _, rest = name.partition(".")
    if part == "backbone":
        block = re.match(r"layers\.(\d+)\.", rest)
        return int(block[1]) + 1 if block else 0
    layer = classifier.tuner.layer_of(rest) if part == "tuner" else None
    return last if layer is None else layer + 1
