"""State Space Prompting: intra-frame gathering and inter-frame spreading (NeurIPS 2025, arXiv 2510.12160)."""

from typing import Literal

import torch
from torch import Tensor, nn

from videossp.tokens import Tokens
from videossp.tuner import Spec, Tuner


class SSP(Tuner):
    """Adds a low-rank prompt to the patches of each frame and refills prompt slots after each frame.

    All layers share the modules; only the gains are per layer. Reads the hidden stream, before the add.

    Args:
        spec: sizes of the backbone.
        prompts: prompt slots after each frame.
        gather_width: width of the gathering bottleneck.
        gather_kernel: (time, rows, columns) of its depthwise convolution, odd; (1, 1, 1) as published.
        spread_width: width of the temporal attention.
        heads: heads of the temporal attention; divides spread_width.
        importance: a frame's entropy is divided by the largest of its own clip, or ("batch", as
            published) of the whole batch, which makes a prediction depend on its batch mates.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        prompts: int = 3,
        gather_width: int = 384,
        gather_kernel: tuple[int, int, int] = (1, 1, 1),
        spread_width: int = 256,
        heads: int = 8,
        importance: Literal["clip", "batch"] = "clip",
    ) -> None:
        super().__init__()
        if importance not in ("clip", "batch"):
            raise ValueError(f"importance must be clip or batch, got {importance!r}")
        if prompts < 0 or gather_width < 1 or spread_width < 1 or heads < 1 or spread_width % heads:
            raise ValueError("prompts >= 0, widths >= 1 and heads that divide spread_width are needed")
        if len(gather_kernel) != 3 or any(side % 2 == 0 for side in gather_kernel):
            raise ValueError(f"gather_kernel must be three odd numbers, got {gather_kernel}")
        self.prompts, self.importance = prompts, importance
        self.gather = Gather(spec.d_model, gather_width, gather_kernel)
        if prompts:
            self.summary = Summary(spec.d_model, gather_width, spec.grid)
            self.spread = nn.ModuleList(Spread(spec.d_model, spread_width, heads) for _ in range(prompts))
            self.gain = nn.Parameter(torch.zeros(spec.depth - 1))

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        if layer == 0:
            tokens = tokens.add_slots(self.prompts)
        patches = tokens.patches()
        prompt, code = self.gather(patches, tokens.layout.grid)
        if layer == 0 or not self.prompts:
            return tokens.write(patches=patches + prompt)
        # The last patch of a frame has seen all of it in the forward scan.
        last = patches[:, :, -1] * (1 + self.gain[layer - 1] * self.frame_weights(prompt)[..., None])
        summary = self.summary(code.detach())
        slots = torch.stack([spread(last) * summary for spread in self.spread], dim=2)
        return tokens.write(patches=patches + prompt, slots=slots)

    @torch.no_grad()
    def frame_weights(self, prompt: Tensor) -> Tensor:
        """How telling each frame's prompt is, by its channel entropy: (batch, frames), sums to 1 over frames."""
        log_p = prompt.float().log_softmax(-1)
        entropy = -(log_p.exp() * log_p).sum(-1)  # (batch, frames, patches)
        largest = entropy.amax() if self.importance == "batch" else entropy.amax((1, 2), keepdim=True)
        importance = 1 - entropy / largest.clamp_min(torch.finfo(entropy.dtype).tiny)
        return importance.mean(-1).softmax(-1).to(prompt.dtype)


class Gather(nn.Module):
    """Intra-frame gathering: down, depthwise convolution (zero at first), up; one prompt per patch."""

    def __init__(self, d_model: int, width: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(d_model, width), nn.Linear(width, d_model)
        padding = tuple(side // 2 for side in kernel)
        self.conv = nn.Conv3d(width, width, tuple(kernel), padding=padding, groups=width)
        for zero in (self.down.bias, self.up.bias, self.conv.weight, self.conv.bias):
            nn.init.zeros_(zero)

    def forward(self, patches: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """(batch, frames, patches, d_model) -> prompt of this shape, code (batch, frames, patches, width)."""
        volume = self.down(patches).unflatten(2, grid).permute(0, 4, 1, 2, 3)
        code = self.conv(volume).permute(0, 2, 3, 4, 1).flatten(2, 3)
        return self.up(code), code


class Summary(nn.Module):
    """A learned weighting of the whole frame's code, zero at first."""

    def __init__(self, d_model: int, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(grid[0] * grid[1], width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.up = nn.Linear(width, d_model)
        nn.init.xavier_normal_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, code: Tensor) -> Tensor:
        """(batch, frames, patches, width) -> (batch, frames, d_model)."""
        out: Tensor = self.up((code * self.weight).sum(2) + self.bias)
        return out


class Spread(nn.Module):
    """Inter-frame spreading: attention over the frames of a clip makes one prompt per frame."""

    def __init__(self, d_model: int, width: int, heads: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(d_model, width), nn.Linear(width, d_model)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, last: Tensor) -> Tensor:
        """(batch, frames, d_model) -> (batch, frames, d_model)."""
        x = self.down(last)
        out: Tensor = self.scale * self.up(self.attention(x, x, x, need_weights=False)[0])
        return out
