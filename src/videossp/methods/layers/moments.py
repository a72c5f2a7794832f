"""Moments of the patch tokens over time and space, and their map to the feature of the head."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.methods.check_sizes import check_size
from videossp.model.config import VideoMambaConfig
from videossp.model.quantity import Quantity

EPS = 1e-5  # of the norms, as in the head
SCALE = 0.3  # of the map, so that it learns well at the rates that suit low-rank changes of the blocks


def cosines(positions: int, count: int) -> Tensor:
    """phi_k(t), an orthonormal basis of functions of a position: the discrete cosine transform.

    phi_0 = 1 and phi_k(t) = sqrt(2) cos(pi k (t + 1/2) / positions).

    Args:
        positions: t = 0 ... positions - 1.
        count: k = 0 ... count - 1.

    Returns:
        (count, positions) float64.
    """
    k = torch.arange(count, dtype=torch.float64)[:, None]
    t = torch.arange(positions, dtype=torch.float64)
    return torch.where(k == 0, 1.0, math.sqrt(2)) * torch.cos(math.pi * k * (t + 0.5) / positions)


def frame_basis(grid: tuple[int, int], order: int) -> Tensor:
    """phi_i(row) phi_j(column) of the patches of a frame, for all i + j <= order that the grid has.

    Returns:
        (functions, patches) float64; the first function is 1.
    """
    rows, columns = (cosines(side, min(side, order + 1)) for side in grid)
    pairs = [
        torch.outer(row, column).flatten()
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
        if i + j <= order
    ]
    return torch.stack(pairs)


class MomentMap(nn.Module):
    """A low-rank linear map of the moments of patch tokens. Starts at zero.

    n(x) = x / rms(x) normalises a vector. The moment of order (k, i, j) is

        c_kij = n( mean over frames t, rows y, columns x of phi_k(t) phi_i(y) phi_j(x) n(token(t, y, x)) )

    and the result is 0.3 rho * sum over k, i, j of U_kij E c_kij, with rho the rms of a reference. The moment
    (0, 0, 0) is the mean over the clip. Those with k > 0 depend on the order of the frames, those with
    i + j > 0 on the places in the frame: (1, 0, 1) is large for a feature that moves sideways.

    Args:
        config: sizes of the backbone.
        times: k = 0 ... times - 1.
        order: largest i + j.
        rank: rows of E.

    Raises:
        ValueError: `times` or `order` is too small, or a clip has fewer frames than `times`.
    """

    time: Tensor
    space: Tensor

    def __init__(self, config: VideoMambaConfig, *, times: int, order: int, rank: int) -> None:
        super().__init__()
        check_size("times", times)
        check_size("order", order, least=0)
        if times > config.frames:
            raise ValueError(f"times must be at most {config.frames}, the frames of a clip, got {times}")
        d_model = config.d_model
        time = cosines(config.frames, times) / config.frames
        space = frame_basis(config.grid, order) / math.prod(config.grid)
        self.register_buffer("time", time.float(), persistent=False)
        self.register_buffer("space", space.float(), persistent=False)
        self.down = nn.Parameter(torch.empty(rank, d_model))  # E
        self.up = nn.Parameter(torch.zeros(len(time) * len(space), d_model, rank))  # U
        nn.init.normal_(self.down, std=d_model**-0.5)

    def moments(self, patches: Tensor) -> Tensor:
        """c of patches (batch, frames, patches, d_model), (batch, moments, d_model) float32; k is slowest."""
        return F.rms_norm(self._raw(self._tokens(patches)), patches.shape[-1:], eps=EPS**2)

    @staticmethod
    def _tokens(patches: Tensor) -> Tensor:
        return F.rms_norm(patches.float(), patches.shape[-1:], eps=EPS)

    def _raw(self, tokens: Tensor) -> Tensor:
        """The moments before their norm."""
        return torch.einsum("kt,btsd->bksd", self.time, self.space @ tokens).flatten(1, 2)

    def forward(self, patches: Tensor, reference: Tensor) -> Tensor:
        """The result of patches (batch, frames, patches, d_model), (batch, d_model) float32.

        Args:
            patches: both streams added.
            reference: (batch, d_model), whose rms gives the size of the result.
        """
        codes = self.moments(patches) @ self.down.T
        change = codes.flatten(1) @ self.up.transpose(1, 2).flatten(0, 1)
        size = reference.float().square().mean(-1, keepdim=True).sqrt()
        out: Tensor = SCALE * size * change
        return out

    def shares(self, patches: Tensor) -> Tensor:
        """Size of the part that each patch contributes to the result, over that of the reference.

        The norms of the moments are held fixed; the parts then add up to the result.

        Returns:
            (batch, frames, patches).
        """
        tokens = self._tokens(patches)
        scale = (self._raw(tokens).square().mean(-1) + EPS**2).rsqrt()  # (batch, moments)
        weight = torch.einsum("kt,sn->kstn", self.time, self.space).flatten(0, 1)
        up = torch.einsum("bm,mtn,mdr->btndr", scale, weight, self.up)
        parts = (up @ (tokens @ self.down.T)[..., None]).squeeze(-1)
        out: Tensor = SCALE * parts.norm(dim=-1) / math.sqrt(patches.shape[-1])
        return out

    def quantity(self, patches: Tensor) -> Quantity:
        """`shares`, for the pictures of `videossp explain --mechanism true`."""
        name = "size of the part that a patch adds to cls by its moments / size of cls"
        return Quantity(name, self.shares(patches), "patch")
