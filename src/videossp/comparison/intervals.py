"""Intervals of accuracies and of differences between methods, 95 %, over videos and over seeds."""

import math
import statistics
from collections.abc import Sequence

# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom.
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
NORMAL = 1.96


def over_videos(gaps: Sequence[float]) -> tuple[float, float, float]:
    """Mean of the gaps between two methods by video, -1 to 1, and its 95 % interval (Agresti & Min 2005).

    Two videos are added, half a one of each outcome, lest methods that never disagree seem equal for sure.
    """
    more = len(gaps) + 2
    middle = sum(gaps) / more  # the two that are added differ by 0, 0, 1 and -1, half of each
    half = NORMAL * math.sqrt((sum(x * x for x in gaps) + 1) / more - middle**2) / math.sqrt(more)
    return statistics.fmean(gaps), middle - half, middle + half


def widened(middle: float, low: float, high: float, half: float) -> tuple[float, float]:
    """Low and high of an interval, with half the width of an independent one added in quadrature."""
    return middle - math.hypot(middle - low, half), middle + math.hypot(high - middle, half)


def student(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of two or more values; as Student's t has no bounds, it may leave 0 to 1."""
    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    half = quantile(len(values) - 1) * error
    return mean - half, mean + half


def quantile(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t; beyond 30 by its expansion (Abramowitz & Stegun, 26.7.5)."""
    if freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    z = NORMAL
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def wilson(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share of `count` videos (Wilson 1927)."""
    z = NORMAL**2 / count
    middle = (share + z / 2) / (1 + z)
    half = NORMAL / (1 + z) * math.sqrt(share * (1 - share) / count + z / (4 * count))
    # Rounding would leave 0 to 1, or the share itself out.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
