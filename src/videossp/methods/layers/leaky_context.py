"""`LeakyContext`: messages between the frames of a clip, through leaky means in both directions."""

import math

import torch
from torch import Tensor, nn


class LeakyContext(nn.Module):
    """u (f_t - q_t) + v (b_t - q_t) for summaries q_t of frames, element by element.

    f is a leaky mean of the frames before, f_t = lam f_(t-1) + (1 - lam) q_(t-1), and b the same of the
    frames after; both are zero at their first frame. lam = sigmoid(theta) is learned for each number. A
    quarter of the numbers start with u = 1/2, another quarter with v = 1/2, the others with u = v = 0.

    Args:
        width: of the summaries.
        frames: of a clip. The memories start between 1 frame and the length of a clip.
    """

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        memory = torch.logspace(0, math.log10(max(frames, 2)), width)  # lam / (1 - lam), in frames
        self.theta = nn.Parameter(memory.log())
        u, v = torch.zeros(width), torch.zeros(width)
        u[2::4], v[3::4] = 0.5, 0.5
        self.u, self.v = nn.Parameter(u), nn.Parameter(v)

    def forward(self, q: Tensor) -> Tensor:
        """(batch, frames, width) to the same shape, float32."""
        q = q.float()
        weights = self.weights(q.shape[1])
        before = torch.einsum("tsw,bsw->btw", weights, q)
        after = torch.einsum("stw,bsw->btw", weights, q)
        return self.u * (before - q) + self.v * (after - q)

    def weights(self, frames: int) -> Tensor:
        """(frames, frames, width): how much frame s, the second, adds to the mean before frame t."""
        lam = torch.sigmoid(self.theta)
        t = torch.arange(frames, device=lam.device)
        gap = (t[:, None] - t - 1)[..., None]
        return torch.where(gap >= 0, lam ** gap.clamp_min(0), 0.0) * (1 - lam)
