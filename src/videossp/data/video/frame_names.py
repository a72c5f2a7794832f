"""Which images of a folder are the frames of its video, and their order: both are decided by the names."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from os.path import splitext
from pathlib import Path
from typing import NamedTuple

from videossp.errors import DataError

# A number, perhaps with a sign, decimals and an exponent; `numbers_of` decides what they mean. Of a date or a
# version with two dots or more (2024.01.02), each part is a number.
NUMBER = re.compile(r"(?:(?<!\d\.)[-+]?\d+\.\d+(?!\.?\d)|[-+]?\d+)(?:e[-+]\d{1,3}(?!\d))?", re.IGNORECASE)
# After these characters, or at the start of a name, a minus is a sign, because nothing is left to separate.
BEFORE_SIGN = ("", "_", "=", "(", "[", ",")
# Words in the names of optical flow, which extractors write beside the frames.
FLOW = {"flow", "flows", "flowx", "flowy", "flowu", "flowv", "opticalflow", "optflow", "optflows"}
SINGLE = 2  # a pattern with more numbered names than this is a sequence, and not a single picture
SINGLES = 5  # most pictures beside the frames that are taken for single ones, such as covers and posters
Order = tuple[int | str | Fraction, ...]


class FrameNames(NamedTuple):
    """The names of the images of a folder.

    Attributes:
        frames: names of the frames, in their order.
        orders: the numbers by which each frame was sorted; the name itself where it has none.
        others: names of the images that are no frames, sorted.
    """

    frames: list[str]
    orders: list[Order]
    others: list[str]


def frame_names(folder: Path, names: Sequence[str], count: int | None = None) -> FrameNames:
    """Choose the frames among the images of a folder, and sort them.

    Names are alike if they differ only in their numbers, in case and in their suffix; names without a number
    are alike, too, and sorted as text. Of several sorts of names

    - optical flow (flow_x_, flow_y_, x_ with y_, u_ with v_) is left out beside about as many others,
    - the largest is taken if the others are a few single pictures (cover.jpg),
    - the one with `count` names is taken if there is only one such.

    Names that are hashes are refused by this, as they should be: in them, a video has no order.

    Args:
        folder: its path, for messages.
        count: number of frames that an annotation promises.

    Raises:
        DataError: several sorts of names may be the frames, or two frames have the same number.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        pattern = NUMBER.sub("#", splitext(name)[0]).casefold()
        groups[pattern if "#" in pattern else ""].append(name)
    if len(groups) <= 1:
        chosen = list(names)
    elif 2 * len(groups) > len(names) and (numbered := by_leading_number(names)):
        return numbered
    else:
        chosen = largest(folder, groups, count)
    orders = orders_of(chosen)
    if len(set(orders)) < len(orders):
        chosen = without_copies(folder, chosen, orders, count)
        orders = orders_of(chosen)
    pairs = sorted(zip(orders, chosen, strict=True))
    kept = set(chosen)
    others = sorted(x for x in names if x not in kept)
    return FrameNames([name for _, name in pairs], [order for order, _ in pairs], others)


def is_flow(name: str) -> bool:
    """Whether the name of a folder says that it holds optical flow."""
    return re.sub(r"[\W_]", "", name.casefold()) in FLOW


def by_leading_number(names: Sequence[str]) -> FrameNames | None:
    """The order of names with their own words after a number, as 0001_start, 0002_jump; else None."""
    leading = [re.match(r"(\D*)(\d+)", splitext(x)[0]) for x in names]
    numbers = {int(x[2]): name for x, name in zip(leading, names, strict=True) if x}
    if len(numbers) < len(names) or len({x[1].casefold() for x in leading if x}) > 1:
        return None
    return FrameNames([numbers[x] for x in sorted(numbers)], [(x,) for x in sorted(numbers)], [])


def largest(folder: Path, groups: dict[str, list[str]], count: int | None) -> list[str]:
    """The names of the sort that is the frames; see `frame_names`."""

    def is_flow_pattern(pattern: str) -> bool:
        twins = (
            re.sub(f"(?<![a-z]){x}(?![a-z])", y, pattern)
            for x, y in (("x", "y"), ("y", "x"), ("u", "v"), ("v", "u"))
        )
        words = re.findall("[a-z]+", pattern)
        return not FLOW.isdisjoint(words) or any(x != pattern and x in groups for x in twins)

    sorts = {x: names for x, names in groups.items() if not is_flow_pattern(x)}
    if 2 * max(map(len, sorts.values()), default=0) < max(map(len, groups.values())):
        sorts = groups  # beside a cover, the flow is the video
    ranked = sorted(sorts, key=lambda x: (-len(sorts[x]), x))
    first, *rest = ranked
    single = all(len(sorts[x]) <= (SINGLE if x else SINGLES) for x in rest)
    if single and sum(len(sorts[x]) for x in rest) <= min(SINGLES, len(sorts[first]) // 3):
        return sorts[first]
    fitting = [names for names in sorts.values() if len(names) == count]
    if len(fitting) == 1:
        return fitting[0]
    shown = [f"{len(sorts[x]):,} such as {min(sorts[x])}" for x in ranked[:4]]
    more = f" and {len(ranked) - 4:,} more" if len(ranked) > 4 else ""
    raise DataError(
        f"{folder}: images with {len(ranked):,} patterns of names: {', '.join(shown)}{more}; "
        "keep only the frames of one video in a folder, numbered in their names"
    )


def without_copies(folder: Path, names: list[str], orders: list[Order], count: int | None) -> list[str]:
    """The names with the one suffix that fits the promised count, where frames have the same number.

    Raises:
        DataError: no suffix, or more than one, fits.
    """
    by_suffix: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_suffix[splitext(name)[1].lower()].append(name)
    fitting = [x for x in by_suffix.values() if len(x) == count and len(set(orders_of(x))) == count]
    if len(fitting) == 1:
        return fitting[0]
    repeats = Counter(orders)
    order = min(x for x in repeats if repeats[x] > 1)
    first, second = sorted(name for name, x in zip(names, orders, strict=True) if x == order)[:2]
    surplus = len(orders) - len(repeats)
    raise DataError(
        f"{folder}: {first} and {second} have the same number, and {surplus:,} of {len(names):,} images "
        "repeat one; keep one image for each frame"
    )


def orders_of(names: Sequence[str]) -> list[Order]:
    """For each of names that are alike: its numbers, or its text if it has none."""
    stems = [splitext(x)[0] for x in names]
    rows = [NUMBER.findall(x) for x in stems]
    if not any(rows):
        return [(x.casefold(),) for x in stems]
    before = [stems[0][: x.start()][-1:] for x in NUMBER.finditer(stems[0])]
    columns = [numbers_of(x, y) for x, y in zip(zip(*rows, strict=True), before, strict=True)]
    return [tuple(x for numbers in row for x in numbers) for row in zip(*columns, strict=True)]


def numbers_of(texts: Sequence[str], before: str) -> list[tuple[int | Fraction, ...]]:
    """The numbers at one place of names that are alike.

    A minus, a dot and an exponent belong to the number if other names have none at this place, because a
    separator would be in all of them. If all have a minus, it is a sign only after `BEFORE_SIGN`. If all have
    a dot, it separates two numbers where the digits after it end in a zero and differ in length (1.9, 1.10).

    Args:
        texts: matches of `NUMBER`.
        before: the character before this place, "" at the start of the name.
    """
    signs = [x.startswith("-") for x in texts]
    if not (any(signs) and (not all(signs) or before in BEFORE_SIGN)):
        texts = [x.lstrip("+-") for x in texts]
    whole = all("e" not in x.lower() for x in texts)
    if whole and all("." not in x for x in texts):
        return [(int(x),) for x in texts]
    if all("e" in x.lower() for x in texts) or (whole and has_two_numbers(texts)):
        return [tuple(map(int, re.findall(r"\d+|^-\d+", x))) for x in texts]
    return [(Fraction(x),) for x in texts]


def has_two_numbers(texts: Iterable[str]) -> bool:
    """Whether the dots in texts like 1.9 and 1.10 separate two numbers."""
    digits = [x.partition(".")[2] for x in texts]
    padded = any(x.startswith("0") and len(x) > 1 for x in digits)
    ends_in_zero = any(x.endswith("0") and len(x) > 1 for x in digits)
    return all(digits) and len({len(x) for x in digits}) > 1 and ends_in_zero and not padded


def missing_numbers(orders: Sequence[Order]) -> int:
    """How many numbers are missing between those of the frames, which may count in steps (0, 5, 10, ...).

    Returns:
        The count; 0 if more than one number changes from name to name, or if there is no usual step, as
        between points in time.
    """
    changing = [x for x in zip(*orders, strict=True) if len(set(x)) > 1]
    if len(changing) != 1 or not all(isinstance(x, int) for x in changing[0]):
        return 0
    numbers = [int(x) for x in changing[0]]
    steps = Counter(b - a for a, b in zip(numbers, numbers[1:], strict=False))
    step, times = steps.most_common(1)[0]
    if 4 * times < 3 * steps.total() or any(x % step for x in steps):
        return 0
    return sum((x // step - 1) * n for x, n in steps.items())
