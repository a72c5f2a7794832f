"""State Space Prompting: intra-frame gathering and inter-frame spreading (NeurIPS 2025, arXiv 2510.12160)."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from videossp.ops.attention import self_attention
from videossp.ops.bottleneck import Bottleneck
from videossp.ops.entropy import softmax_entropy
from videossp.ops.linear import Linear
from videossp.tokens import Tokens
from videossp.tuner import Spec, Tuner


class SSP(Tuner):
    """Before each block, adds a low-rank prompt to every patch and refills prompt slots after each frame.

    Args:
        spec: sizes of the backbone. Its layers share all modules; only the gains are per layer.
        prompts: prompt slots after each frame.
        gather_width, gather_kernel: of the gathering bottleneck and its convolution; published 1 x 1 x 1.
        spread_width, heads: width of the temporal attention and its heads, which divide it.
        importance: entropy relative to the largest of the clip, or (published) of all its batch mates.
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
        if importance not in ("clip", "batch") or prompts < 0 or heads < 1 or spread_width % heads:
            raise ValueError("importance is clip or batch, prompts at least 0, heads divide spread_width")
        self.prompts, self.importance = prompts, importance
        self.gather = Bottleneck(spec.d_model, gather_width, gather_kernel)
        self.whole: Linear | None = None  # all of it as one product, once merged
        if prompts:
            # A weighted sum of all places of a frame makes its summary; zero at first.
            self.places = nn.Conv3d(gather_width, gather_width, (1, *spec.grid), groups=gather_width)
            self.summary = nn.Linear(gather_width, spec.d_model)
            nn.init.xavier_normal_(self.summary.weight)
            for weight in (*self.places.parameters(), self.summary.bias):
                weight.data.zero_()
            self.spread = nn.ModuleList(Spread(spec, spread_width, heads) for _ in range(prompts))
            self.gain = nn.Parameter(torch.zeros(spec.depth - 1))

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        if layer == 0 and self.prompts:
            tokens = tokens.insert("ssp", "frame_end", self.prompts)
        patches = tokens.part("patches")
        if self.whole:
            return tokens.write(patches=patches + self.whole(patches))
        prompt, code = self.gather(patches, tokens.layout.grid)
        if layer == 0 or not self.prompts:
            return tokens.write(patches=patches + prompt)
        # The last patch of a frame has seen all of it in the forward scan.
        last = patches[:, :, -1] * (1 + self.gain[layer - 1] * self.frame_weights(prompt)[..., None])
        weighted = code.detach() * self.places.weight.flatten(1).T  # a convolution as large as the frame
        summary = self.summary(weighted.sum(2) + self.places.bias)
        slots = torch.stack([spread(last) * summary for spread in self.spread], dim=2)
        return tokens.write(patches=patches + prompt, ssp=slots)

    def merge(self, weight: Callable[[int, str], Tensor]) -> tuple[Tuner, str]:
        if not self.gather.fold():
            return self, "nothing to fold: the convolution of the gathering mixes patches"
        if self.prompts:
            return self, "gathering: convolution folded; its two products stay, spreading reads between them"
        self.whole = self.gather.one_product()
        return self, "gathering: one product"

    @torch.no_grad()
    def frame_weights(self, prompt: Tensor) -> Tensor:
        """How telling the prompt of each frame is, by its channel entropy: (batch, frames), sum 1."""
        entropy = softmax_entropy(prompt)
        largest = entropy.amax() if self.importance == "batch" else entropy.amax((1, 2), keepdim=True)
        return (1 - entropy / largest.clamp_min(1e-10)).mean(-1).softmax(-1).to(prompt.dtype)


class Spread(nn.Module):
    """Inter-frame spreading: attention over the frames of a clip, (batch, frames, d_model) to the same."""

    def __init__(self, spec: Spec, width: int, heads: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(spec.d_model, width), nn.Linear(width, spec.d_model)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, last: Tensor) -> Tensor:
        return torch.mul(self.scale, self.up(self_attention(self.down(last), self.attention)))
