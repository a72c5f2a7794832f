"""Random erasing: one box of noise for all frames, with the fractions and aspect ratios of the paper."""

import numpy as np
import torch

from videossp.data.augment import erase


def seeded(seed=0):
    return np.random.default_rng(seed)


def erased_box(clip, result):
    """(top, left, height, width) of the changed pixels, which must fill a box."""
    changed = (clip != result).any(0).any(0)
    rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
    top, left, height, width = int(rows[0]), int(columns[0]), len(rows), len(columns)
    assert changed[top : top + height, left : left + width].all() and int(changed.sum()) == height * width
    return top, left, height, width


def test_erasing_is_one_box_of_noise_in_all_frames():
    clip = torch.full((3, 4, 60, 80), 7.0)
    before = clip.clone()
    result = erase(clip, 1.0, seeded(5))
    assert torch.equal(clip, before) and result.shape == clip.shape and result.dtype == clip.dtype
    top, left, height, width = erased_box(clip, result)
    noise = result[..., top : top + height, left : left + width]
    assert (noise != 7).all() and int((result != 7).sum()) == noise.numel()  # in every frame and channel
    assert len(noise.unique()) > 0.99 * noise.numel()  # each value has its own noise
    assert abs(noise.mean()) < 5 / noise.numel() ** 0.5 and abs(noise.std() - 1) < 5 / noise.numel() ** 0.5


def test_erased_boxes_have_the_areas_and_aspect_ratios_of_the_paper():
    clip, rng, shares, shapes, places = torch.full((1, 1, 200, 200), 7.0), seeded(), [], [], []
    for _ in range(400):
        top, left, height, width = erased_box(clip, erase(clip, 1.0, rng))
        shares.append(height * width / 200**2)
        shapes.append(width / height)
        places.append(((top + 0.5) / (201 - height), (left + 0.5) / (201 - width)))
    assert 0.02 * 0.96 < min(shares) < 0.03 and 0.32 < max(shares) < 1 / 3 * 1.02  # sides are whole pixels
    assert abs(np.mean(shares) - (0.02 + 1 / 3) / 2) < 0.02
    assert 0.3 * 0.96 < min(shapes) < 0.32 and 1 / 0.32 < max(shapes) < 1 / 0.3 * 1.04
    assert abs(np.mean(np.log(shapes))) < 0.15
    assert np.abs(np.mean(places, axis=0) - 0.5).max() < 0.07  # anywhere


def test_erasing_happens_with_its_probability():
    clip, rng = torch.zeros(3, 1, 16, 16), seeded()
    never = erase(clip, 0.0, rng)
    assert torch.equal(never, clip) and never.data_ptr() != clip.data_ptr()
    assert all(not torch.equal(erase(clip, 1.0, rng), clip) for _ in range(50))
    count = sum(not torch.equal(erase(clip, 0.25, rng), clip) for _ in range(1000))
    assert abs(count - 250) < 4 * (1000 * 0.25 * 0.75) ** 0.5
    assert torch.equal(erase(clip, 1.0, seeded(3)), erase(clip, 1.0, seeded(3)))
    assert not torch.equal(erase(clip, 1.0, seeded(3)), erase(clip, 1.0, seeded(4)))
