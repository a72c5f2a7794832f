"""Deletion and insertion (Petsiuk et al., BMVC 2018, arXiv 1806.07421): is the map of a clip faithful?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from videossp.explanation.occlusion import logits_of, replaced

if TYPE_CHECKING:
    from videossp.classifier import Classifier

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the cells that are replaced or kept
RANDOM_ORDERS = 4


@dataclass(frozen=True)
class Faithfulness:
    """How well the order of the cells in a map predicts the effect of replacing them.

    `deletion` and `insertion` are areas under curves of the probability of the explained class, from 0 to 1.
    For deletion, the cells of the clip are replaced by the baseline, the most important ones first. For
    insertion, they are put into the baseline in the same order. A faithful map has a low deletion and a high
    insertion.

    Attributes:
        deletion, insertion: of the map.
        random: insertion - deletion of random orders, the mean.
    """

    deletion: float
    insertion: float
    random: float

    @property
    def beyond_random(self) -> float:
        """Insertion - deletion, minus that of random orders."""
        return self.insertion - self.deletion - self.random


def faithfulness(
    classifier: "Classifier",
    clip: Tensor,
    label: int,
    scores: Tensor,
    baselines: Sequence[Tensor],
    *,
    batch_size: int | None = None,
) -> Faithfulness:
    """The faithfulness of a map, the mean over baselines.

    Args:
        classifier: computes on its device.
        clip: (3, frames, height, width), normalised.
        label: the explained class.
        baselines: of the shape of the clip; each replaces cells in its own curves.
        scores: the map, (frames, rows, columns), higher is more important; or of frames, (frames,).
        batch_size: clips in a pass.
    """
    generator = torch.Generator().manual_seed(0)
    random = [torch.rand(scores.shape, generator=generator) for _ in range(RANDOM_ORDERS)]
    found = [
        deletion_and_insertion(classifier, clip, label, [scores, *random], x, batch_size=batch_size)
        for x in baselines
    ]
    areas = torch.tensor(found).mean(0)  # (maps, 2)
    deletion, insertion = areas[0].tolist()
    return Faithfulness(deletion, insertion, random=(areas[1:, 1] - areas[1:, 0]).mean().item())


def deletion_and_insertion(
    classifier: "Classifier",
    clip: Tensor,
    label: int,
    maps: Sequence[Tensor],
    baseline: Tensor,
    *,
    batch_size: int | None = None,
) -> list[tuple[float, float]]:
    """Areas under the curves of deletion and insertion of several maps; see `faithfulness`."""
    frames, grid = clip.shape[1], classifier.backbone.config.grid
    shares: list[list[float]] = []
    # Cells that are taken from the baseline: none, all, and for each point of the curves both parts.
    every = torch.ones(frames, *grid, dtype=torch.bool)
    edits = [~every, every]
    for scores in maps:
        count = scores.numel()
        inner = sorted({round(x * count) for x in SHARES} - {0, count})
        order = scores.flatten().argsort(descending=True, stable=True)
        for k in inner:
            chosen = torch.zeros(count, dtype=torch.bool)
            chosen[order[:k]] = True
            cells = chosen.reshape(frames, *(scores.shape[1:] or (1, 1))).expand(frames, *grid)
            edits += [cells, ~cells]
        shares.append([k / count for k in (0, *inner, count)])
    passes = logits_of(classifier, batch_size)
    results = []
    for i in range(0, len(edits), passes.at_once):  # all clips at once would take too much memory
        clips = torch.stack([replaced(clip, baseline, x) for x in edits[i : i + passes.at_once]])
        results.append(passes(clips).softmax(-1).cpu()[:, label])
    found = torch.cat(results)
    whole, none, inside = found[:1], found[1:2], found[2:]
    areas = []
    for x in shares:
        own, inside = inside[: 2 * (len(x) - 2)], inside[2 * (len(x) - 2) :]
        places = torch.tensor(x)
        deletion = torch.trapezoid(torch.cat([whole, own[0::2], none]), places).item()
        insertion = torch.trapezoid(torch.cat([none, own[1::2], whole]), places).item()
        areas.append((deletion, insertion))
    return areas
