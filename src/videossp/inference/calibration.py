"""Calibration: does a probability say how often predictions are right? Temperature and calibration error.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv 1706.04599.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 15  # as in the paper
LEAST, MOST = 0.05, 20.0  # temperatures that are tried
PRIOR = 0.5  # of the logarithm of a temperature, see `fit_temperature`
TINY = torch.finfo(torch.float32).tiny  # in place of a probability of 0
STEPS = 22  # each shortens the interval of temperatures to 0.6 of its length


@dataclass(frozen=True)
class Reliability:
    """Predictions by their confidence, the probability of the predicted class, in bins of equal width.

    Attributes:
        counts: (BINS,) number of predictions in each bin.
        confidence: (BINS,) their mean confidence; NaN in an empty bin.
        accuracy: (BINS,) fraction of them that is right; NaN in an empty bin.
    """

    counts: Tensor
    confidence: Tensor
    accuracy: Tensor

    @classmethod
    def of(cls, scores: Tensor, labels: Tensor) -> "Reliability":
        """The reliability of probabilities (videos, classes) for true classes (videos,)."""
        confidence, predicted = scores.double().max(1)
        bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
        counts = bins.bincount(minlength=BINS)
        sums = [bins.bincount(x.double(), minlength=BINS) for x in (confidence, predicted == labels)]
        return cls(counts, *(x / counts for x in sums))

    @property
    def error(self) -> float | None:
        """Expected calibration error: mean of |accuracy - confidence| over predictions; None without any."""
        if not self.counts.sum():
            return None
        gaps = (self.accuracy - self.confidence).abs().nan_to_num()
        return (gaps * self.counts).sum().item() / int(self.counts.sum())


def with_temperature(scores: Tensor, temperature: float) -> Tensor:
    """Probabilities (..., classes) of logits divided by a temperature, from those of the logits."""
    return (scores.clamp_min(TINY).log() / temperature).softmax(-1)


def fit_temperature(view_scores: Tensor, labels: Tensor, prior: float = PRIOR) -> float:
    """The temperature of the largest likelihood of the true classes, with a prior around 1.

    The prior matters where there are few videos: without it, probabilities would become 0 and 1 if all videos
    are right. Its logarithm is normal with mean 0.

    Args:
        view_scores: (videos, views, classes) probabilities at temperature 1.
        labels: (videos,) true classes.
        prior: standard deviation of the logarithm; infinity: no prior.

    Returns:
        The temperature; 1 without videos.
    """
    if not len(labels):
        return 1.0
    logits = view_scores.double().clamp_min(TINY).log()
    own = logits[torch.arange(len(labels)), :, labels]  # (videos, views)

    def cost(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        views = own / temperature - (logits / temperature).logsumexp(-1)
        likelihoods = views.logsumexp(1) - math.log(views.shape[1])  # of the mean over the views
        return -likelihoods.sum().item() + (log_temperature / prior) ** 2 / 2

    low, high = math.log(LEAST), math.log(MOST)
    for _ in range(STEPS):
        first, second = low + 0.4 * (high - low), low + 0.6 * (high - low)
        if cost(first) < cost(second):
            high = second
        else:
            low = first
    return round(math.exp((low + high) / 2), 4)
