"""Candidates for parts of `gather_spread` that are not in it, see docs/benchmark-notes.md."""

import math
from dataclasses import replace
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.methods.gather_spread import GatherSpread
from videossp.methods.layers.moments import EPS, cosines
from videossp.model.config import ProjectionName, ScanName, VideoMambaConfig
from videossp.model.hooks import Tuner
from videossp.model.tokens import Tokens
from videossp.ops.scan import Scan


class Horizon(Tuner):
    """Learned decay and step size of every channel of both scans: A exp(3 a) and delta_bias + 3 b.

    Args:
        config: sizes of the backbone.
    """

    undecayed = ("decay", "step")

    def __init__(self, config: VideoMambaConfig) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.zeros(2, config.depth, config.d_inner))
        self.step = nn.Parameter(torch.zeros(2, config.depth, config.d_inner))

    def edit_scan(self, layer: int, name: ScanName, scan: Scan) -> Scan:
        i = int(name == "scan_b")
        decay = scan.A * torch.exp(3 * self.decay[i, layer])[:, None]
        return replace(scan, A=decay, delta_bias=scan.delta_bias + 3 * self.step[i, layer])


class GatedLoRA(Tuner):
    """LoRA whose inner numbers a summary of the earlier frames scales: 0.3 B ((1 + G e_t) * A x).

    e_t is the mean of A x over the patches of all frames up to t, minus that of frame t. It changes in_proj
    and out_proj. G starts at zero, B too.

    Args:
        config: sizes of the backbone.
        rank: rows of A.
    """

    def __init__(self, config: VideoMambaConfig, *, rank: int = 6) -> None:
        super().__init__()
        self.frames, self.patches = config.frames, config.grid[0] * config.grid[1]
        self.down, self.up, self.gate = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        for name in ("in_proj", "out_proj"):
            width, out = config.width(name)
            self.down[name] = nn.Parameter(torch.randn(config.depth, rank, width) * width**-0.5)
            self.up[name] = nn.Parameter(torch.zeros(config.depth, out, rank))
            self.gate[name] = nn.Parameter(torch.zeros(config.depth, rank, rank))

    def edit_projection(self, layer: int, name: ProjectionName, x: Tensor, y: Tensor) -> Tensor:
        if name not in self.down:
            return y
        code = F.linear(x.float(), self.down[name][layer])
        patches = code[:, 1:].unflatten(1, (self.frames, self.patches))
        mean = patches.mean(2)
        count = torch.arange(1, self.frames + 1, device=x.device)[:, None]
        gate = F.linear(mean.cumsum(1) / count - mean, self.gate[name][layer])
        gated = (patches * (1 + gate[:, :, None])).flatten(1, 2)
        change = F.linear(torch.cat([code[:, :1], gated], 1), self.up[name][layer])
        return y + 0.3 * change.to(y.dtype)


class Slots(Tuner):
    """Tokens right after cls before every block: low-rank maps of the moments of the patches over time.

    They have a learned size relative to the patches, and replace their predecessors in both streams.

    Args:
        config: sizes of the backbone.
        count: tokens.
        rank: of the maps.
    """

    basis: Tensor

    def __init__(self, config: VideoMambaConfig, *, count: int = 4, rank: int = 16) -> None:
        super().__init__()
        basis = cosines(config.frames, min(count, config.frames)) / config.frames
        self.register_buffer("basis", basis.float(), persistent=False)
        shape = config.depth, len(basis), config.d_model, rank
        self.down = nn.Parameter(torch.randn(config.depth, rank, config.d_model) * config.d_model**-0.5)
        self.up = nn.Parameter(torch.randn(shape) * rank**-0.5)
        self.size = nn.Parameter(torch.full((config.depth,), -2.0))  # logarithm

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        if layer == 0:
            tokens = tokens.insert("slots", "after_cls", self.up.shape[1])
        patches = (tokens.part("patches") + tokens.residual_part("patches")).float()
        width = patches.shape[-1:]
        size = patches.detach().square().mean((1, 2, 3)).sqrt()[:, None, None] * self.size[layer].exp()
        means = F.rms_norm(self.basis @ F.rms_norm(patches, width, eps=EPS).mean(2), width, eps=EPS**2)
        codes = F.linear(means, self.down[layer])
        slots = torch.einsum("bkr,kdr->bkd", codes, self.up[layer])
        return tokens.restart(slots=F.rms_norm(slots, width, eps=EPS**2) * size)


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


class WithContext(GatherSpread):
    """`gather_spread` with a `LeakyContext` of g's means over the frames, added to z of all patches.

    Its options are those of `GatherSpread`.
    """

    undecayed = (*GatherSpread.undecayed, "contexts.*")

    @wraps(GatherSpread.__init__)
    def __init__(self, config: VideoMambaConfig, **options: Any) -> None:
        super().__init__(config, **options)
        self.contexts = nn.ModuleList(LeakyContext(x.out_features, config.frames) for x in self.down)

    def layer_of(self, name: str) -> int | None:
        kind, _, rest = name.partition(".")
        return self.first + int(rest.split(".")[0]) if kind == "contexts" else super().layer_of(name)

    def _code(self, i: int, gathered: Tensor) -> Tensor:
        return super()._code(i, gathered) + self.contexts[i](gathered.mean(2))[:, :, None]


# To be chained with `gather_spread`, and one that replaces it.
PARTS: dict[str, type[Tuner]] = {"horizon": Horizon, "gated_lora": GatedLoRA, "slots": Slots}
METHODS: dict[str, type[Tuner]] = PARTS | {"with_context": WithContext}
