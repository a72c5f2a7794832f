"""`TrainConfig`: the settings of a training, the same for every method; old names of its fields."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from videossp.data.augment import parse_rand_augment
from videossp.inference.evaluate import OnError
from videossp.model.precision import Precision
from videossp.system.plain import plain

# Old field name -> new, for run folders and checkpoints of version 0.1.
RENAMED = {
    "accumulate": "grad_accum_steps",
    "draws": "fixed_augmentations",
    "scale": "crop_scale",
    "val_share": "val_fraction",
    "choose_on": "select_on",
    "clip_grad": "max_grad_norm",
    "ema": "ema_decay",
}
LARGEST_SEED = 2**32 - 1  # of NumPy's global generator
# Types of fields: the classes of their values, and their names in errors. NumPy's numbers are numbers too.
KINDS: dict[type, type] = {bool: bool, int: Integral, float: Real, str: str}
KIND_NAMES = {bool: "True or False", int: "a whole number", float: "a number", str: "a string"}


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a training; the same for every method.

    Attributes:
        epochs: passes over the training videos.
        batch_size: videos per batch and process.
        grad_accum_steps: batches per optimiser step; gradients are averaged over their clips.
        drop_last: leave out the videos that do not fill the last step of an epoch.
        lr: peak learning rate of AdamW. Default: the rate measured for the method and the backbone.
        min_lr: learning rate at both ends: the warm-up starts from it, the cosine ends at it.
        scale_lr: multiply lr and min_lr by the clips per step / 256, the paper's rule.
        warmup_epochs: epochs of linear warm-up. With as many as epochs, or more, the rate never decays.
        weight_decay: of AdamW, on matrices only.
        layer_decay: learning rate of a block over that of the next block; 1: the same for all blocks. Weights
            that a method shares among blocks, or keeps in one tensor for all, train at the full rate.
        label_smoothing: fraction of the target that is spread over all classes.
        balance: for classes with different numbers of videos. none: each video counts the same. loss: each
            class does, by weights of the loss. sampler: each class takes an equal part of every epoch, so
            that videos of small classes are used several times, with other augmentations.
        num_sample: clips per video and step, of the same frames, augmented independently (repeated
            augmentation).
        fixed_augmentations: augmentations of each video, used in turn by the epochs; 0: a new one in each
            epoch. If not 0, methods that read only the output of the frozen backbone (linear, mean,
            moments, attentive) compute its features once and cache them on disk.
        features: folder of the feature cache; default: videossp/features in the user's cache folder.
        features_limit: GB (10**9 bytes) that the cache may take. At the end of a run the files that were not
            used for longest are removed, but none that was used within a day.
        crop_scale: smallest and largest fraction of a frame's area that a random crop covers.
        flip: mirror half of the clips. auto: off if class names contain a direction. on: an error in that
            case. force: always on.
        rand_augment: RandAugment by timm's name for it, as rand-m7-n4-mstd0.5-inc1; empty: none.
        erasing: probability of random erasing.
        mixup, cutmix: alpha of the Beta distribution of Mixup and CutMix; 0: off. With both, each batch takes
            one of them at random.
        val_fraction: fraction of each class held out for validation if the data has no validation split. The
            same videos are held out whatever the seed, so that runs can be compared. 0: all videos train, and
            the last epoch is kept.
        select_on: the split that selects the epoch. test, which many published runs use, gives an
            optimistically biased accuracy.
        calibrate: at the end, fit the temperature of the probabilities on the validation videos, unless they
            are those of the test split, and store it in the adapter.
        grad_checkpoint: recompute the inside of each block in the backward pass instead of keeping it: less
            than half the memory, about 1.6 times the time.
        device: the device that trains, see `model/device.py`. auto: that of the classifier if it is not on
            the CPU, else a GPU of CUDA or ROCm, else the CPU.
        precision: of the matrix products; bf16 rounds the frozen weights. Default: bf16 on CUDA, else
            float32.
        max_grad_norm: largest norm of the gradient; 0: unlimited.
        ema_decay: decay of an exponential moving average of the weights, which is then validated and saved;
            0: none.
        max_skipped: most steps to skip because of non-finite values.
        save_minutes: a checkpoint is written at least this often, and after each epoch.
        trackers: names of accelerate's trackers (tensorboard, wandb, ...), besides metrics.jsonl.
        on_error: at a video that cannot be decoded: stop with an error, or skip it and report it.
        workers: worker processes that decode ahead; 0: the training process decodes. Default: 0 on a CPU,
            else all cores but one, and 0 to read cached features.
        timeout: seconds that a worker process may take for a training batch, or for a video in validation
            and feature caching; 0: no limit. Has no effect with workers=0.
        seed: of all random numbers.
    """

    epochs: int = 10
    batch_size: int = 8
    grad_accum_steps: int = 1
    drop_last: bool = False
    lr: float | None = None
    min_lr: float = 1e-6
    scale_lr: bool = False
    warmup_epochs: float = 1.0
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    label_smoothing: float = 0.1
    balance: Literal["none", "loss", "sampler"] = "none"
    num_sample: int = 1
    fixed_augmentations: int = 0
    features: str | None = None
    features_limit: float = 5.0
    crop_scale: tuple[float, float] = (0.5, 1.0)
    flip: Literal["auto", "on", "off", "force"] = "auto"
    rand_augment: str = ""
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    val_fraction: float = 0.2
    select_on: Literal["val", "test"] = "val"
    calibrate: bool = True
    grad_checkpoint: bool = False
    device: str = "auto"
    precision: Precision | None = None
    max_grad_norm: float = 0.0
    ema_decay: float = 0.0
    max_skipped: int = 5
    save_minutes: float = 10.0
    trackers: tuple[str, ...] = ()
    on_error: OnError = "error"
    workers: int | None = None
    timeout: float = 300.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kind in field_types().items():
            value = plain(getattr(self, name))
            if get_origin(kind) is tuple:
                value = as_tuple(name, value)
            object.__setattr__(self, name, value)
            check_type(name, value, kind)
        for name in ("epochs", "batch_size", "grad_accum_steps", "num_sample"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in (
            *(
                "min_lr",
                "warmup_epochs",
                "weight_decay",
                "fixed_augmentations",
                "features_limit",
                "mixup",
                "cutmix",
            ),
            *("max_grad_norm", "max_skipped", "save_minutes", "timeout"),
        ):
            self._check(name, getattr(self, name) >= 0, "at least 0")
        self._check("workers", self.workers is None or self.workers >= 0, "at least 0")
        self._check("seed", 0 <= self.seed <= LARGEST_SEED, f"from 0 to {LARGEST_SEED}")
        self._check("lr", self.lr is None or self.lr > 0, "above 0")
        self._check("layer_decay", 0 < self.layer_decay <= 1, "above 0 and at most 1")
        self._check("erasing", 0 <= self.erasing <= 1, "at least 0 and at most 1")
        for name in ("label_smoothing", "ema_decay"):
            self._check(name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        self._check("val_fraction", 0 <= self.val_fraction < 1, "at least 0 and below 1")
        in_order = len(self.crop_scale) == 2 and 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1
        self._check("crop_scale", in_order, "two fractions above 0 and at most 1, the smaller first")
        if self.lr is not None and self.min_lr > self.lr:
            raise ValueError(
                f"min_lr, the learning rate at both ends, is above the peak: {self.min_lr} > {self.lr}"
            )
        if self.rand_augment:
            parse_rand_augment(self.rand_augment)

    def _check(self, name: str, holds: bool, bounds: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {bounds}, got {getattr(self, name)}")


@cache
def field_types() -> dict[str, Any]:
    """The type of each field of `TrainConfig`."""
    types = get_type_hints(TrainConfig)
    return {x.name: types[x.name] for x in fields(TrainConfig)}


def as_tuple(name: str, value: Any) -> tuple[Any, ...]:
    """A sequence as a tuple. A string is not one: its letters would become the elements."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a list or tuple, got {value!r}")
    return tuple(value)


def check_type(name: str, value: Any, kind: Any) -> None:
    """Refuse values of another type, numbers that are not finite, and unknown choices.

    Args:
        name: the field, for the message.
        value: its value.
        kind: its type, as the class declares it.

    Raises:
        ValueError: names the field and the type that it must have.
    """
    if get_origin(kind) is tuple:
        for x in value:
            check_type(name, x, get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        if value is not None:
            check_type(name, value, get_args(kind)[0])
    elif get_origin(kind) is Literal:
        if not isinstance(value, str) or value not in get_args(kind):
            raise ValueError(f"{name} must be {' or '.join(get_args(kind))}, got {value!r}")
    elif not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} must be {KIND_NAMES[kind]}, got {value!r}")
    elif isinstance(value, Real) and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def has_old_names(settings: Mapping[str, Any]) -> bool:
    """Whether settings (of a config.yaml or a checkpoint) were written before fields were renamed."""
    return any(name in RENAMED for name in settings)


def current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the current names of the fields, in the same order."""
    return {RENAMED.get(name, name): value for name, value in settings.items()}
