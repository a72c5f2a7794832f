"""95 % intervals of accuracies and of differences between methods, over videos and over seeds."""

import math
import statistics
from collections.abc import Sequence

# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom.
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
NORMAL = 1.96  # the same of the normal distribution


def over_videos(gaps: Sequence[float]) -> tuple[float, float, float]:
    """Mean difference between two methods on the same videos, with its interval over videos.

    The interval is that of Agresti & Min (2005, Statistics in Medicine 24, 729-740) for matched pairs: two
    videos are added, half a video for each of the four outcomes. Without them, two methods that never
    disagree would have an interval of width zero.

    Args:
        gaps: difference for each video, -1 to 1: the mean over seeds of 1 (only the first method is right),
            0 (both or neither) or -1 (only the second).

    Returns:
        (mean, low, high).
    """
    count = len(gaps) + 2
    # The two pseudo-videos: half a video for each outcome, with differences 0, 0, 1, -1.
    middle = sum(gaps) / count
    half = NORMAL * math.sqrt((sum(x * x for x in gaps) + 1) / count - middle**2) / math.sqrt(count)
    return statistics.fmean(gaps), middle - half, middle + half


def widened(middle: float, low: float, high: float, half: float) -> tuple[float, float]:
    """Add the half width of an independent interval to another interval, in quadrature.

    Returns:
        (low, high).
    """
    return middle - math.hypot(middle - low, half), middle + math.hypot(high - middle, half)


def student(values: Sequence[float]) -> tuple[float, float]:
    """Interval of the mean of two or more values (Student 1908).

    Returns:
        (low, high). They may leave the range of the values, as Student's t has no bounds.
    """
    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    half = quantile(len(values) - 1) * error
    return mean - half, mean + half


def quantile(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t: the tabulated value up to 30 degrees of freedom.

    Beyond 30, the first terms of its expansion (Abramowitz & Stegun, 26.7.5).
    """
    if freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    z = NORMAL
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def wilson(share: float, count: int) -> tuple[float, float]:
    """Interval of an accuracy over videos (Wilson 1927, J. Am. Stat. Assoc. 22, 209-212).

    Args:
        share: accuracy, 0 to 1.
        count: videos.

    Returns:
        (low, high), within 0 to 1 and with `share` between them.
    """
    z = NORMAL**2 / count
    middle = (share + z / 2) / (1 + z)
    half = NORMAL / (1 + z) * math.sqrt(share * (1 - share) / count + z / (4 * count))
    # Rounding errors must not leave 0 to 1, or the accuracy outside.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
