"""Deletion and insertion: areas of a model whose probability is known."""

import pytest
import torch
from small_models import made

from conftest import SMALL
from videossp.explanation.faithfulness import SHARES, deletion_and_insertion, faithfulness


@pytest.fixture
def one_patch(monkeypatch):
    """A classifier whose probability of class 0 is 0.9 if one patch is white, else 0.1."""
    classifier, patch = made("linear"), SMALL.patch

    def logits(clips):
        white = clips[:, :, 2, patch : 2 * patch, :patch].mean((1, 2, 3)) > 0.5
        p = torch.where(white, 0.9, 0.1)
        return torch.stack([p, (1 - p) / 2, (1 - p) / 2], dim=1).log()

    monkeypatch.setattr(classifier, "forward", logits)
    return classifier


CLIP, EMPTY = torch.ones(3, SMALL.frames, *SMALL.size), torch.zeros(3, SMALL.frames, *SMALL.size)
CELLS = SMALL.frames * 4  # 2 x 2 patches


def areas_of(rank):
    """(deletion, insertion) if the patch is the cell with this rank, by the trapezoid rule of the shares."""
    counts = [round(x * CELLS) for x in SHARES]
    gone = [0.1 if k > rank else 0.9 for k in counts]
    put = [0.9 if k > rank else 0.1 for k in counts]
    widths = [b - a for a, b in zip(counts, counts[1:], strict=False)]

    def area(values):
        return sum(w * (a + b) / 2 for w, a, b in zip(widths, values, values[1:], strict=False)) / CELLS

    return area(gone), area(put)


@pytest.mark.parametrize("rank", [0, 5, 15])
def test_areas_are_those_of_the_known_model(one_patch, rank):
    scores = -torch.arange(float(CELLS))
    scores[[rank, 10]] = scores[[10, rank]]  # the patch is cell 2 * 4 + 2
    found = deletion_and_insertion(one_patch, CLIP, 0, [scores.reshape(SMALL.frames, 2, 2)] * 2, EMPTY)
    assert found[0] == found[1] == pytest.approx(areas_of(rank))


def test_a_map_that_names_the_patch_is_beyond_random_and_its_opposite_is_below(one_patch):
    scores = torch.zeros(SMALL.frames, 2, 2)
    scores[2, 1, 0] = 1
    good = faithfulness(one_patch, CLIP, 0, scores, [EMPTY])
    bad = faithfulness(one_patch, CLIP, 0, -scores, [EMPTY])
    assert good.random == bad.random
    assert good.beyond_random == pytest.approx(good.insertion - good.deletion - good.random)
    assert good.beyond_random > 0 > bad.beyond_random


def test_a_curve_is_measured_by_whole_frames(one_patch):
    scores = torch.tensor([0.0, 0.0, 1.0, 0.0])
    deletion, insertion = deletion_and_insertion(one_patch, CLIP, 0, [scores], EMPTY)[0]
    # With one frame of four replaced, the probability is 0.1; of the shares, 1, 2 and 3 frames remain.
    assert deletion == pytest.approx((0.9 + 0.1) / 2 / 4 + 0.1 * 3 / 4)
    assert insertion == pytest.approx((0.1 + 0.9) / 2 / 4 + 0.9 * 3 / 4)


def test_with_several_baselines_the_areas_are_the_mean(one_patch):
    scores = torch.rand(SMALL.frames, 2, 2)
    grey = 0.6 * CLIP  # still white enough for the model
    single = [faithfulness(one_patch, CLIP, 0, scores, [x]) for x in (EMPTY, grey)]
    both = faithfulness(one_patch, CLIP, 0, scores, [EMPTY, grey])
    for name in ("deletion", "insertion", "random"):
        expected = sum(getattr(x, name) for x in single) / 2
        assert getattr(both, name) == pytest.approx(expected, abs=1e-6)
    assert single[1].deletion == pytest.approx(0.9)
