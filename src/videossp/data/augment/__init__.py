"""Augmentation of training clips. Every random draw holds for all frames of a clip."""

from videossp.data.augment.erasing import erase
from videossp.data.augment.flip import directional_classes, should_flip
from videossp.data.augment.mixing import mix, soft_targets
from videossp.data.augment.rand_augment import RandAugment, parse_rand_augment

__all__ = [
    "RandAugment",
    "directional_classes",
    "erase",
    "mix",
    "parse_rand_augment",
    "should_flip",
    "soft_targets",
]
