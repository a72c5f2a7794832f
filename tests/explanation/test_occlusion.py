"""Occlusion: places cover a clip, and drops are those of clips that were edited by hand."""

import pytest
import torch

from conftest import SMALL
from videossp.explanation.baselines import baseline_of
from videossp.explanation.occlusion import frame_places, replaced, spread, window_places, without


@pytest.mark.parametrize("grid", [(6, 6), (7, 5), (2, 1)])
def test_windows_cover_every_patch_once(grid):
    covered = torch.zeros(3, *grid, dtype=torch.int)
    for place in window_places(3, grid):
        covered[place] += 1
    assert (covered == 1).all()


def test_only_the_patches_of_the_cells_are_replaced():
    clip, empty = torch.ones(3, 2, 6, 8), torch.zeros(3, 2, 6, 8)
    cells = torch.zeros(2, 3, 4, dtype=torch.bool)
    cells[1, 2, 0] = True
    edited = replaced(clip, empty, cells)
    assert not edited[:, 1, 4:6, 0:2].any()
    edited[:, 1, 4:6, 0:2] = 1
    assert edited.equal(clip)


def test_without_gives_the_log_probabilities_of_edited_clips(small_classifier):
    classifier, done = small_classifier.eval(), []
    clip = torch.randn(3, SMALL.frames, *SMALL.size)
    empty = baseline_of(clip, "median_frame")
    places = frame_places(SMALL.frames) + window_places(SMALL.frames, SMALL.grid)
    found = without(classifier, clip, empty, places, batch_size=3, advance=done.append)
    assert sum(done) == len(places) == SMALL.frames + SMALL.frames
    for i, (frames, rows, columns) in enumerate(places):
        edited, patch = clip.clone(), SMALL.patch
        high = slice(rows.start and rows.start * patch, rows.stop and rows.stop * patch)
        wide = slice(columns.start and columns.start * patch, columns.stop and columns.stop * patch)
        edited[:, frames, high, wide] = empty[:, frames, high, wide]
        with torch.no_grad():
            expected = classifier(edited[None]).log_softmax(-1)[0]
        torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=1e-5)


def test_a_method_that_mixes_the_clips_of_a_batch_gets_each_clip_alone(small_backbone):
    from videossp import Classifier

    classifier = Classifier.create(
        small_backbone, num_classes=2, gather_width=16, spread_width=16, heads=4, importance="batch"
    )
    seen = []
    classifier.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    clip = torch.randn(3, SMALL.frames, *SMALL.size)
    without(classifier, clip, torch.zeros_like(clip), frame_places(SMALL.frames))
    assert seen == [1] * SMALL.frames


def test_each_patch_of_a_map_has_the_value_of_its_place():
    places = window_places(2, (4, 4))
    values = torch.arange(2.0 * len(places)).reshape(len(places), 2)
    maps = spread(values, places, (2, 4, 4))
    for place, value in zip(places, values, strict=True):
        for label in range(2):
            assert (maps[label][place] == value[label]).all()
