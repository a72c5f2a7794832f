"""`Classifier`: a backbone, a tuner and a head; how it is made and saved."""

import copy
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
from fnmatch import fnmatchcase
from numbers import Integral
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from videossp.adapter_folder import write_adapter
from videossp.class_names import class_names
from videossp.data.crop import normalise_views
from videossp.data.sampling import ClipFormat, Sampling
from videossp.errors import VideoSSPWarning
from videossp.inference.passes import finite, scoring
from videossp.inference.predict import Paths, Prediction, predict
from videossp.inference.video_results import OnError
from videossp.methods import find_method, make_tuner, method_names, resolve_options
from videossp.methods.options import create_types
from videossp.model.backbones import (
    CONFIG,
    Source,
    absolute,
    build_backbone,
    fingerprint,
    source_of,
)
from videossp.model.config import BACKBONES, VideoMambaConfig
from videossp.model.contents import Contents
from videossp.model.head import Head, fill_head
from videossp.model.hooks import Tuner
from videossp.model.precision import Precision, check_float32, computing, round_frozen
from videossp.model.tokens import Layout, Tokens
from videossp.model.videomamba import VideoMamba
from videossp.system.plain import plain
from videossp.system.printable import printable
from videossp.system.versions import versions


class Classifier(nn.Module):
    """A frozen backbone, a tuner and a head; make it with `create`, `load` or `from_official`.

    The trained parameters are those of the tuner, those of the head, and the backbone parameters that the
    tuner thaws. Only these, and buffers of the tuner, are saved.

    Attributes:
        classes: class names, in the order of the labels.
        method, options: name and all options of the tuning method.
        clip_format: how a video becomes a clip.
        source, sha256: where the backbone came from, and its `fingerprint` before training.
        contents: the tensors that an adapter of it holds, as the method decides when it is made.
        precision: of the matrix products, see `to_precision`.
        metrics: figures of the training, saved with the adapter.
        video_seconds: mean duration of the training videos, saved with the adapter; None: not known.
        notes: remarks on explicit choices, one line each.
        warnings: reasons why results may mislead, one line each.
        unregistered: the class of a method that has no registered name, or None.
        rounded: whether the frozen weights are rounded to bf16.
        merged: whether `merge` was called.
        disabled: whether a `disable_adapter` context is active.
    """

    def __init__(
        self,
        backbone: VideoMamba,
        tuner: Tuner,
        head: Head,
        *,
        classes: Sequence[str],
        method: str | type[Tuner],
        options: Mapping[str, Any],
        clip_format: ClipFormat,
        source: Source,
    ) -> None:
        super().__init__()
        self.backbone, self.tuner, self.head = backbone, tuner, head
        self.to(self.device)  # that of a given backbone
        self.classes, self.clip_format, self.source = tuple(classes), clip_format, source
        self.method = method if isinstance(method, str) else method.__name__
        self.unregistered = None if isinstance(method, str) else method
        self.options: dict[str, Any] = plain(options)
        self.precision: Precision = "float32"
        self.rounded = self.merged = self.disabled = False
        self.metrics: dict[str, Any] = {}
        self.video_seconds: float | None = None
        self.notes: tuple[str, ...] = ()
        self.warnings: tuple[str, ...] = ()
        self.sha256 = fingerprint(backbone)
        trained = []
        backbone.requires_grad_(False)
        for pattern in tuner.thaw:
            names = [name for name, _ in backbone.named_parameters() if fnmatchcase(name, pattern)]
            if not names:
                known = ", ".join(dict(backbone.named_parameters()))
                raise ValueError(f"thaw pattern {pattern!r} matches no backbone parameter; there are {known}")
            for name in names:
                backbone.get_parameter(name).requires_grad_()
            trained += names
        self.contents = Contents(self.parts(), trained)
        self._made_by = self.method, copy.deepcopy(self.options)

    def parts(self) -> dict[str, nn.Module]:
        """Its parts by the names that begin the names of their tensors."""
        return {"tuner": self.tuner, "head": self.head, "backbone": self.backbone}

    @create_types
    @classmethod
    def create(
        cls,
        backbone: str | VideoMambaConfig | VideoMamba = "videomamba_nano",
        *,
        num_classes: int | None = None,
        classes: Sequence[str] | None = None,
        method: str | type[Tuner] = "ssp",
        weights: str | None = None,
        frames: int | None = None,
        size: int | tuple[int, int] | None = None,
        sampling: Sampling = "uniform",
        stride: int = 4,
        views: tuple[int, int] = (1, 1),
        drop_path: float = 0.0,
        dropout: float = 0.0,
        seed: int = 0,
        **options: Any,
    ) -> "Classifier":
        """Make a classifier to be trained.

        A `VideoSSPWarning` is issued for each thing that may mislead and was not asked for, such as random
        weights; `warnings` lists them too. Remarks on explicit choices are in `notes`.

        Args:
            backbone: `videomamba_nano|tiny|small|middle|base`, a name of `PUBLISHED_BACKBONES`, whose file is
                downloaded once from the hub, or a path or hub id of a checkpoint. Also sizes, for a backbone
                with random weights, or a module, of which the classifier takes a copy: the given one stays as
                it is, whatever the method does to the copy.
            num_classes: number of classes; default: that of `classes`, else of the checkpoint's head.
            classes: class names, in the order of the labels: strings, none empty, all different.
            method: a name of `methods.method_names()`; several names joined by "+", which edit one after the
                other; or a class. A classifier with a class that is not registered cannot be saved.
            weights: of `videomamba_nano|tiny|small|middle|base`: a path, a hub id, a published name or
                "random". Default: the bundled weights (videomamba_nano), else random ones.
            frames: frames of a clip; default: the backbone's. Position embeddings are resized to it.
            size: pixels of a clip, (height, width) or one number for both; default: the backbone's.
            sampling, stride: how frames are sampled from a video, see `ClipFormat`.
            views: (segments, crops) of a video in evaluation and prediction.
            drop_path: stochastic depth of the backbone while training; 0 leaves that of a given module.
            dropout: dropout before the linear head while training.
            seed: seed of everything that starts at random.
            **options: of the method, see its class; of a chain nested by name, lora={"rank": 8}.

        Raises:
            ValueError: an unknown method or option; the message lists the known ones. A value that an option
                or argument cannot have; the message names it.
            WeightsError: weights cannot be found or read, or do not fit.
        """
        names = None if classes is None else class_names(classes)
        if num_classes is not None and (not isinstance(num_classes, Integral) or num_classes < 1):
            raise ValueError(f"num_classes must be a whole number of at least 1, got {num_classes!r}")
        if names is not None and num_classes not in (None, len(names)):
            raise ValueError(f"num_classes is {num_classes}, but classes has {len(names)} names")
        numbers = plain((frames, size, stride, views, drop_path, dropout, seed))
        frames, size, stride, views, drop_path, dropout, seed = numbers
        if not isinstance(seed, int):
            raise ValueError(f"seed must be a whole number, got {seed!r}")
        given = None if isinstance(backbone, str) else backbone
        if isinstance(backbone, str):
            if not backbone or weights == "":
                raise ValueError("backbone and weights must not be empty: leave weights out for the default")
            if weights is not None and backbone not in BACKBONES:
                raise ValueError(
                    f"weights are those of a named backbone ({', '.join(BACKBONES)}); "
                    "give the checkpoint as backbone instead"
                )
            source = Source(absolute(backbone), weights and absolute(weights), seed)
        else:
            source = source_of(backbone, seed)
            if weights not in (None, source.weights):
                raise ValueError(
                    f"weights cannot be given with a {source.name}; give the checkpoint as backbone"
                )
        if isinstance(method, type):
            method = _registered_name(method) or method
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            rate = given.drop_path if isinstance(given, VideoMamba) and not drop_path else drop_path
            network, published = build_backbone(source, frames, size, rate, given=given)
            tuner = make_tuner(method, network.config, options)
            if names is None:
                count = num_classes
                if count is None and published and published.head:
                    count = published.head["bias"].shape[0]
                if count is None:
                    raise ValueError("give num_classes or classes: the checkpoint has no classifier head")
                names = tuple(str(i) for i in range(count))
            head = Head(network.config.d_model, len(names), dropout)
        if published:
            fill_head(head, published)
        clip_format = ClipFormat(network.config.frames, network.config.size, sampling, stride, views=views)
        made = cls(
            network,
            tuner,
            head,
            classes=names,
            method=method,
            options=resolve_options(method, network.config, options),
            clip_format=clip_format,
            source=source,
        )
        if isinstance(given, VideoMambaConfig) and weights is None:
            made.warnings = (f"{CONFIG}: RANDOM weights, because only sizes were given; for trials only",)
        else:
            made.notes, made.warnings = source.notes, source.warnings
        if published:
            made.notes += tuple(published.notes)
            made.warnings += tuple(published.warnings)
        if len(names) == 1:
            made.warnings += (f"one class: every prediction is {printable(names[0])} with probability 1",)
        for text in made.warnings:
            warnings.warn(text, VideoSSPWarning, stacklevel=2)
        return made

    def to_precision(self, precision: Precision) -> "Classifier":
        """Compute the matrix products of backbone and method in this precision from now on.

        With bf16 the frozen weights of the products are rounded in place. Trained weights, the residual
        stream, the state of the scan and the head stay float32.

        Raises:
            ValueError: an unknown precision, or float32 after the weights were rounded.
        """
        if precision not in get_args(Precision):
            raise ValueError(f"precision is {' or '.join(get_args(Precision))}, got {precision!r}")
        if precision == "float32" and self.rounded:
            raise ValueError("the weights are rounded to bf16 already; load the classifier again")
        self.precision = precision
        if precision == "bf16":
            unchanged = self.contents.unchanged(self.parts())
            round_frozen(self.backbone, {name.removeprefix("backbone.") for name in self.contents.trained})
            self.contents.record(self.parts(), unchanged)
            self.rounded = True
        return self

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Within this context the logits are those of the frozen backbone with the trained head only.

        Contexts may be nested.

        Raises:
            ValueError: the weights of the frozen backbone are gone: the method trained them, or `merge`
                changed them.
        """
        if self.merged:
            raise ValueError("merge() changed the frozen weights in place: load the adapter again")
        if self.tuner.thaw:
            raise ValueError(
                f"{self.method} trains backbone weights in place; the original weights are not kept: "
                "make a classifier of the backbone with method 'linear'"
            )
        before, self.disabled = self.disabled, True
        try:
            yield
        finally:
            self.disabled = before

    def merge(self) -> str:
        """Fold the method's additions into the frozen weights where that is exact.

        The merged classifier computes the same logits in less time.

        The classifier then only predicts: it can be neither trained nor saved.

        Returns:
            What was done, and why the rest cannot be.

        Raises:
            ValueError: it is merged already, computes in bf16, or its adapter is disabled.
        """
        if self.merged:
            raise ValueError("the classifier is merged already")
        if self.precision != "float32":
            rounded = "; these weights are rounded to bf16 already: load the adapter again" * self.rounded
            raise ValueError(f"merge() needs float32: call to_precision('float32') first{rounded}")
        if self.disabled:
            raise ValueError("merge() cannot be called within disable_adapter()")
        blocks: Any = self.backbone.layers
        self.requires_grad_(False).eval()
        self.tuner, note = self.tuner.merge(lambda layer, op: getattr(blocks[layer].mixer, op).weight)
        self.tuner.requires_grad_(False).eval()
        self.merged = True
        return note

    def unmerge(self) -> None:
        """Refuse: `merge` keeps no copy of the weights that it changes.

        Raises:
            ValueError: always; the message tells what to do.
        """
        if not self.merged:
            raise ValueError("the classifier is not merged")
        raise ValueError(
            "merge() changed the frozen weights in place and cannot be undone: load the adapter again"
        )

    @property
    def device(self) -> torch.device:
        """Where it computes; `to` moves it, as any module of torch."""
        return self.backbone.cls_token.device

    def normalised(self, clip: Tensor) -> Tensor:
        """A clip as the backbone takes it: uint8 clips, as of `read_views` with raw=True, are normalised."""
        return normalise_views(clip, self.clip_format) if clip.dtype == torch.uint8 else clip

    def computing(self, clip: Tensor) -> AbstractContextManager[Any]:
        """A context in which backbone and method compute in the classifier's precision."""
        check_float32(self.backbone.cls_token)
        return computing(self.precision, clip.device)

    def frozen_features(self, clip: Tensor) -> Tensor:
        """The output of the frozen backbone that tuner and head read, (batch, 1 or length, d_model).

        `forward` accepts it instead of a clip. This works only for methods that read the output of the last
        block alone (`Tuner.depends_on`).
        """
        with self.computing(clip):
            tokens = self.backbone.encode(self.normalised(clip))
        read = tokens.residual + tokens.hidden
        return read[:, :1] if self.tuner.depends_on == "cls" else read

    def _cls(self, clip: Tensor) -> Tensor:
        with self.computing(clip):
            if clip.ndim > 3:
                clip = self.normalised(clip)
                return self.backbone(clip) if self.disabled else self.backbone(clip, self.tuner)
            if self.disabled:
                return clip[:, 0]
            layout = Layout(self.backbone.config.frames, self.backbone.config.grid)
            tokens = Tokens(clip.new_zeros(1).expand_as(clip), clip, layout)
            return self.tuner.edit_cls(tokens, clip[:, 0])

    def features(self, clip: Tensor) -> Tensor:
        """The normalised cls token that the head reads, (batch, d_model); arguments as in `forward`."""
        out: Tensor = self.head.norm(self._cls(clip))
        return out

    def forward(self, clip: Tensor) -> Tensor:
        """Logits (batch, classes).

        Args:
            clip: (batch, 3, frames, height, width), normalised, or its `frozen_features`. uint8 clips, as of
                `read_views` with raw=True, are normalised here with mean and std of `clip_format`.
        """
        out: Tensor = self.head(self._cls(clip))
        return out

    def probabilities(self, views: Tensor, batch_size: int | None = None) -> Tensor:
        """Probabilities (views, classes), on the CPU, of views (views, 3, frames, height, width).

        Leaves the classifier in eval mode.

        Args:
            views: clips, normalised or uint8, or their `frozen_features`; on any device.
            batch_size: views in a forward pass. Default: 4; on a GPU as many as fit into its memory.

        Raises:
            FloatingPointError: a probability is not finite.
            OutOfMemoryError: the memory of a GPU is too small for one view.
        """
        return finite(scoring(self, batch_size)(views).cpu())

    def predict(
        self,
        paths: Paths,
        *,
        segments: int | None = None,
        crops: int | None = None,
        on_error: OnError = "error",
        batch_size: int | None = None,
        workers: int = 0,
        timeout: float | None = None,
    ) -> list[Prediction]:
        """Predict the class of videos; see `videossp.predict`, which is the same."""
        return predict(
            self,
            paths,
            segments=segments,
            crops=crops,
            on_error=on_error,
            batch_size=batch_size,
            workers=workers,
            timeout=timeout,
        )

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that require a gradient, by name: the adapter's, unless some were frozen since."""
        return {name: x for name, x in self.named_parameters() if x.requires_grad}

    def check_saving(self) -> dict[str, Tensor]:
        """Raise a ValueError if `save` would refuse. Call it before a training, not after.

        If the method's class was registered after `create`, its name is looked up again.

        Returns:
            The tensors that `save` would write, by name.
        """
        if self.merged:
            raise ValueError("a merged classifier cannot be saved; save it before merge()")
        if self.disabled:
            raise ValueError("a classifier cannot be saved within disable_adapter(): save it after that")
        if (self.method, self.options) != self._made_by:
            raise ValueError(
                "method or options were edited after the classifier was made, which changes no layer: make "
                "one with these options, Classifier.create(...)"
            )
        if self.unregistered is not None:
            name = _registered_name(self.unregistered)
            if name is None:
                raise ValueError(
                    f"{self.method} is not registered, so its adapter could not be loaded again: "
                    f"call videossp.register_method(NAME, {self.method}) first"
                )
            self.method, self.unregistered = name, None
            self._made_by = name, self._made_by[1]
        class_names(self.classes)
        check_clip(self.clip_format, self.backbone.config)
        try:
            json.dumps(self.metrics)
        except (TypeError, ValueError) as error:  # a tensor, or a number of NumPy
            raise ValueError(f"metrics cannot be saved: {error}; use Python's numbers and text") from error
        return self.contents.collect(self.parts(), len(self.classes), self.method)

    def save(self, folder: str | Path) -> None:
        """Write the adapter folder: the adapter's tensors, the config and a model card; no frozen tensor.

        The method decides which tensors the adapter holds, see `Contents`. Parameters that were frozen after
        the training are saved too.

        Raises:
            ValueError: a classifier that is loaded from the folder would differ from this one. It is merged,
                its method is not registered, its parts do not fit together, a backbone weight was changed
                that the method does not train, or a weight is NaN. The message names the tensor.
        """
        tensors = self.check_saving()
        config = {
            "base_model_name_or_path": self.source.name,
            "base_model_weights": self.source.weights,
            "base_model_seed": self.source.seed if self.source.random else None,
            "base_model_sha256": self.sha256,
            "spec": asdict(self.backbone.config),
            "method": self.method,
            "options": self.options,
            "classes": self.classes,
            "clip": asdict(self.clip_format),
            "precision": self.precision,
            "drop_path": self.backbone.drop_path,
            "dropout": self.head.dropout.p,
            "metrics": self.metrics,
            "video_seconds": self.video_seconds,
            "temperature": self.head.temperature,
            "versions": versions(),
        }
        write_adapter(
            Path(folder), config, {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
        )


def _registered_name(method: type[Tuner]) -> str | None:
    """The name of a method's class, if it has one."""
    for name in method_names():
        with suppress(ValueError):  # a declared method whose package cannot be imported
            if find_method(name) is method:
                return name
    return None


def check_clip(clip_format: ClipFormat, config: VideoMambaConfig) -> None:
    """Raise a ValueError if clips of this format are not those of the backbone."""
    if (clip_format.frames, clip_format.size) != (config.frames, config.size):
        raise ValueError(
            f"the clip format has {clip_format.frames} frames of {clip_format.size}, but the backbone takes "
            f"{config.frames} of {config.size}"
        )
