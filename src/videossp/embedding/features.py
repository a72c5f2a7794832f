"""The feature vectors of clips: `cls`, `mean` and `moments`, with their definitions."""

from typing import TYPE_CHECKING, Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from videossp.methods.layers.moments import EPS, cosines
from videossp.model.videomamba import NO_TUNER

if TYPE_CHECKING:
    from videossp.classifier import Classifier

Kind = Literal["cls", "mean", "moments"]
MOMENTS = 4


def features_of(classifier: "Classifier", clips: Tensor, kind: Kind) -> Tensor:
    """The feature vectors of clips, (batch, width) float32, as the tuned model computes them.

    x is the sum of both streams after the last block, and n(x) = x / rms(x) its RMS norm, without weights.

    - "cls", width d_model: what the linear head reads, as `Classifier.features`: cls as the method edits it,
      through the head's final norm.
    - "mean", width d_model: the mean of n(x) over the patches of all frames.
    - "moments", width min(4, frames) * d_model: m_t is the mean of n(x) over the patches of frame t of T.
      Moment k is 1/T * sum over t of phi_k(t) * m_t with phi_0 = 1 and
      phi_k(t) = sqrt(2) cos(pi k (t + 1/2) / T). Moment 0 is "mean"; the others depend on the order of the
      frames. They follow each other in the vector.

    A method that only edits cls after the last block changes "cls" alone.

    Args:
        classifier: in eval mode.
        clips: (batch, 3, frames, height, width), normalised, or uint8.
        kind: of the features.
    """
    if kind == "cls":
        return classifier.features(clips).float()
    tuner = NO_TUNER if classifier.disabled else classifier.tuner
    with classifier.computing(clips):
        tokens = classifier.backbone.encode(classifier.normalised(clips), tuner)
    x = tokens.residual_part("patches").float() + tokens.part("patches").float()
    frames = F.rms_norm(x, x.shape[-1:], eps=EPS).mean(2)  # (batch, frames, d_model)
    if kind == "mean":
        return frames.mean(1)
    basis = cosines(frames.shape[1], min(MOMENTS, frames.shape[1])).to(frames)
    return (basis @ frames / frames.shape[1]).flatten(1)


def check_kind(kind: str) -> None:
    """Raise a ValueError if there are no such features."""
    if kind not in get_args(Kind):
        raise ValueError(f"features are {', '.join(get_args(Kind))}, got {kind!r}")
