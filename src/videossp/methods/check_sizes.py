"""`check_size` and `check_kernel`: options of methods that are sizes, so that no layer of size 0 is made."""

from collections.abc import Sequence
from numbers import Integral


def check_size(option: str, given: object, *, least: int = 1) -> None:
    """Validate a size.

    Args:
        option: its name, for the message.
        given: its value.
        least: the smallest size.

    Raises:
        ValueError: it is no whole number, or too small.
    """
    if not _whole(given, least):
        raise ValueError(f"{option} must be a whole number of at least {least}, got {given!r}")


def check_kernel(
    option: str, given: int | Sequence[int], sides: int, *, odd: bool = False
) -> tuple[int, ...]:
    """Validate the sides of a convolution's kernel.

    Args:
        option: its name, for the message.
        given: the sides, or one number for all.
        sides: how many there are.
        odd: each must be odd.

    Returns:
        The sides.

    Raises:
        ValueError: another number of sides, or a side that is no whole number, less than 1, or even.
    """
    kernel = given if isinstance(given, Sequence) else (given,) * sides
    if len(kernel) != sides or not all(_whole(side, 1) and (side % 2 or not odd) for side in kernel):
        numbers = f"{sides} whole numbers" if sides > 1 else "a whole number"
        raise ValueError(f"{option} must be {numbers} of at least 1{', odd' * odd}, got {given!r}")
    return tuple(kernel)


def _whole(x: object, least: int) -> bool:
    return isinstance(x, Integral) and not isinstance(x, bool) and int(x) >= least
