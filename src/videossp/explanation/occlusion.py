"""Occlusion (Zeiler & Fergus, ECCV 2014, arXiv 1311.2901): replace parts of a clip, measure the change."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from videossp.inference.passes import Passes
from videossp.inference.predict import usual_batch

if TYPE_CHECKING:
    from videossp.classifier import Classifier

WINDOW = 3  # rows and columns of patches that are replaced together

Place = tuple[slice, slice, slice]  # frames, rows and columns of patches


def logits_of(classifier: "Classifier", batch_size: int | None = None) -> Passes:
    """Passes whose results are logits, (clips, classes).

    A method that mixes the clips of a batch gets each clip alone: changes of a clip should be the only
    changes.
    """
    alone = classifier.tuner.mixes_clips
    size = 1 if alone else usual_batch([classifier], batch_size)
    return Passes(classifier, lambda x: classifier(x).float(), size)


def replaced(clip: Tensor, baseline: Tensor, cells: Tensor) -> Tensor:
    """The clip with the patches of `cells` taken from the baseline.

    Args:
        clip, baseline: (3, frames, height, width).
        cells: (frames, rows, columns) bool.
    """
    patch = clip.shape[-1] // cells.shape[-1]
    pixels = cells.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    return torch.where(pixels, baseline, clip)


def without(
    classifier: "Classifier",
    clip: Tensor,
    baseline: Tensor,
    places: Sequence[Place],
    *,
    batch_size: int | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> Tensor:
    """Log-probabilities of the clip with each place taken from the baseline: (places, classes), on the CPU.

    Args:
        classifier: computes on its device.
        clip, baseline: (3, frames, height, width), normalised.
        places: which patches are replaced, one place at a time.
        batch_size: clips in a pass.
        advance: called with the number of places that are done.
    """
    passes = logits_of(classifier, batch_size)
    shape = clip.shape[1], *classifier.backbone.config.grid
    found = []
    for first in range(0, len(places), passes.at_once):
        part = places[first : first + passes.at_once]
        cells = torch.zeros(len(part), *shape, dtype=torch.bool)
        for i, place in enumerate(part):
            cells[i][place] = True
        logits = passes(torch.stack([replaced(clip, baseline, x) for x in cells]))
        found.append(F.log_softmax(logits, dim=-1).cpu())
        advance(len(part))
    return torch.cat(found)


def frame_places(frames: int) -> list[Place]:
    """A place for each frame."""
    return [(slice(t, t + 1), slice(None), slice(None)) for t in range(frames)]


def window_places(frames: int, grid: tuple[int, int]) -> list[Place]:
    """Windows of `WINDOW` x `WINDOW` patches of one frame that together cover all frames."""
    rows, columns = (range(0, side, WINDOW) for side in grid)
    return [
        (slice(t, t + 1), slice(r, r + WINDOW), slice(c, c + WINDOW))
        for t in range(frames)
        for r in rows
        for c in columns
    ]


def spread(values: Tensor, places: Sequence[Place], shape: tuple[int, ...]) -> Tensor:
    """Maps of values of places that do not overlap: each patch has the value of its place.

    Args:
        values: (places, labels).
        places: where they are.
        shape: (frames, rows, columns).

    Returns:
        (labels, *shape).
    """
    maps = values.new_zeros(values.shape[1], *shape)
    for place, value in zip(places, values, strict=True):
        maps[(slice(None), *place)] = value[:, None, None, None]
    return maps
