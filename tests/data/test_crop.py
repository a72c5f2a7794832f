"""Test crops and random training crops: which box, resized with antialiasing."""

import numpy as np
import pytest
import torch
from PIL import Image

from videossp.data.crop import random_crop, to_clip
from videossp.data.sampling import ClipFormat

UNIFORM = ClipFormat(frames=4, size=(32, 32))


def seeded(seed=0):
    return np.random.default_rng(seed)


def test_a_clip_of_the_right_size_is_only_normalised():
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    clip = to_clip(frames, UNIFORM)
    mean, std = torch.tensor(UNIFORM.mean), torch.tensor(UNIFORM.std)
    back = (clip.permute(1, 2, 3, 0) * std + mean) * 255
    assert clip.shape == (3, 4, 32, 32) and clip.is_contiguous()
    assert np.array_equal(back.round().numpy(), frames)


def test_crops_go_from_one_end_of_the_longer_side_to_the_other():
    columns = np.broadcast_to(np.arange(96, dtype=np.uint8)[None, None, :, None], (1, 32, 96, 3)).copy()
    clip_format = ClipFormat(frames=1, size=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))
    firsts = [round(to_clip(columns, clip_format, k, 3)[0, 0, 0, 0].item() * 255) for k in range(3)]
    assert firsts == [0, 32, 64]
    assert torch.equal(
        to_clip(columns, clip_format), to_clip(columns, clip_format, 1, 3)
    )  # one crop: the centre
    rows = columns.transpose(0, 2, 1, 3).copy()
    assert round(to_clip(rows, clip_format, 2, 3)[0, 0, 0, 0].item() * 255) == 64


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (20, 90), (7, 5), (33, 32)])
def test_any_size_covers_the_crop(shape):
    frames = np.full((2, *shape, 3), 128, np.uint8)
    clip = to_clip(frames, ClipFormat(frames=2, size=(32, 48)))
    assert clip.shape == (3, 2, 32, 48) and clip.std((1, 2, 3)).max() < 1e-5  # no border of another colour


def test_random_crops_are_the_same_box_in_every_frame():
    frame = seeded().integers(0, 256, (1, 60, 80, 3), dtype=np.uint8)
    images = random_crop(np.repeat(frame, 5, axis=0), (32, 32), (0.2, 0.5), seeded(1))
    assert images.shape == (5, 3, 32, 32) and all(torch.equal(images[0], x) for x in images)
    other = random_crop(np.repeat(frame, 5, axis=0), (32, 32), (0.2, 0.5), seeded(2))
    assert not torch.equal(images, other)


@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (1.2, 1.5)])
def test_random_crops_have_the_wanted_area_and_aspect_ratio(ratio):
    position = np.zeros((1, 200, 200, 3), np.uint8)
    position[0, :, :, 0], position[0, :, :, 1] = np.mgrid[:200, :200]
    rng, shares, shapes = seeded(), [], []
    for _ in range(150):
        rows, columns = random_crop(position, (64, 64), (0.3, 0.6), rng, ratio)[0, :2] * 255
        height, width = (rows.max() - rows.min()).item(), (columns.max() - columns.min()).item()
        shares.append(height * width / 200**2)
        shapes.append(width / height)
    assert 0.28 < min(shares) < 0.34 and 0.55 < max(shares) < 0.62
    low, high = ratio
    assert low * 0.97 < min(shapes) < low * 1.06 and high * 0.94 < max(shapes) < high * 1.03


def test_frame_of_an_extreme_shape_gets_the_largest_centred_box():
    frames = np.zeros((1, 16, 400, 3), np.uint8)
    frames[:, :, 192:208] = 255
    assert random_crop(frames, (32, 32), (1.0, 1.0), seeded()).mean() > 0.95


def test_random_crop_of_the_full_frame_is_antialiased():
    frames = seeded().integers(0, 256, (2, 90, 90, 3), dtype=np.uint8)
    crop = random_crop(frames, (16, 16), (1.0, 1.0), seeded(), (1.0, 1.0))
    for image, frame in zip(crop, frames, strict=True):
        expected = np.asarray(Image.fromarray(frame).resize((16, 16), Image.Resampling.BILINEAR), np.float32)
        assert np.abs(image.permute(1, 2, 0).numpy() * 255 - expected).max() < 1
