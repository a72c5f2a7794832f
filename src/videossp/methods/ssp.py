"""State Space Prompting: intra-frame gathering and inter-frame spreading (NeurIPS 2025, arXiv 2510.12160)."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from videossp.methods.layers.attention import NarrowAttention
from videossp.methods.layers.bottleneck import Bottleneck
from videossp.methods.layers.frame_weights import frame_weights
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Scaled, Tuner
from videossp.model.tokens import Tokens
from videossp.ops.matmul import Linear

TOKENS: dict[str, Any] = {"last": slice(-1, None), "first+last": [0, -1], "mean": slice(None)}


class SSP(Tuner):
    """Before each block, adds a low-rank prompt to every patch and refills prompt slots after each frame.

    Args:
        config: sizes of the backbone. Its layers share all modules; only the gains are per layer.
        prompts: prompt slots after each frame; 0 is gathering alone.
        gathering: prompt the patches; if not, the spreading reads the patches in place of prompt and code.
        reads: what is gathered from, the branch that enters a block (published) or the residual with it.
        gather_width, gather_kernel: of the gathering bottleneck and its convolution; published 1 x 1 x 1.
        spread_width, heads: width of the temporal attention and its heads, which divide it.
        token: what of a frame is spread: its last patch, which the forward scan took through all of it
            (published), its first and last, or the mean of all.
        importance: entropy relative to the largest of the clip, to the largest there can be ("constant"), or
            (published) to the largest of all its batch mates.
        detach: the spreading does not teach the gathering, as published.
    """

    scaled = {"gather_width": Scaled(384, multiple_of=2), "spread_width": Scaled(256, multiple_of=8)}

    def __init__(
        self,
        config: VideoMambaConfig,
        *,
        prompts: int = 3,
        gathering: bool = True,
        reads: Literal["branch", "residual"] = "branch",
        gather_width: int | None = None,
        gather_kernel: tuple[int, int, int] = (1, 1, 1),
        spread_width: int | None = None,
        heads: int = 8,
        token: Literal["last", "first+last", "mean"] = "last",
        importance: Literal["clip", "constant", "batch"] = "clip",
        detach: bool = True,
    ) -> None:
        super().__init__()
        gather_width = self.scaled["gather_width"].resolve(gather_width, config)
        spread_width = self.scaled["spread_width"].resolve(spread_width, config)
        if prompts < 1 - gathering or min(heads, gather_width, spread_width) < 1 or spread_width % heads:
            raise ValueError("prompts, widths or heads are too few, or heads do not divide spread_width")
        known = importance in ("clip", "constant", "batch") and reads in ("branch", "residual")
        if not known or token not in TOKENS:
            raise ValueError(f"token {[*TOKENS]}, importance clip|constant|batch, reads branch|residual")
        self.prompts, self.importance, self.detach, self.token = prompts, importance, detach, TOKENS[token]
        self.reads, self.mixes_clips = reads, importance == "batch"
        self.gather = Bottleneck(config.d_model, gather_width, gather_kernel) if gathering else None
        self.whole: Linear | None = None  # all of it as one product, once merged
        if prompts:
            # A weighted sum of all places of a frame makes its summary; zero at first.
            width = gather_width if gathering else config.d_model
            self.places = nn.Conv3d(width, width, (1, *config.grid), groups=width)
            self.summary = nn.Linear(width, config.d_model)
            nn.init.xavier_normal_(self.summary.weight)
            for weight in (*self.places.parameters(), self.summary.bias):
                weight.data.zero_()
            made = (NarrowAttention(config.d_model, spread_width, heads) for _ in range(prompts))
            self.spread = nn.ModuleList(made)
            self.gain = nn.Parameter(torch.zeros(config.depth - 1))

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        if layer == 0 and self.prompts:
            tokens = tokens.insert("ssp", "frame_end", self.prompts)
        patches = tokens.part("patches")
        read: Any = patches if self.reads == "branch" else patches + tokens.residual_part("patches")
        if self.whole:
            return tokens.write(patches=patches + self.whole(read))
        prompt, code = self.gather(read, tokens.layout.grid) if self.gather else (read, read)
        prompted = patches + prompt if self.gather else patches
        if layer == 0 or not self.prompts:
            return tokens.write(patches=prompted)
        token = patches[:, :, self.token].mean(2)
        token = token * (1 + self.gain[layer - 1] * frame_weights(prompt, self.importance)[..., None])
        code = code.detach() if self.detach else code
        weighted = code * self.places.weight.flatten(1).T  # a convolution as large as the frame
        summary = self.summary(weighted.sum(2) + self.places.bias)
        slots = torch.stack([spread(token) * summary for spread in self.spread], dim=2)
        return tokens.write(patches=prompted, ssp=slots)

    def merge(self, weight: Callable[[int, str], Tensor]) -> tuple[Tuner, str]:
        if not self.gather or not self.gather.fold():
            return self, "nothing to fold: the convolution of the gathering mixes patches, or there is none"
        if self.prompts:
            return self, "gathering: convolution folded; its two products stay, spreading reads between them"
        self.whole = self.gather.one_product()
        one = "one product" if self.whole else "convolution folded; one product would be larger than its two"
        return self, f"gathering: {one}"
