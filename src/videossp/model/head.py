"""`Head`: final norm and linear classifier, and its start from a checkpoint's head."""

import torch
from torch import Tensor, nn

from videossp.model.published import Published


class Head(nn.Module):
    """Final norm, dropout and linear classifier of the cls token.

    Attributes:
        temperature: divides the logits, so that probabilities say how often predictions are right, see
            `inference/calibration.py`. It is 1 in a training, and no parameter.

    Raises:
        ValueError: `dropout` is no probability.
    """

    def __init__(self, d_model: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout <= 1:  # nn.Dropout accepts NaN
            raise ValueError(f"dropout must be at least 0 and at most 1, got {dropout}")
        self.norm = nn.RMSNorm(d_model, eps=1e-5)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(d_model, classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)
        self.temperature = 1.0

    def forward(self, cls: Tensor) -> Tensor:
        """(batch, d_model) -> logits (batch, classes)."""
        out: Tensor = self.linear(self.dropout(self.norm(cls)))
        return out if self.temperature == 1 else out / self.temperature


def fill_head(head: Head, published: Published) -> None:
    """Initialise a head from the checkpoint: always the norm; the rows only if the number of classes matches.

    A 710-class head, whose first rows are Kinetics-400, also starts a head of 400 classes. A note is added to
    `published` if the rows start at random.
    """
    classes = head.linear.out_features
    with torch.no_grad():
        if published.norm is not None:
            head.norm.weight.copy_(published.norm)
        if published.head is None:
            return published.notes.append("head: none in the checkpoint; it starts at random")
        rows = published.head["bias"].shape[0]
        if rows != classes and (rows, classes) != (710, 400):
            return published.notes.append(
                f"head: {rows} classes in the checkpoint, {classes} here; it starts at random"
            )
        head.linear.weight.copy_(published.head["weight"][:classes])
        head.linear.bias.copy_(published.head["bias"][:classes])
