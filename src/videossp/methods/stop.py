"""STOP: prompts on the pixels, tokens in each frame (Liu et al., CVPR 2025, arXiv 2503.15973)."""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.methods.layers.conv3d import SameConv3d
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Tuner
from videossp.model.tokens import Tokens
from videossp.ops.matmul import Linear


class STOP(Tuner):
    """Draws a prompt onto the pixels, stronger where the clip changes, and puts tokens into each frame.

    The published code is for CLIP; this is a port. The cells of its mask are patches (there a 7 x 7 pattern,
    tiled by a slip), and the network that scores them learns (there a hard comparison keeps it random).

    Args:
        config: sizes of the backbone.
        prompts: tokens in each frame, the same before every block.
        scale: of everything added.
        share: of the patches that the mask marks.
        pixel_kernel, token_kernel: odd sides of the convolutions on clip and tokens (patches, channels).
        position: of the tokens, before or after the patches of a frame.
        heads: of the attention over all patches; None: the most, up to the published 12, that d_model allows.
        importance: a frame's weight runs from 0 to 1 within its clip, or (published) its whole batch.
        drop: in the pixel network, while training.
    """

    not_merged = "it makes pixels and tokens from the clip"

    def __init__(
        self,
        config: VideoMambaConfig,
        *,
        prompts: int = 4,
        scale: float = 0.05,
        share: float = 6 / 49,
        pixel_kernel: int = 11,
        token_kernel: tuple[int, int] = (15, 25),
        position: Literal["frame_start", "frame_end"] = "frame_start",
        heads: int | None = None,
        importance: Literal["clip", "batch"] = "clip",
        drop: float = 0.5,
    ) -> None:
        super().__init__()
        heads = heads or max(x for x in range(1, 13) if config.d_model % x == 0)
        if prompts < 1 or not 0 < share < 1 or not 0 <= drop < 1 or heads < 1 or config.d_model % heads:
            raise ValueError(f"prompts >= 1, 0 < share < 1, 0 <= drop < 1, heads divide {config.d_model}")
        if not all(side > 0 and side % 2 for side in (pixel_kernel, *token_kernel)):
            raise ValueError(f"sides of kernels are odd and > 0, got {pixel_kernel} and {token_kernel}")
        if position not in ("frame_start", "frame_end") or importance not in ("clip", "batch"):
            raise ValueError("position is frame_start or frame_end, importance is clip or batch")
        self.count, self.scale, self.place, self.patch = prompts, scale, position, config.patch
        self.mixes_clips, patches = importance == "batch", math.prod(config.grid)
        self.dims = (0, 1) if self.mixes_clips else (1,)
        self.marked = max(1, round(share * patches))
        conv, act, big, wide = SameConv3d, nn.PReLU, (3, pixel_kernel, pixel_kernel), (3, *token_kernel)
        first = conv(3, 9, big), conv(9, 9, big), act()
        self.draw = nn.Sequential(*first, conv(9, 9, big), act(), conv(9, 16, big), nn.Dropout(drop))
        drops = nn.Dropout(drop), nn.Dropout(drop)  # two in a row, as published
        self.colour = nn.Sequential(nn.Linear(16, 16), act(), nn.Linear(16, 3), *drops)
        self.pixel_score, self.frame_score = conv(3, 1, (5, *big[1:])), conv(1, 1, (5, 11, 11))
        self.attention = nn.MultiheadAttention(config.d_model, heads, batch_first=True)
        self.between = nn.Sequential(conv(1, 9, wide), act(), conv(9, 1, wide))
        self.tokens = nn.Sequential(Linear(patches, 16), nn.PReLU(), Linear(16, prompts))

    def edit_clip(self, clip: Tensor, memory: dict[str, Any]) -> Tensor:
        scores = self.pixel_score(clip).float().squeeze(1)
        score = F.avg_pool2d(scores, self.patch).flatten(2)
        best = score.topk(self.marked, dim=-1)
        soft = torch.sigmoid(score - best.values[..., -1:].detach())
        mask = torch.zeros_like(soft).scatter(-1, best.indices, 1.0)
        mask = mask + soft - soft.detach()  # hard forward, soft backward
        memory["stop_mask"] = mask  # (batch, frames, patches)
        grown = mask.unflatten(2, [side // self.patch for side in clip.shape[-2:]])
        grown = grown.repeat_interleave(self.patch, -1).repeat_interleave(self.patch, -2)[:, None]
        drawn = self.colour(self.draw(clip).movedim(1, -1)).movedim(-1, 1)
        return clip + self.scale * drawn * (1 + grown)  # type: ignore[no-any-return]

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        if layer == 0:
            tokens.memory["stop"] = self.make(tokens.part("patches").float(), tokens.memory["stop_mask"])
            tokens = tokens.insert("stop", self.place, self.count)
        return tokens.restart(stop=tokens.memory["stop"])

    def make(self, patches: Tensor, mask: Tensor) -> Tensor:
        """Tokens (batch, frames, prompts, d_model) of embedded patches (batch, frames, patches, d_model)."""
        flat = patches.flatten(1, 2)
        seen = self.attention(flat, flat, flat, need_weights=False)[0].view_as(patches)
        weight = ((1 + mask[..., None]) * self.frame_score(seen[:, None]).squeeze(1)).mean((2, 3))
        weight = weight - weight.amin(self.dims, keepdim=True)
        weight = weight / weight.amax(self.dims, keepdim=True).clamp_min(1e-10)
        made = self.tokens(self.between(seen[:, None]).squeeze(1).transpose(2, 3)).transpose(2, 3)
        return self.scale * made * (1 + weight[..., None, None])  # type: ignore[no-any-return]
