"""`TrainConfig`: how to train; the same for every method."""

from dataclasses import dataclass
from typing import Literal

from videossp.data.augment import parse_rand_augment
from videossp.inference.evaluate import OnError
from videossp.model.precision import Precision


@dataclass(frozen=True)
class TrainConfig:
    """How to train; the same for every method.

    Attributes:
        epochs: passes over the training videos.
        batch_size: videos per batch.
        grad_accum_steps: batches per optimiser step; their gradients are averaged over the clips.
        drop_last: leave out the videos that do not fill the last step of an epoch.
        lr: peak learning rate of AdamW.
        min_lr: learning rate at both ends: warm-up starts from it, the cosine ends at it.
        scale_lr: multiply lr and min_lr by the clips of a step over 256, the paper's rule.
        warmup_epochs: epochs of linear warm-up.
        weight_decay: of AdamW, on matrices only.
        layer_decay: learning rate of a block over that of the next one; 1 is the same for all. Where a
            method keeps all blocks in one tensor, or shares weights among them, they train at the full rate.
        label_smoothing: share of the target spread over all classes.
        num_sample: clips made of a video each time it is read, of the same frames, augmented independently
            (repeated augmentation).
        fixed_augmentations: augmentations of each video, used in turn by the epochs; 0: a new one in each
            epoch. If not 0, methods that read only the output of the frozen backbone (linear, mean,
            attentive) compute its features once and cache them on disk.
        features: folder to keep them in; default: videossp/features in the user's cache folder.
        crop_scale: smallest and largest share of a frame that a random crop covers.
        flip: mirror half of the clips. auto: unless class names hold a direction; on: the same, but that
            is an error; force: whatever they hold.
        rand_augment: RandAugment by timm's name for it, as rand-m7-n4-mstd0.5-inc1; empty: none.
        erasing: probability of random erasing.
        mixup, cutmix: alpha of the Beta distribution of Mixup and CutMix; 0: off. Both: either, by chance.
        val_fraction: fraction of each class held out for validation if the data has no validation split. The
            same videos are held out whatever the seed, so that runs can be compared.
        select_on: the split that chooses the epoch. test, which many published runs use, makes the
            reported accuracy too good.
        grad_checkpoint: compute the inside of each block again for the backward instead of keeping it:
            less than half the memory, about 1.6 times the time.
        precision: of the matrix products; bf16 rounds the frozen weights.
        max_grad_norm: largest norm of the gradient; 0: any.
        ema_decay: decay of an exponential moving average of the weights, which is then validated and saved;
            0: none.
        max_skipped: steps of a run that may be left out because the loss or the gradient is not finite.
        save_minutes: at least this often a checkpoint is written, and after each epoch.
        trackers: names of accelerate's trackers (tensorboard, wandb, ...), besides metrics.jsonl.
        on_error: at a video that cannot be decoded: stop with an error, or skip it and list it.
        workers: processes that decode ahead; 0 decodes in this one.
        timeout: seconds that a worker process may take for a training batch, or for a video in validation
            and feature caching; 0: no limit. Without workers nothing can interrupt a decoder, so no limit
            applies.
        seed: of everything random.
    """

    epochs: int = 10
    batch_size: int = 8
    grad_accum_steps: int = 1
    drop_last: bool = False
    lr: float = 1e-3
    min_lr: float = 1e-6
    scale_lr: bool = False
    warmup_epochs: float = 1.0
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    label_smoothing: float = 0.1
    num_sample: int = 1
    fixed_augmentations: int = 0
    features: str | None = None
    crop_scale: tuple[float, float] = (0.5, 1.0)
    flip: Literal["auto", "on", "off", "force"] = "auto"
    rand_augment: str = ""
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    val_fraction: float = 0.2
    select_on: Literal["val", "test"] = "val"
    grad_checkpoint: bool = False
    precision: Precision = "float32"
    max_grad_norm: float = 0.0
    ema_decay: float = 0.0
    max_skipped: int = 5
    save_minutes: float = 10.0
    trackers: tuple[str, ...] = ()
    on_error: OnError = "error"
    workers: int = 0
    timeout: float = 300.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "crop_scale", tuple(self.crop_scale))
        object.__setattr__(self, "trackers", tuple(self.trackers))
        least = {"epochs": 1, "batch_size": 1, "grad_accum_steps": 1, "num_sample": 1}
        least |= dict.fromkeys(
            ("workers", "seed", "min_lr", "weight_decay", "warmup_epochs", "mixup", "cutmix")
            + ("max_grad_norm", "max_skipped", "save_minutes", "timeout", "fixed_augmentations"),
            0,
        )
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} must be at least {bound}, got {getattr(self, name)}")
        if not 0 <= self.label_smoothing < 1 or not 0 <= self.erasing <= 1:
            raise ValueError("label_smoothing must lie in [0, 1), erasing in [0, 1]")
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"val_share must lie between 0 and 1, got {self.val_fraction}")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"scale must be two shares in (0, 1], the smaller first, got {self.crop_scale}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema must lie in [0, 1), got {self.ema_decay}")
        if not self.lr > 0 or not 0 < self.layer_decay <= 1:
            raise ValueError("lr must be positive, layer_decay in (0, 1]")
        if self.min_lr > self.lr:
            raise ValueError(
                f"min_lr, where the rate starts and ends, is above its peak: {self.min_lr} > {self.lr}"
            )
        if self.flip not in ("auto", "on", "off", "force") or self.select_on not in ("val", "test"):
            raise ValueError("flip is auto, on, off or force; choose_on is val or test")
        if self.rand_augment:
            parse_rand_augment(self.rand_augment)
