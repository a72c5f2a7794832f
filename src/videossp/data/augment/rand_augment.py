"""RandAugment (Cubuk et al. 2020) in timm's form, with Pillow's arithmetic: one draw for all frames."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videossp.data.video import Frames

LEVELS = np.arange(256, dtype=np.uint8)  # all values of a pixel


def look_up(image: Frames, table: Any) -> Frames:
    """table[image], for a table of 256 numbers in [0, 255]; bytes.translate is four times as fast."""
    values = bytearray(image).translate(bytes(np.asarray(table, np.uint8)))
    return np.frombuffer(values, np.uint8).reshape(image.shape)


def blend(base: Frames | int, image: Frames, v: float) -> Frames:
    """base + f (image - base) with f = 1 + 0.9 v, clipped to [0, 255] and rounded down as in Pillow."""
    start = np.asarray(base, np.float32)
    return np.asarray(np.clip(start + np.float32(1 + v * 0.9) * (image - start), 0, 255), np.uint8)


def grey(image: Frames) -> Frames:
    """Luma of ITU-R 601, (height, width), rounded; Pillow's weights, in 65536ths."""
    red, green, blue = np.moveaxis(image.astype(np.uint32), -1, 0)
    return np.asarray((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16)


def smooth(image: Frames) -> Frames:
    """Mean of 3 x 3 pixels with the centre counted five times; the pixels at the border are kept."""
    x = image.astype(np.uint16)
    rows = x[:-2] + x[1:-1] + x[2:]
    total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * x[1:-1, 1:-1]
    result = np.array(image)
    result[1:-1, 1:-1] = (2 * total + 13) // 26
    return result


def per_channel(image: Frames, table: Callable[[Frames], Any]) -> Frames:
    """Apply to each channel the table that `table` computes from it."""
    channels = [np.ascontiguousarray(image[..., i]) for i in range(3)]
    return np.stack([look_up(x, table(x)) for x in channels], axis=-1)


def stretched(channel: Frames) -> Any:
    """Table that stretches the range of a channel to 0 to 255."""
    low, high = int(channel.min()), int(channel.max())
    scale = 255 / max(high - low, 1)
    return np.clip(LEVELS * scale - low * scale, 0, 255) if high > low else LEVELS


def equalized(channel: Frames) -> Any:
    """Table that equalizes the histogram of a channel, with Pillow's rounding."""
    counts = torch.bincount(torch.from_numpy(channel).flatten(), minlength=256).numpy()
    step = (channel.size - int(counts[channel.max()])) // 255  # pixels per level of the result
    darker = np.cumsum(counts) - counts
    return np.minimum((darker + step // 2) // step, 255) if step else LEVELS


def inverse(matrix: Tensor) -> Tensor:
    """Inverse of a 3 x 3 matrix by cofactors."""
    a, b, c = matrix.unbind(1)
    rows = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)])
    return rows / (a * rows[0]).sum()


def warp(image: Frames, across: tuple[float, float, float], down: tuple[float, float, float]) -> Frames:
    """Move the point (x, y) to (across . (x, y, 1), down . (x, y, 1)), in pixels from the top left corner.

    Interpolation is bicubic; pixels from outside the image are grey, 128.

    The arithmetic is that of kornia's `warp_affine` (0.9), to the bit: runs of earlier versions, which called
    it, resume with the same clips. `F.affine_grid` rounds differently, which changes 0.06 % of the pixels of
    a noise image by one level.
    """
    rows, columns = image.shape[:2]
    matrix = np.array([across, down, (0, 0, 1)], float)
    matrix[:2, 2] += matrix[:2, :2].sum(1) / 2 - 0.5  # from corners of pixels to their centres
    pixels = torch.from_numpy(matrix).float()
    # Pixel centres 0 to size - 1 become -1 to 1, the coordinates of grid_sample.
    unit = torch.tensor([[2 / max(columns - 1, 1), 0, -1], [0, 2 / max(rows - 1, 1), -1], [0, 0, 1]])
    source = inverse(unit @ (pixels @ inverse(unit)))[:2]
    x, y = torch.linspace(-1, 1, columns), torch.linspace(-1, 1, rows)[:, None]
    grid = torch.stack([p * x + q * y + r for p, q, r in source], dim=-1)[None]
    # Minus 128: the zeros that grid_sample puts outside become grey.
    shifted = torch.from_numpy(image).permute(2, 0, 1)[None].float() - 128
    warped = F.grid_sample(shifted, grid, mode="bicubic", padding_mode="zeros", align_corners=True) + 128
    return warped[0].permute(1, 2, 0).round().clamp(0, 255).byte().contiguous().numpy()


def rotate(image: Frames, angle: float) -> Frames:
    """Rotate about the centre, anticlockwise, by an angle in degrees."""
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    y, x = image.shape[0] / 2, image.shape[1] / 2
    return warp(image, (cosine, sine, x - cosine * x - sine * y), (-sine, cosine, y + sine * x - cosine * y))


# Functions of an image (height, width, 3) and v, a tenth of the level, in [-1, 1]. This is the "increasing"
# set of timm: the effect grows with |v|. For geometric operations the sign is the direction.
OPERATIONS: dict[str, Callable[[Frames, float], Frames]] = {
    "AutoContrast": lambda x, v: per_channel(x, stretched),
    "Equalize": lambda x, v: per_channel(x, equalized),
    "Invert": lambda x, v: look_up(x, 255 - LEVELS),
    "Rotate": lambda x, v: rotate(x, v * 30),
    "Posterize": lambda x, v: look_up(x, LEVELS & (256 - 2 ** (4 + int(abs(v) * 4)))),
    "Solarize": lambda x, v: look_up(x, np.where(256 - int(abs(v) * 256) > LEVELS, LEVELS, 255 - LEVELS)),
    "SolarizeAdd": lambda x, v: look_up(x, LEVELS + (LEVELS < 128) * int(abs(v) * 110)),
    "Color": lambda x, v: blend(grey(x)[..., None], x, v),
    "Contrast": lambda x, v: look_up(x, blend(int(grey(x).mean() + 0.5), LEVELS, v)),
    "Brightness": lambda x, v: look_up(x, blend(0, LEVELS, v)),
    "Sharpness": lambda x, v: blend(smooth(x), x, v),
    "ShearX": lambda x, v: warp(x, (1, -v * 0.3, 0), (0, 1, 0)),
    "ShearY": lambda x, v: warp(x, (1, 0, 0), (-v * 0.3, 1, 0)),
    "TranslateX": lambda x, v: warp(x, (1, 0, -v * 0.45 * x.shape[1]), (0, 1, 0)),
    "TranslateY": lambda x, v: warp(x, (1, 0, 0), (0, 1, -v * 0.45 * x.shape[0])),
}


@dataclass(frozen=True)
class RandAugment:
    """Apply random `OPERATIONS` to a clip.

    Attributes:
        count: number of operations drawn, with replacement; each is applied with probability 0.5.
        magnitude: mean level of an operation, 0 to 10.
        spread: standard deviation of the level, which is clipped to [0, 10].
    """

    count: int = 2
    magnitude: float = 10.0
    spread: float = 0.0

    def draw(self, rng: np.random.Generator) -> list[tuple[str, float]]:
        """(name, v) of the operations to apply, in order."""
        names, drawn = list(OPERATIONS), []
        for index in rng.integers(len(names), size=self.count):
            if rng.random() < 0.5:
                v = float(np.clip(rng.normal(self.magnitude, self.spread), 0, 10)) / 10
                drawn.append((names[index], v if rng.random() < 0.5 else -v))
        return drawn

    def __call__(self, frames: Frames, rng: np.random.Generator) -> Frames:
        """Augment frames, (time, height, width, 3) uint8.

        All frames get the same operations; operations that use image statistics take those of each frame.
        """
        drawn, images = self.draw(rng), list(frames)
        for i in range(len(images)):  # frame by frame: needs less memory, and the frame stays in the cache
            for name, v in drawn:
                images[i] = OPERATIONS[name](images[i], v)
        return np.stack(images)


def parse_rand_augment(text: str) -> RandAugment:
    """Read timm's name for a RandAugment, as "rand-m7-n4-mstd0.5-inc1".

    m is the magnitude (default 10), n the count (2), mstd the spread (0); inc1 is required.

    Raises:
        ValueError: the name has a part that is unknown, repeated, missing or out of range.
    """
    head, *parts = text.split("-")
    given: dict[str, float] = {}
    for part in parts:
        match = re.fullmatch(r"(m|n|mstd|inc)(\d+(?:\.\d+)?)", part)
        if match is None or match[1] in given:
            raise ValueError(f"{text!r}: {part!r} is not one of m, n, mstd, inc with a number, each once")
        given[match[1]] = float(match[2])
    if head != "rand" or given.get("inc") != 1:
        raise ValueError(f"{text!r} must start with rand and contain inc1, the increasing operations")
    count, magnitude = given.get("n", 2.0), given.get("m", 10.0)
    if count < 1 or not count.is_integer() or magnitude > 10:
        raise ValueError(f"{text!r}: n must be an integer of at least 1, m at most 10")
    return RandAugment(int(count), magnitude, given.get("mstd", 0.0))
