"""`Grid`: the times at which windows start and end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

MICRO = 10**6
MOST = 10_000  # hops of a window: each moment may be the start of as many pieces


@dataclass(frozen=True)
class Grid:
    """Windows of one or several lengths, all of whose ends are multiples of the hop.

    Attributes:
        hop: microseconds from one grid point to the next; whole numbers, so that times do not drift.
        lengths: of the windows, in hops, the shortest first.
    """

    hop: int
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, windows: Sequence[float], hop: float | None = None) -> "Grid":
        """The grid of windows of these lengths in seconds.

        Args:
            windows: their lengths.
            hop: seconds from one window to the next; default: a quarter of the shortest window.

        Raises:
            ValueError: a length or the hop is too short or too long, or a length is no whole number of hops.
        """
        if not windows or not all(0.001 <= x <= 86400 for x in windows):
            raise ValueError(f"windows must be at least 0.001 s and at most 86400 s, got {[*windows]}")
        if hop is not None and not 0.001 <= hop <= 86400:
            raise ValueError(f"the hop must be at least 0.001 s and at most 86400 s, got {hop:g}")
        micro = sorted({round(x * MICRO) for x in windows})
        step = micro[0] // 4 if hop is None else round(hop * MICRO)
        if step < 1000:
            raise ValueError(f"a quarter of the window is {step / MICRO:g} s; give a hop of at least 0.001 s")
        if hop is None:  # windows are known to a millisecond; a quarter of one may not be a whole number
            micro[0] = 4 * step
        for length in micro:
            if length % step:
                nearest = largest_divisor(math.gcd(*micro), step)
                other = f"hop, as {nearest / MICRO:g}" if nearest >= 1000 else "window"
                raise ValueError(
                    f"a window of {length / MICRO:g} s is no whole number of hops of {step / MICRO:g} s; "
                    f"choose another {other}"
                )
        if micro[-1] // step > MOST:
            raise ValueError(
                f"a window of {micro[-1] / MICRO:g} s has {micro[-1] // step} hops of {step / MICRO:g} s, "
                f"but at most {MOST} are possible; choose a longer hop"
            )
        return cls(step, tuple(x // step for x in micro))

    @property
    def longest(self) -> int:
        """The longest window, in hops."""
        return self.lengths[-1]

    @property
    def hop_seconds(self) -> float:
        """Seconds from one grid point to the next."""
        return self.hop / MICRO

    def seconds(self, point: int) -> float:
        """The time of a grid point in seconds."""
        return point * self.hop / MICRO

    def points(self, seconds: float) -> int:
        """The first grid point at or after a time."""
        point = max(0, int(seconds * MICRO / self.hop) - 1)
        while self.seconds(point) < seconds:
            point += 1
        return point

    def last(self, seconds: float) -> int:
        """The grid point at which the windows over a recording of this duration end.

        Its last hop may be incomplete. A recording that is shorter than every window gets one window.
        """
        return max(self.points(seconds), self.lengths[0])


def largest_divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is at most `most`."""
    small = [x for x in range(1, math.isqrt(number) + 1) if number % x == 0]
    return max(x for divisor in small for x in (divisor, number // divisor) if x <= most)
