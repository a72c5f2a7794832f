"""`explain`: the patches and frames of a video that the prediction of a classifier depends on."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor

from videossp.explanation.baselines import Baseline, baseline_of, singles
from videossp.explanation.explained_clip import Explained, read_clip
from videossp.explanation.explanation import Explanation, Method
from videossp.explanation.faithfulness import faithfulness
from videossp.explanation.gradients import integrated_gradients
from videossp.explanation.mechanism import mechanism as mechanism_of
from videossp.explanation.occlusion import (
    Place,
    frame_places,
    logits_of,
    spread,
    window_places,
    without,
)
from videossp.inference.passes import finite
from videossp.model.quantity import Quantity
from videossp.system.progress import work_bar
from videossp.system.warn import warn

if TYPE_CHECKING:
    from videossp.classifier import Classifier

MOST_NAMES = 20  # of classes in a message
ALL_EQUAL = {
    "mean_colour": "all of its pixels have the mean colour",
    "both": "all of its pixels have the mean colour",
    "median_frame": "no frame differs from another; use baseline mean_colour",
}


@dataclass(frozen=True)
class ExplainSettings:
    """How predictions are explained; see `explain` for the attributes.

    Raises:
        ValueError: a value that is not one of those listed, or below 1.
    """

    method: Method = "integrated_gradients"
    baseline: Baseline = "both"
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
    baseline: Baseline = "both",
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
        baseline: the content that replaces parts of the clip, see `baseline_of`. With "both", the map is the
            mean of both maps, and the frames of the curve are replaced by the median frame.
        steps: of integrated gradients, for each baseline; three times as many if the sum has an error above
            2 %. In bf16, rounding limits the accuracy of the sum.
        mechanism: also compute quantities of the model (`Explanation.mechanism`), which are not reasons.
        check: also measure the faithfulness of the map, with 40 forward passes for each baseline.
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


@torch.inference_mode(False)  # in that of a caller, nothing has a gradient
def explain_classes(
    classifier: "Classifier",
    video: Explained,
    targets: Sequence[str] | None,
    settings: ExplainSettings,
    *,
    progress: bool = False,
    report: Callable[[int], object] = lambda count: None,
) -> list[Explanation]:
    """Explanations of several classes of one clip, which share forward passes; see `explain`.

    Args:
        targets: the classes. None: the most probable one.
        report: called with the number of clips of each pass; an exception of it ends the computation.
    """
    if next(classifier.parameters(), None) is None:
        raise ValueError("an exported model only predicts: explain the adapter that was exported")
    for name in targets or ():
        check_class(name, classifier.classes)
    shown = read_clip(classifier, video)
    clip = shown.clip
    classifier.eval()
    empties = [baseline_of(clip, x) for x in singles(settings.baseline)]
    if all(torch.equal(clip, x) for x in empties):
        reason = ALL_EQUAL[settings.baseline]
        warn(f"{shown.path or 'clip'}: equals its baseline, so the map is zero: {reason}")
    frames, grid = clip.shape[1], classifier.backbone.config.grid
    logits = finite(logits_of(classifier, settings.batch_size)(torch.stack([clip, *empties])).cpu())
    before = logits[0].log_softmax(-1)
    values, order = logits[0].softmax(-1).sort(descending=True, stable=True)
    probabilities = dict(zip((classifier.classes[i] for i in order.tolist()), values.tolist(), strict=True))
    names = [next(iter(probabilities))] if targets is None else list(targets)
    labels = [classifier.classes.index(x) for x in names]
    steps = settings.steps if settings.method == "integrated_gradients" else 0
    curve, windows = frame_places(frames), [] if steps else window_places(frames, grid)
    work, taken = len(curve) + len(empties) * (steps + len(windows)), 0
    maps = torch.zeros(len(labels), frames, *grid)
    with work_bar("explaining", work, progress) as shown_progress:

        def advance(count: int) -> None:
            shown_progress(count)
            report(count)

        def edited(base: Tensor, places: Sequence[Place]) -> Tensor:
            size = settings.batch_size
            return finite(without(classifier, clip, base, places, batch_size=size, advance=advance))

        after = edited(empties[-1], curve)
        for base, far in zip(empties, logits[1:], strict=True):
            if steps:
                changes = (logits[0] - far)[labels]
                found, count = integrated_gradients(
                    classifier, clip, labels, base, steps=steps, changes=changes, advance=advance
                )
                taken += count
            else:
                drops = before - edited(base, windows)
                found = spread(drops[:, labels], windows, (frames, *grid))
            maps += finite(found) / len(empties)
    drops = before - after
    quantities = tuple(_of_one_clip(classifier, clip)) if settings.mechanism else ()
    explanations = []
    for name, label, own in zip(names, labels, maps, strict=True):
        change = (logits[0, label] - logits[1:, label].mean()).item()
        checked = None
        if settings.check:
            size = settings.batch_size
            checked = faithfulness(classifier, clip, label, own, empties, batch_size=size)
        explanations.append(
            Explanation(
                path=shown.path,
                frames=shown.pixels,
                seconds=shown.seconds,
                classes=classifier.classes,
                probabilities=probabilities,
                target=name,
                method=settings.method,
                baseline=settings.baseline,
                map=own.numpy(),
                frame_drops=drops[:, label].numpy(),
                without_frame=tuple(classifier.classes[i] for i in after.argmax(1).tolist()),
                change=change,
                gap=abs(own.sum().item() - change) / max(abs(change), 1e-12) if steps else None,
                passes=(1 + len(empties) + work - len(empties) * steps + taken, taken * len(labels)),
                mechanism=quantities,
                faithfulness=checked,
            )
        )
    return explanations


def check_class(name: str, classes: Sequence[str]) -> None:
    """Raise a ValueError if there is no such class; it names all, or of many the most similar ones."""
    if name in classes:
        return
    if len(classes) <= MOST_NAMES:
        raise ValueError(f"no class {name!r}; the classes are {', '.join(classes)}")
    near = difflib.get_close_matches(name, classes, 3, 0.0)
    raise ValueError(f"no class {name!r} among {len(classes)}; the nearest are {', '.join(near)}")


def _of_one_clip(classifier: "Classifier", clip: Tensor) -> Iterator[Quantity]:
    """The quantities of the model, without the dimension of the batch."""
    for x in mechanism_of(classifier, clip[None]):
        yield replace(x, values=x.values[0])
