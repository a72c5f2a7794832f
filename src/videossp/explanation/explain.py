"""`explain`: the patches and frames of a video that the prediction of a classifier depends on."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
from torch import Tensor

from videossp.data.clips import read_views
from videossp.data.crop import normalise_views
from videossp.data.sampling import ClipFormat, eval_indices
from videossp.data.video import Video, read_video
from videossp.data.video.remote import local_copy
from videossp.explanation.baselines import Baseline, baseline_of
from videossp.explanation.explanation import Explanation, Method
from videossp.explanation.faithfulness import faithfulness
from videossp.explanation.gradients import integrated_gradients
from videossp.explanation.mechanism import mechanism as mechanism_of
from videossp.explanation.occlusion import (
    frame_places,
    logits_of,
    spread,
    window_places,
    without,
)
from videossp.inference.passes import finite
from videossp.model.quantity import Quantity
from videossp.system.progress import work_bar

if TYPE_CHECKING:
    from videossp.classifier import Classifier

Explained = str | os.PathLike[str] | Video | Tensor


@dataclass(frozen=True)
class ExplainSettings:
    """How predictions are explained; see `explain` for the attributes.

    Raises:
        ValueError: a value that is not one of those listed, or below 1.
    """

    method: Method = "integrated_gradients"
    baseline: Baseline = "median_frame"
    steps: int = 16
    mechanism: bool = False
    check: bool = False
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name, known in (("method", get_args(Method)), ("baseline", get_args(Baseline))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {' or '.join(known)}, got {getattr(self, name)!r}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


def explain(
    classifier: "Classifier",
    video: Explained,
    *,
    target: str | None = None,
    method: Method = "integrated_gradients",
    baseline: Baseline = "median_frame",
    steps: int = 16,
    mechanism: bool = False,
    check: bool = False,
    batch_size: int | None = None,
    progress: bool = False,
) -> Explanation:
    """Explain a prediction by a map over patches and frames and a curve over frames.

    One clip is explained: that of one segment, cut from the centre. `predict` may average several views.
    docs/explain.md compares the methods by their faithfulness.

    Args:
        classifier: computes on its device and in its precision. It is set to eval mode.
        video: a path or URI, an opened video, or a clip (3, frames, height, width), normalised or uint8 (see
            `read_views`).
        target: the class to explain. Default: the most probable one for this clip.
        method: of the map. "integrated_gradients": contributions to the logit. "occlusion": drops of the
            log-probability when windows of 3 x 3 patches are replaced.
        baseline: the content that replaces parts of the clip: "mean_colour" or "median_frame".
        steps: of integrated gradients.
        mechanism: also compute quantities of the model (`Explanation.mechanism`), which are not reasons.
        check: also measure the faithfulness of the map, with about 40 forward passes.
        batch_size: clips in a pass without gradients. Default: as in `predict`.
        progress: show a bar on stderr if that is a terminal.

    Raises:
        ValueError: an unknown class, method or baseline, fewer than one step, or a clip of another shape.
        DataError: the video cannot be decoded.
        FloatingPointError: the model gives values that are not finite.
        OutOfMemoryError: the memory of a GPU is too small.
    """
    settings = ExplainSettings(method, baseline, steps, mechanism, check, batch_size)
    return explain_classes(
        classifier, video, None if target is None else [target], settings, progress=progress
    )[0]


def explain_classes(
    classifier: "Classifier",
    video: Explained,
    targets: Sequence[str] | None,
    settings: ExplainSettings,
    *,
    progress: bool = False,
) -> list[Explanation]:
    """Explanations of several classes of one clip, which share forward passes; see `explain`.

    Args:
        targets: the classes. None: the most probable one.
    """
    for name in targets or ():
        if name not in classifier.classes:
            raise ValueError(f"no class {name!r}; the classes are {', '.join(classifier.classes)}")
    path, pixels, clip, seconds = _read(classifier, video)
    classifier.eval()
    empty = baseline_of(clip, settings.baseline)
    frames, grid = clip.shape[1], classifier.backbone.config.grid
    logits = finite(logits_of(classifier, settings.batch_size)(torch.stack([clip, empty])).cpu())
    before = logits[0].log_softmax(-1)
    values, order = logits[0].softmax(-1).sort(descending=True, stable=True)
    probabilities = dict(zip((classifier.classes[i] for i in order.tolist()), values.tolist(), strict=True))
    names = [next(iter(probabilities))] if targets is None else list(targets)
    labels = [classifier.classes.index(x) for x in names]
    steps = settings.steps if settings.method == "integrated_gradients" else 0
    places = frame_places(frames) + ([] if steps else window_places(frames, grid))
    with work_bar("explaining", len(places) + steps, progress) as advance:
        after = finite(
            without(classifier, clip, empty, places, batch_size=settings.batch_size, advance=advance)
        )
        drops = before - after
        if steps:
            maps = integrated_gradients(classifier, clip, labels, empty, steps=steps, advance=advance)
        else:
            maps = spread(drops[frames:, labels], places[frames:], (frames, *grid))
    first = Explanation(
        path=path,
        frames=pixels,
        seconds=seconds,
        probabilities=probabilities,
        target=names[0],
        method=settings.method,
        baseline=settings.baseline,
        map=finite(maps)[0].numpy(),
        frame_drops=drops[:frames, labels[0]].numpy(),
        without_frame=tuple(classifier.classes[i] for i in after[:frames].argmax(1).tolist()),
        change=0.0,
        gap=None,
        passes=(2 + len(places) + steps, steps * len(labels)),
        mechanism=tuple(_of_one_clip(classifier, clip)) if settings.mechanism else (),
    )
    found = []
    for name, label, own in zip(names, labels, maps, strict=True):
        change = (logits[0, label] - logits[1, label]).item()
        found.append(
            replace(
                first,
                target=name,
                map=own.numpy(),
                frame_drops=drops[:frames, label].numpy(),
                change=change,
                gap=abs(own.sum().item() - change) / max(abs(change), 1e-12) if steps else None,
                faithfulness=faithfulness(classifier, clip, label, own, empty, batch_size=settings.batch_size)
                if settings.check
                else None,
            )
        )
    return found


def _read(
    classifier: "Classifier", video: Explained
) -> tuple[str | None, np.ndarray, Tensor, tuple[float, ...] | None]:
    """Path, pixels (frames, height, width, 3), normalised clip and times of the frames."""
    form, config = classifier.clip_format, classifier.backbone.config
    if isinstance(video, Tensor):
        clip = video.cpu()
        expected = (3, config.frames, *config.size)
        if tuple(clip.shape) != expected:
            raise ValueError(
                f"a clip to explain must be (3, frames, height, width) = {expected}, got {tuple(clip.shape)}"
            )
        if clip.dtype == torch.uint8:
            return None, _pixels(clip), normalise_views(clip, form), None
        mean, std = (torch.tensor(x)[:, None, None, None] for x in (form.mean, form.std))
        shown = (255 * (clip * std + mean)).round().clamp(0, 255).to(torch.uint8)
        return None, _pixels(shown), clip.float(), None
    if isinstance(video, Video):
        raw, seconds = _clip_of(video, form)
        return str(video.path), _pixels(raw), normalise_views(raw, form), seconds
    with local_copy(os.fspath(video)) as path:
        raw, seconds = _clip_of(read_video(path), form)
    return os.fspath(video), _pixels(raw), normalise_views(raw, form), seconds


def _clip_of(video: Video, form: ClipFormat) -> tuple[Tensor, tuple[float, ...] | None]:
    """The raw clip and the times of its frames in seconds; None if the video has no rate."""
    raw = read_views(video, form, raw=True)[0]
    times = [video.time_of(i) for i in eval_indices(len(video), form)]
    return raw, None if None in times else tuple(x for x in times if x is not None)


def _pixels(raw: Tensor) -> np.ndarray:
    return raw.permute(1, 2, 3, 0).contiguous().numpy()


def _of_one_clip(classifier: "Classifier", clip: Tensor) -> Iterator[Quantity]:
    """The quantities of the model, without the dimension of the batch."""
    for x in mechanism_of(classifier, clip[None]):
        yield replace(x, values=x.values[0])
