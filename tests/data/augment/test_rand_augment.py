"""RandAugment: operations against Pillow and kornia, draws against their distribution."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance, ImageOps

from videossp.data.augment import RandAugment, parse_rand_augment
from videossp.data.augment.rand_augment import OPERATIONS

PUBLISHED = "rand-m7-n4-mstd0.5-inc1"
VALUES = [-1.0, -0.72, -0.3, 0.0, 0.15, 0.5, 0.68, 0.93, 1.0]
GEOMETRIC = ["Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"]
COLOUR = [x for x in OPERATIONS if x not in GEOMETRIC]


def seeded(seed=0):
    return np.random.default_rng(seed)


def pictures():
    """Images (height, width, 3) with extreme histograms, gradients and sizes."""
    rng = seeded(3)
    rows, columns = np.mgrid[:53, :71]
    ramp = np.stack([40 + rows * 2, 30 + columns * 2, (rows + columns) % 200], axis=-1)
    return {
        "noise": rng.integers(0, 256, (53, 71, 3), dtype=np.uint8),
        "narrow": rng.integers(90, 120, (53, 71, 3), dtype=np.uint8),
        "ramp": ramp.astype(np.uint8),
        "dark": (rng.random((53, 71, 3)) ** 6 * 255).astype(np.uint8),
        "two levels": rng.choice(np.array([17, 200], np.uint8), (53, 71, 3)),
        "one level": np.full((53, 71, 3), (10, 128, 250), np.uint8),
        "small": rng.integers(0, 256, (20, 25, 3), dtype=np.uint8),
        "tiny": rng.integers(0, 256, (2, 3, 3), dtype=np.uint8),
    }


def by_pillow(name, image, v):
    """The operation in Pillow, with the arguments of the published code."""
    x, enhanced = Image.fromarray(image), 1 + v * 0.9
    if name == "Posterize":
        bits = 4 - int(abs(v) * 4)
        return np.asarray(ImageOps.posterize(x, bits)) if bits else np.zeros_like(image)
    if name == "SolarizeAdd":
        added = int(abs(v) * 110)
        return np.asarray(x.point(lambda p: min(255, p + added) if p < 128 else p))
    if name in ("Color", "Contrast", "Brightness", "Sharpness"):
        return np.asarray(getattr(ImageEnhance, name)(x).enhance(enhanced))
    if name == "Solarize":
        return np.asarray(ImageOps.solarize(x, 256 - int(abs(v) * 256)))
    return np.asarray(getattr(ImageOps, name.lower())(x))


@pytest.mark.parametrize("picture", pictures())
@pytest.mark.parametrize("name", COLOUR)
def test_colour_operation_equals_pillow_exactly(name, picture):
    image = pictures()[picture]
    for v in VALUES:
        result = OPERATIONS[name](image, v)
        assert result.dtype == np.uint8 and np.array_equal(result, by_pillow(name, image, v)), v


def by_kornia(name, images, v):
    """The operation in kornia, on images (batch, 3, height, width) in [0, 1]."""
    from kornia import enhance

    factor = 1 + v * 0.9
    return {
        "Invert": lambda: enhance.invert(images),
        "Equalize": lambda: enhance.equalize(images),
        "Posterize": lambda: enhance.posterize(images, 4 - int(abs(v) * 4)),
        "Solarize": lambda: enhance.solarize(images, (256 - int(abs(v) * 256)) / 255),
        "Color": lambda: enhance.adjust_saturation_with_gray_subtraction(images, factor),
        "Contrast": lambda: enhance.adjust_contrast_with_mean_subtraction(images, factor),
        "Brightness": lambda: enhance.adjust_brightness_accumulative(images, factor),
        "Sharpness": lambda: enhance.sharpness(images, factor),
    }[name]()


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("Invert", 0),
        ("Equalize", 0),
        ("Posterize", 0),
        ("Solarize", 0),
        # Rounded down here and not by kornia: below 1. So are, at half a level and times 0.9 or less, the
        # grey and the smoothed image, and the mean of the grey twice.
        ("Brightness", 1),
        ("Color", 1.45),
        ("Sharpness", 1.45),
        ("Contrast", 1.9),
    ],
)
@pytest.mark.parametrize("picture", ["noise", "ramp", "dark"])
def test_colour_operation_is_within_two_levels_of_kornia(name, tolerance, picture):
    image = pictures()[picture]
    for v in (-0.72, 0.3, 0.7, 0.93):
        images = torch.from_numpy(image).permute(2, 0, 1)[None].double() / 255
        theirs = (by_kornia(name, images, v)[0] * 255).permute(1, 2, 0).numpy()
        assert np.abs(theirs - OPERATIONS[name](image, v)).max() < tolerance + 1e-6


def waves(height=90, width=120):
    """A smooth image, and its largest slope in x and in y: 60 / 5 levels per pixel."""
    y, x = np.mgrid[:height, :width][..., None] + 0.5
    phase = np.array([0.0, 1.0, 2.5])
    image = 128 + 60 * np.sin(x / 5 + phase) + 60 * np.sin(y / 5 + 2 * phase)
    return image.round().astype(np.uint8), 12.0


def moved_by_pillow(name, image, v, resample, fill):
    x = Image.fromarray(image)
    if name == "Rotate":
        return np.asarray(x.rotate(v * 30, resample, fillcolor=fill))
    coefficients = {
        "ShearX": (1, v * 0.3, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, v * 0.3, 1, 0),
        "TranslateX": (1, 0, v * 0.45 * x.width, 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, v * 0.45 * x.height),
    }[name]
    affine = Image.Transform.AFFINE
    return np.asarray(x.transform(x.size, affine, coefficients, resample, fillcolor=fill))


def inner(mask, beyond):
    """Pixels with their 7 x 7 neighbourhood in the mask; `beyond` is 1 if it includes the outside."""
    outside = F.pad(1 - torch.from_numpy(mask).float(), (3, 3, 3, 3), value=1 - beyond)
    return F.max_pool2d(outside[None], 7, 1)[0].numpy() == 0


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("v", [-1.0, -0.37, 0.29, 0.7, 1.0])
def test_geometric_operation_is_close_to_pillow(name, v):
    """Both are bicubic, the kernel's parameter being -0.75 in torch and -0.5 in Pillow. At a slope of s
    levels per pixel that makes at most 2 x 0.25 x max t (1 - t) (1 - 2 t) x s = 0.0481 s levels in x, and in
    y as well; the two roundings make one. To be wrong by 0.15 pixels would make 3.6 levels. Within two pixels
    of the frame's edge it is blended with grey here, and not in Pillow."""
    image, slope = waves()
    ours = OPERATIONS[name](image, v).astype(float)
    theirs = moved_by_pillow(name, image, v, Image.Resampling.BICUBIC, (128, 128, 128)).astype(float)
    white = np.full(image.shape[:2], 255, np.uint8)
    inside = moved_by_pillow(name, white, v, Image.Resampling.NEAREST, 0) == 255
    interior, exterior = inner(inside, beyond=0.0), inner(~inside, beyond=1.0)
    assert interior.mean() > 0.3 and exterior.any()
    assert np.abs(ours - theirs)[interior].max() <= 1 + 0.0481 * 2 * slope
    assert (ours[exterior] == 128).all()


def warped_by_kornia(name, image, v):
    """The operation in kornia, in float64, with the matrix for pixel centres."""
    from kornia.geometry.transform import get_rotation_matrix2d, warp_affine

    rows, columns = image.shape[:2]
    middle = torch.tensor([[(columns - 1) / 2, (rows - 1) / 2]]).double()
    matrix = {
        "Rotate": lambda: get_rotation_matrix2d(
            middle, torch.tensor([v * 30.0]).double(), torch.ones(1, 2).double()
        )[0],
        "ShearX": lambda: torch.tensor([[1, -v * 0.3, -v * 0.15], [0, 1, 0]]),
        "ShearY": lambda: torch.tensor([[1, 0, 0], [-v * 0.3, 1, -v * 0.15]]),
        "TranslateX": lambda: torch.tensor([[1, 0, -v * 0.45 * columns], [0, 1, 0]]),
        "TranslateY": lambda: torch.tensor([[1, 0, 0], [0, 1, -v * 0.45 * rows]]),
    }[name]()
    x = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    grey = torch.full((3,), 128.0).double()
    x = warp_affine(x, matrix[None].double(), (rows, columns), "bicubic", "fill", fill_value=grey)
    return x[0].permute(1, 2, 0).clamp(0, 255).numpy()


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("picture", pictures())
def test_geometric_operation_equals_kornia(name, picture):
    """Both use torch's bicubic kernel, here in float32: half a level by rounding, and less than 0.05 by
    coordinates that are off by 1e-5 pixels, at slopes of a few hundred levels a pixel."""
    image = pictures()[picture]
    for v in VALUES:
        assert np.abs(OPERATIONS[name](image, v) - warped_by_kornia(name, image, v)).max() < 0.55, v


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1), (2, 3)])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_geometric_operation_takes_the_smallest_images(name, size):
    image = seeded().integers(0, 256, (*size, 3), dtype=np.uint8)
    assert OPERATIONS[name](image, 0.7).shape == image.shape
    assert np.array_equal(OPERATIONS[name](image, 0.0), image)


@pytest.mark.parametrize("name", GEOMETRIC)
def test_geometric_operation_at_level_zero_changes_nothing(name):
    image = pictures()["noise"]
    assert np.array_equal(OPERATIONS[name](image, 0.0), image)


def test_shift_by_whole_pixels_is_exact():
    image = pictures()["noise"][:, :60]
    shifted = OPERATIONS["TranslateX"](image, 9 / (0.45 * 60))
    assert np.array_equal(shifted[:, :51], image[:, 9:]) and (shifted[:, 51:] == 128).all()
    down = OPERATIONS["TranslateY"](image, -7 / (0.45 * 53))
    assert np.array_equal(down[7:], image[:-7]) and (down[:7] == 128).all()


@pytest.mark.parametrize("name", OPERATIONS)
def test_frames_get_the_same_operations_with_statistics_of_each_frame(name, monkeypatch):
    monkeypatch.setattr(RandAugment, "draw", lambda self, rng: [(name, 0.7)])
    images = pictures()
    still = np.stack([images["dark"]] * 4)
    before = still.copy()
    result = RandAugment()(still, seeded())
    assert result.shape == still.shape and result.dtype == np.uint8 and np.array_equal(still, before)
    assert all(np.array_equal(x, result[0]) for x in result) and not np.array_equal(result, still)
    moving = np.stack([images["dark"], images["narrow"], images["ramp"]])
    for image, frame in zip(RandAugment()(moving, seeded()), moving, strict=True):
        assert np.array_equal(image, OPERATIONS[name](frame, 0.7))


def test_drawn_operations_are_applied_in_order():
    augment, applied, frames = parse_rand_augment(PUBLISHED), 0, pictures()["noise"][None]
    for seed in range(80):
        drawn = augment.draw(seeded(seed))
        if {name for name, _ in drawn} & set(GEOMETRIC):
            continue
        expected = frames[0]
        for name, v in drawn:
            expected = by_pillow(name, expected, v)
        assert np.array_equal(augment(frames, seeded(seed))[0], expected)
        applied += len(drawn) > 1
    assert applied > 5


def test_augmentation_depends_only_on_its_generator():
    augment, frames = parse_rand_augment(PUBLISHED), np.stack([pictures()["dark"]] * 2)
    first = augment(frames, seeded(1))
    np.random.rand(), torch.rand(1)
    assert np.array_equal(first, augment(frames, seeded(1)))
    assert len({augment(frames, seeded(i)).tobytes() for i in range(12)}) > 8


def test_operations_are_uniform_with_random_sign_and_half_of_them_applied():
    augment, rng = RandAugment(count=4, magnitude=7, spread=0.5), seeded()
    draws = [augment.draw(rng) for _ in range(4000)]
    drawn = [x for draw in draws for x in draw]
    assert abs(len(drawn) - 8000) < 4 * (16000 / 4) ** 0.5  # four standard deviations
    counts = [sum(name == x for x, _ in drawn) for name in OPERATIONS]
    expected = len(drawn) / 15
    assert len(counts) == 15 and max(abs(x - expected) for x in counts) < 4.5 * (expected * 14 / 15) ** 0.5
    assert abs(sum(v > 0 for _, v in drawn) - len(drawn) / 2) < 4 * (len(drawn) / 4) ** 0.5
    assert any(len({name for name, _ in draw}) < len(draw) for draw in draws)  # with replacement
    assert {len(draw) for draw in draws} == {0, 1, 2, 3, 4}


def test_levels_are_normal_and_clipped():
    def levels(**settings):
        rng = seeded()
        return np.array([abs(v) * 10 for _ in range(3000) for _, v in RandAugment(**settings).draw(rng)])

    usual = levels(count=2, magnitude=7, spread=0.5)
    assert abs(usual.mean() - 7) < 0.05 and abs(usual.std() - 0.5) < 0.03 and usual.max() > 8
    top = levels(count=2, magnitude=10, spread=2)
    assert top.max() == 10 and 0.45 < (top == 10).mean() < 0.55
    bottom = levels(count=2, magnitude=0, spread=2)
    assert bottom.min() == 0 and 0.45 < (bottom == 0).mean() < 0.55
    assert (levels(count=2, magnitude=4, spread=0) == 4).all()


def test_no_operation_needs_kornia():
    code = (
        "import sys, numpy; sys.modules['kornia'] = None\n"
        "from videossp.data.augment.rand_augment import OPERATIONS\n"
        "image = numpy.arange(300, dtype='uint8').reshape(10, 10, 3)\n"
        "for apply in OPERATIONS.values(): apply(image, 0.5)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_name_gives_the_settings():
    assert parse_rand_augment(PUBLISHED) == RandAugment(count=4, magnitude=7, spread=0.5)
    assert parse_rand_augment("rand-inc1-n3-m10") == RandAugment(count=3, magnitude=10, spread=0)
    assert parse_rand_augment("rand-m9-mstd0.5-inc1") == RandAugment(count=2, magnitude=9, spread=0.5)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("rand-m7-n4-w0-inc1", "'w0'"),
        ("rand-m7-n4-mmax20-inc1", "'mmax20'"),
        ("rand-m-n4-inc1", "'m'"),
        ("rand-m7-m9-inc1", "'m9'"),
        ("rand--inc1", "''"),
        ("rand-m7-n4-mstd0.5", "inc1"),
        ("rand-m7-n4-inc0", "inc1"),
        ("augmix-m7-inc1", "rand"),
        ("rand-m7-n0-inc1", "n must"),
        ("rand-m7-n1.5-inc1", "n must"),
        ("rand-m11-n2-inc1", "m at most 10"),
    ],
)
def test_invalid_name_is_refused_with_its_wrong_part(text, wrong):
    with pytest.raises(ValueError) as caught:
        parse_rand_augment(text)
    assert repr(text) in str(caught.value) and wrong in str(caught.value).replace(repr(text), "")
    assert "\n" not in str(caught.value)
