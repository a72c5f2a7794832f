"""`Classifier` = backbone + tuner + head: the trained set, save, load."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.adapter_folder import find_adapter, read_adapter, write_adapter
from videossp.data.clips import read_views
from videossp.data.sampling import ClipFormat, Sampling
from videossp.errors import VideoSSPWarning, WeightsError
from videossp.methods import make_tuner
from videossp.model.backbones import Source, absolute, build_backbone, fingerprint
from videossp.model.config import BACKBONES, VideoMambaConfig
from videossp.model.head import Head, fill_head
from videossp.model.hooks import Tuner
from videossp.model.precision import Precision, computing, round_frozen
from videossp.model.tokens import Layout, Tokens
from videossp.model.videomamba import VideoMamba
from videossp.system.versions import versions

TOGETHER = 4  # views that go through the backbone at once when nothing is learned


class Classifier(nn.Module):
    """A frozen backbone, a tuner and a head; build it with `create`, `load` or `from_official`.

    What trains, and exactly what is saved: the tuner's parameters, the head's, and the backbone
    parameters that the tuner thaws.
    """

    def __init__(
        self,
        backbone: VideoMamba,
        tuner: Tuner,
        head: Head,
        *,
        classes: Sequence[str],
        method: str,
        options: Mapping[str, Any],
        clip_format: ClipFormat,
        source: Source,
    ) -> None:
        super().__init__()
        self.backbone, self.tuner, self.head = backbone, tuner, head
        self.classes, self.clip_format, self.source = tuple(classes), clip_format, source
        self.method, self.options = method, dict(options)
        self.precision: Precision = "float32"
        self.rounded = self.merged = False
        self.metrics: dict[str, Any] = {}
        self.notes: tuple[str, ...] = ()
        self.warnings: tuple[str, ...] = ()
        self.sha256 = fingerprint(backbone)
        backbone.requires_grad_(False)
        for pattern in tuner.thaw:
            names = [name for name, _ in backbone.named_parameters() if fnmatchcase(name, pattern)]
            if not names:
                known = ", ".join(dict(backbone.named_parameters()))
                raise ValueError(f"thaw pattern {pattern!r} matches no backbone parameter; there are {known}")
            for name in names:
                backbone.get_parameter(name).requires_grad_()

    @classmethod
    def create(
        cls,
        backbone: str = "videomamba_nano",
        *,
        num_classes: int | None = None,
        classes: Sequence[str] | None = None,
        method: str = "ssp",
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
        """A classifier that is ready to be trained.

        Args:
            backbone: `videomamba_nano|tiny|small|middle|base`, or a path or hub id of a checkpoint.
            num_classes: number of classes; default: of `classes`, else of the checkpoint's head.
            classes: their names, in the order of the labels.
            method: a name of `methods.METHODS`, or several joined by "+", which speak one after the other.
            weights: of a named backbone: a path, a hub id or "random". Without it those that come with the
                package (videomamba_nano), else random ones.
            frames: of a clip; default: the backbone's. Position embeddings are resized to it.
            size: of a clip in pixels, (height, width) or one number for both; default: the backbone's.
            sampling, stride: which frames of a video, see `clips.ClipFormat`.
            views: (segments, crops) of its tests.
            drop_path: stochastic depth of the backbone while training.
            dropout: before the linear head, while training.
            seed: of everything that starts at random.
            **options: of the method, see its class; of a chain by name, lora={"rank": 8}.

        Raises:
            ValueError: unknown method or option; the message lists what there is.
            WeightsError: weights not found, unreadable, or not fitting.
        """
        if weights is not None and backbone not in BACKBONES:
            raise ValueError(
                f"weights are those of a named backbone ({', '.join(BACKBONES)}); "
                "give the checkpoint as backbone instead"
            )
        source = Source(absolute(backbone), weights and absolute(weights), seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network, published = build_backbone(source, frames, size, drop_path)
            tuner = make_tuner(method, network.config, options)
            count = num_classes or len(classes or ())
            if not count and published and published.head:
                count = published.head["bias"].shape[0]
            if not count:
                raise ValueError("give num_classes or classes: the backbone brings no head of its own")
            names = tuple(classes or (str(i) for i in range(count)))
            if len(names) != count or len(set(names)) != count:
                raise ValueError(f"{count} different class names are needed, got {list(names)}")
            head = Head(network.config.d_model, count, dropout)
        if published:
            fill_head(head, published)
        clip_format = ClipFormat(network.config.frames, network.config.size, sampling, stride, views=views)
        made = cls(
            network,
            tuner,
            head,
            classes=names,
            method=method,
            options=options,
            clip_format=clip_format,
            source=source,
        )
        made.notes = source.notes + (tuple(published.notes) if published else ())
        made.warnings = source.warnings + (tuple(published.warnings) if published else ())
        for text in made.warnings:
            warnings.warn(text, VideoSSPWarning, stacklevel=2)
        return made

    def to_precision(self, precision: Precision) -> "Classifier":
        """From now on compute the backbone's and the method's matrix products in this precision.

        With bf16 the frozen weights of the products are rounded for good. What is learned and saved, the
        residual stream, the state of the scan and the head stay float32.
        """
        if precision not in get_args(Precision):
            raise ValueError(f"precision is {' or '.join(get_args(Precision))}, got {precision!r}")
        if precision == "float32" and self.rounded:
            raise ValueError("the weights are rounded to bf16 already; load the classifier again")
        self.precision = precision
        if precision == "bf16":
            round_frozen(self.backbone)
            self.rounded = True
        return self

    def merge(self) -> str:
        """Fold into frozen weights what the method adds, where that is exact: the same logits, sooner.

        The classifier then only predicts: it can neither be trained nor saved.

        Returns:
            What was done, and why the rest cannot be.
        """
        if self.merged or self.precision != "float32":
            raise ValueError("merge once, in float32; to_precision comes afterwards")
        blocks: Any = self.backbone.layers
        self.requires_grad_(False).eval()
        self.tuner, note = self.tuner.merge(lambda layer, op: getattr(blocks[layer].mixer, op).weight)
        self.tuner.requires_grad_(False).eval()
        self.merged = True
        return note

    def frozen(self, clip: Tensor) -> Tensor:
        """What tuner and head read of the frozen backbone: (batch, 1 or length, d_model), for `forward`.

        Only where that is what comes out of the last block (`Tuner.depends_on`).
        """
        with computing(self.precision, clip.device):
            tokens = self.backbone.encode(clip)
        read = tokens.residual + tokens.hidden
        return read[:, :1] if self.tuner.depends_on == "cls" else read

    def _cls(self, clip: Tensor) -> Tensor:
        with computing(self.precision, clip.device):
            if clip.ndim > 3:
                return self.backbone(clip, self.tuner)
            layout = Layout(self.backbone.config.frames, self.backbone.config.grid)  # of what `frozen` made
            tokens = Tokens(clip.new_zeros(1).expand_as(clip), clip, layout)
            return self.tuner.edit_output(self.backbone.config.depth, "cls", tokens, clip[:, 0])

    def features(self, clip: Tensor) -> Tensor:
        """Normalised cls feature, (batch, d_model), of a clip (batch, 3, frames, height, width)."""
        out: Tensor = self.head.norm(self._cls(clip))
        return out

    def forward(self, clip: Tensor) -> Tensor:
        """Logits (batch, classes) of a clip (batch, 3, frames, height, width), normalised."""
        out: Tensor = self.head(self._cls(clip))
        return out

    @torch.no_grad()
    def probabilities(self, views: Tensor) -> Tensor:
        """(views, classes): softmax of each view, (views, 3, frames, height, width).

        Leaves the classifier in eval mode.

        Raises:
            FloatingPointError: one is not finite.
        """
        self.eval()
        device = self.backbone.cls_token.device
        parts = [F.softmax(self(part.to(device)).float(), dim=-1) for part in views.split(TOGETHER)]
        out = torch.cat(parts).cpu()
        if not out.isfinite().all():
            raise FloatingPointError("scores that are not finite: the weights are damaged, or too large")
        return out

    def predict(self, paths: Sequence[str], *, segments: int = 1, crops: int = 1) -> list[dict[str, float]]:
        """Probability of each class, most probable first, for each video file or folder of frames."""
        results = []
        for path in paths:
            scores = self.probabilities(read_views(path, self.clip_format, segments, crops)).mean(0)
            order = scores.argsort(descending=True, stable=True)
            results.append({self.classes[i]: scores[i].item() for i in order})
        return results

    def trainable(self) -> dict[str, nn.Parameter]:
        """What trains and what is saved, by name."""
        return {name: x for name, x in self.named_parameters() if x.requires_grad}

    def save(self, folder: str | Path) -> None:
        """Write the adapter folder: the tuned tensors, the config and a model card; no frozen tensor."""
        if self.merged:
            raise ValueError("a merged classifier cannot be saved; save it before merge()")
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
            "precision": self.metrics.get("precision", self.precision),
            "drop_path": self.backbone.drop_path,
            "dropout": self.head.dropout.p,
            "metrics": self.metrics,
            "versions": versions(),
        }
        tensors = {name: x.detach().cpu().contiguous() for name, x in self.trainable().items()}
        write_adapter(Path(folder), config, tensors)


def load(folder: str | Path, *, backbone: str | None = None) -> Classifier:
    """Load the classifier of an adapter folder, or of a run folder, which contains one.

    It computes in the precision that it was trained in; `to_precision` changes it.

    Args:
        folder: written by `Classifier.save`.
        backbone: path or hub id of the backbone's weights, if they have moved since the training.

    Raises:
        WeightsError: files are missing or damaged, or the backbone is not the one of the training.
    """
    folder = find_adapter(folder)
    config, tensors = read_adapter(folder)
    try:
        sizes = VideoMambaConfig(**config["spec"])
        recorded = Source(
            config["base_model_name_or_path"], config["base_model_weights"], config["base_model_seed"] or 0
        )
        clip_format, classes, method = ClipFormat(**config["clip"]), config["classes"], config["method"]
        options, sha256, metrics = config["options"], config["base_model_sha256"], dict(config["metrics"])
        # An adapter of the first format has its precision among its metrics, and neither of the other two.
        precision = config.get("precision") or metrics.get("precision", "float32")
        drop_path, dropout = config.get("drop_path", 0.0), config.get("dropout", 0.0)
        if precision not in get_args(Precision):
            raise ValueError(f"precision {precision!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{folder}: its config is damaged or not of this program: {error!r}") from error
    source = recorded if backbone is None else _elsewhere(recorded, absolute(backbone))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(source.seed)
            # A recorded path is absolute, so what reads as a hub id is one.
            network, _ = build_backbone(
                source, sizes.frames, sizes.size, drop_path, prefer_hub=source is recorded
            )
            classifier = Classifier(
                network,
                make_tuner(method, network.config, options),
                Head(network.config.d_model, len(classes), dropout),
                classes=classes,
                method=method,
                options=options,
                clip_format=clip_format,
                source=source,
            )
    except WeightsError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise WeightsError(f"{folder}: its config is damaged or not of this program: {error}") from error
    if classifier.sha256 != sha256:
        raise WeightsError(
            f"{folder}: trained on the backbone with sha256 {sha256}, but {source.weights or source.name} "
            f"has {classifier.sha256}; give the right one (--backbone)"
        )
    classifier.notes, classifier.warnings = source.notes, source.warnings
    classifier.metrics, classifier.precision = metrics, precision
    load_trainable(classifier, tensors)
    return classifier


def _elsewhere(source: Source, file: str) -> Source:
    """The source whose weights are now in another file."""
    if source.name in BACKBONES:
        return replace(source, weights=file)
    return replace(source, name=file, weights=None)


def load_trainable(classifier: Classifier, tensors: Mapping[str, Tensor]) -> None:
    """Copy saved tensors into the trainable parameters.

    Raises:
        WeightsError: their names or shapes differ.
    """
    parameters = classifier.trainable()
    misfits = set(parameters) ^ set(tensors)
    misfits |= {x for x in set(parameters) & set(tensors) if parameters[x].shape != tensors[x].shape}
    if misfits:
        raise WeightsError(f"the tensors do not fit the adapter's config: {', '.join(sorted(misfits)[:8])}")
    with torch.no_grad():
        for name, value in tensors.items():
            parameters[name].copy_(value)
