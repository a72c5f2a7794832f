"""Augmentation of one clip, one draw for all of its frames, and mixing of the clips of a batch."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videossp.data.video import Frames

Span = tuple[float, float]
OPPOSITE = {"left": "right", "east": "west", "clockwise": "anticlockwise"}
OPPOSITE |= {there: here for here, there in OPPOSITE.items()}
# Words that a mirror image would make wrong; leftover, Eastwood and bright are not among them.
DIRECTION = re.compile(
    r"(?<![a-z])((north|south)?(left|right|east|west)(ward|wards|hand|handed|most|bound|side)?"
    r"|(anti)?clockwise)(?![a-z])"
)
LEVELS = np.arange(256, dtype=np.uint8)


def random_crop(
    frames: Frames, size: tuple[int, int], scale: Span, rng: np.random.Generator, ratio: Span = (3 / 4, 4 / 3)
) -> Tensor:
    """One random box for all frames, resized: area a share within `scale`, width over height within `ratio`.

    The box of Inception training (Szegedy et al. 2015); where ten draws do not fit into the frame,
    the largest centred box of the asked-for shape. Resized with antialiasing, as tests are.

    Args:
        frames: (time, height, width, 3) uint8.
        size: (height, width) of the result.

    Returns:
        (time, 3, *size) float32 in [0, 1].
    """
    rows, columns = frames.shape[1:3]
    box = random_box(rows, columns, scale, ratio, rng)
    if box is None:
        shrink = min(rows / size[0], columns / size[1])
        height, width = max(1, int(size[0] * shrink)), max(1, int(size[1] * shrink))
        box = (rows - height) // 2, (columns - width) // 2, height, width
    top, left, height, width = box
    images = torch.from_numpy(frames[:, top : top + height, left : left + width]).permute(0, 3, 1, 2)
    return F.interpolate(images.float() / 255, size, mode="bilinear", antialias=True)


def random_box(
    rows: int, columns: int, scale: Span, ratio: Span, rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) of a box by area and width over height; None where ten draws do not fit."""
    for _ in range(10):
        area = rows * columns * rng.uniform(*scale)
        wide = np.exp(rng.uniform(np.log(ratio[0]), np.log(ratio[1])))
        height, width = round((area / wide) ** 0.5), round((area * wide) ** 0.5)
        if 0 < height <= rows and 0 < width <= columns:
            return int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1)), height, width
    return None


def directed(classes: Sequence[str]) -> str | None:
    """The classes that a mirror image would mix up, as "'turn left' and 'turn right'".

    Two names that become each other when left and right, east and west, clockwise and anticlockwise change
    places, also inside a word (swipeleft); else one name that holds such a word; else None. Case, CamelCase,
    snake_case and hyphens make no difference.
    """
    names = {plain(name): name for name in classes}
    for words, name in names.items():
        turned = re.sub(r"(anti)?clockwise|left|right|east|west", lambda x: OPPOSITE[x[0]], words)
        if turned != words and turned in names:
            return f"{name!r} and {names[turned]!r}"
    return next((repr(name) for words, name in names.items() if DIRECTION.search(words)), None)


def plain(name: str) -> str:
    """turn_left, TurnLeft and Turn-Left as turn left; every word for anticlockwise as that one."""
    words = re.sub(r"[\s_-]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).lower()
    words = re.sub(r"\b(ccw|(anti|counter) ?clockwise)\b", "anticlockwise", words)
    return re.sub(r"\bcw\b", "clockwise", words)


def mirror(flip: Literal["auto", "on", "off", "force"], classes: Sequence[str]) -> bool:
    """Whether clips may be mirrored: auto unless class names hold a direction; force whatever they hold.

    Raises:
        ValueError: flip is on and class names hold a direction.
    """
    names = directed(classes)
    if flip == "on" and names:
        raise ValueError(f"flip=on would turn round {names}; flip=force mirrors all the same")
    return flip in ("on", "force") or (flip == "auto" and not names)


def look_up(image: Frames, table: Any) -> Frames:
    """table[image], for 256 numbers in [0, 255]; bytes.translate is four times as fast as an index."""
    values = bytearray(image).translate(bytes(np.asarray(table, np.uint8)))
    return np.frombuffer(values, np.uint8).reshape(image.shape)


def blend(base: Frames | int, image: Frames, v: float) -> Frames:
    """base + f (image - base), f = 1 + 0.9 v: cut to [0, 255] and rounded down, as Pillow does."""
    start = np.asarray(base, np.float32)
    return np.asarray(np.clip(start + np.float32(1 + v * 0.9) * (image - start), 0, 255), np.uint8)


def grey(image: Frames) -> Frames:
    """Luma of ITU-R 601, (height, width), rounded; the weights are Pillow's, in 65536ths."""
    red, green, blue = np.moveaxis(image.astype(np.uint32), -1, 0)
    return np.asarray((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16)


def smooth(image: Frames) -> Frames:
    """Mean of 3 x 3 pixels, the centre counted five times; the outermost pixels stay as they are."""
    x = image.astype(np.uint16)
    rows = x[:-2] + x[1:-1] + x[2:]
    total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * x[1:-1, 1:-1]
    result = np.array(image)
    result[1:-1, 1:-1] = (2 * total + 13) // 26
    return result


def per_channel(image: Frames, table: Callable[[Frames], Any]) -> Frames:
    """Each channel through the table that is made of it."""
    channels = [np.ascontiguousarray(image[..., i]) for i in range(3)]
    return np.stack([look_up(x, table(x)) for x in channels], axis=-1)


def stretched(channel: Frames) -> Any:
    """The table that spreads the levels that occur over 0 to 255."""
    low, high = int(channel.min()), int(channel.max())
    scale = 255 / max(high - low, 1)
    return np.clip(LEVELS * scale - low * scale, 0, 255) if high > low else LEVELS


def equalized(channel: Frames) -> Any:
    """The table that makes the levels equally frequent, with Pillow's rounding."""
    counts = torch.bincount(torch.from_numpy(channel).flatten(), minlength=256).numpy()
    step = (channel.size - int(counts[channel.max()])) // 255  # pixels for each level of the result
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
    """About the centre, anticlockwise; in degrees."""
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    y, x = image.shape[0] / 2, image.shape[1] / 2
    return warp(image, (cosine, sine, x - cosine * x - sine * y), (-sine, cosine, y + sine * x - cosine * y))


# What each does to an image (height, width, 3) at v, a tenth of the level, in [-1, 1]: the "increasing" set,
# which changes more the further v is from 0. The sign is a direction, where there is one.
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
    """Some of `OPERATIONS`, drawn for a clip (Cubuk et al. 2020), in the form of timm.

    Attributes:
        count: operations drawn, with replacement; each is applied with probability 0.5.
        magnitude: mean level of an operation, 0 to 10.
        spread: standard deviation of the level, which is cut to [0, 10].
    """

    count: int = 2
    magnitude: float = 10.0
    spread: float = 0.0

    def draw(self, rng: np.random.Generator) -> list[tuple[str, float]]:
        """What to apply: names of operations, and v of each."""
        names, drawn = list(OPERATIONS), []
        for index in rng.integers(len(names), size=self.count):
            if rng.random() < 0.5:
                v = float(np.clip(rng.normal(self.magnitude, self.spread), 0, 10)) / 10
                drawn.append((names[index], v if rng.random() < 0.5 else -v))
        return drawn

    def __call__(self, frames: Frames, rng: np.random.Generator) -> Frames:
        """(time, height, width, 3) uint8 to the same; the statistics of an operation are of each frame."""
        drawn, images = self.draw(rng), list(frames)
        for i in range(len(images)):  # frame by frame: less memory, and it stays in the cache
            for name, v in drawn:
                images[i] = OPERATIONS[name](images[i], v)
        return np.stack(images)


def parse_rand_augment(text: str) -> RandAugment:
    """RandAugment by timm's name for it, as rand-m7-n4-mstd0.5-inc1.

    m is the magnitude (10 if not given), n the count (2), mstd the spread (0); inc1 must be there.

    Raises:
        ValueError: names what is wrong.
    """
    head, *parts = text.split("-")
    given: dict[str, float] = {}
    for part in parts:
        match = re.fullmatch(r"(m|n|mstd|inc)(\d+(?:\.\d+)?)", part)
        if match is None or match[1] in given:
            raise ValueError(f"{text!r}: {part!r} is not one of m, n, mstd, inc with a number, each once")
        given[match[1]] = float(match[2])
    if head != "rand" or given.get("inc") != 1:
        raise ValueError(f"{text!r} must begin with rand and hold inc1, the increasing operations")
    count, magnitude = given.get("n", 2.0), given.get("m", 10.0)
    if count < 1 or not count.is_integer() or magnitude > 10:
        raise ValueError(f"{text!r}: n must be a whole number from 1 on, m at most 10")
    return RandAugment(int(count), magnitude, given.get("mstd", 0.0))


def erase(clip: Tensor, probability: float, rng: np.random.Generator) -> Tensor:
    """Random erasing (Zhong et al. 2020): with the probability, one box of a clip becomes noise, N(0, 1).

    The box is the same in all frames, the noise is of its own for each value. Area a share of 0.02 to 1/3,
    width over height 0.3 to 1 / 0.3; where ten draws do not fit into the frame, nothing is erased.

    Args:
        clip: (3, time, height, width), normalised; it is not changed.
    """
    colours, time, rows, columns = clip.shape
    clip, hit = clip.clone(), rng.random() < probability
    if hit and (box := random_box(rows, columns, (0.02, 1 / 3), (0.3, 1 / 0.3), rng)):
        top, left, height, width = box
        noise = rng.standard_normal((colours, time, height, width), np.float32)
        clip[..., top : top + height, left : left + width] = torch.from_numpy(noise)
    return clip


def soft_targets(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Labels (batch,) to shares (batch, classes): smoothing / classes each, the rest for the label."""
    return F.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes


def mix(
    clips: Tensor, targets: Tensor, mixup: float, cutmix: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A batch mixed with itself in reverse order, by Mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019).

    Mixup adds the clips, weighted; CutMix takes one box, the same in all clips and frames, from the other
    clip. One draw for the batch; if both are on, either with probability 1/2.

    Args:
        clips: (batch, 3, time, height, width).
        targets: (batch, classes) float.
        mixup, cutmix: alpha of the Beta distribution of the weight of the clip itself; 0: off.
    """
    if not mixup and not cutmix:
        return clips, targets
    boxed = cutmix > 0 and (mixup == 0 or rng.random() < 0.5)
    alpha = cutmix if boxed else mixup
    weight = rng.beta(alpha, alpha)
    if boxed:
        sides = np.array(clips.shape[-2:])
        cut = np.rint(sides * (1 - weight) ** 0.5).astype(int)
        first = rng.integers(sides) - cut // 2
        (top, left), (bottom, right) = np.clip([first, first + cut], 0, sides)
        mixed = clips.clone()
        mixed[..., top:bottom, left:right] = clips[..., top:bottom, left:right].flip(0)
        weight = 1 - float((bottom - top) * (right - left) / sides.prod())  # the border may cut the box
    else:
        mixed = torch.lerp(clips.flip(0), clips, weight)
    return mixed, torch.lerp(targets.flip(0), targets, weight)
