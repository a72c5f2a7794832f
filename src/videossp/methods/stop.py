"""STOP: prompts on the pixels, tokens in each frame (Liu et al., CVPR 2025, arXiv 2503.15973)."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.methods.check_sizes import check_kernel, check_size
from videossp.methods.layers.conv3d import SameConv3d
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Tuner
from videossp.model.quantity import Quantity
from videossp.model.tokens import Tokens
from videossp.ops.matmul import Linear

MOST_HEADS = 12  # published


class STOP(Tuner):
    """Draws a prompt onto the pixels, stronger where the clip changes, and puts tokens into each frame.

    - Inside frames: the clip X becomes X + scale * G(X) * (1 + mask). A network of 3-D convolutions draws G;
      the mask is 1 for the patches of a frame that another convolution over time scores highest.
    - Between frames: E is self-attention over the patches of all frames. A network turns the patches of each
      frame of E into `prompts` tokens P, which become scale * P * (1 + w). The weight w of the frame is the
      mean of (1 + mask) * score(E) over the frame, rescaled to [0, 1] within the clip. The same tokens are
      written before every block.

    The published code is for CLIP; this is a port to VideoMamba. It differs in two points. The mask has one
    cell per patch; the published code tiles a 7 x 7 pattern over the frame by a wrong reshape. The network
    that scores the patches is trained; in the published code a hard comparison blocks its gradient.

    Args:
        config: sizes of the backbone.
        prompts: tokens in each frame.
        scale: factor of everything that is added.
        share: fraction of the patches that the mask marks; published: 6 of 49.
        pixel_kernel: side of the convolutions on the clip, odd.
        token_kernel: sides of the convolutions on the tokens over (patches, channels), odd.
        position: of the tokens: before or after the patches of a frame.
        heads: of the attention over all patches; None: the largest number up to the published 12 that divides
            d_model.
        importance: the weights of frames run from 0 to 1 within a clip, or within a batch (published), which
            makes predictions depend on the other clips of a batch.
        drop: dropout in the pixel network.
    """

    not_merged = "it computes pixels and tokens from the clip"

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
        if heads is None:
            heads = max(x for x in range(1, MOST_HEADS + 1) if config.d_model % x == 0)
        check_size("prompts", prompts)
        check_size("heads", heads)
        if not 0 < share < 1 or not 0 <= drop < 1 or config.d_model % heads:
            raise ValueError(f"0 < share < 1, 0 <= drop < 1, heads divide {config.d_model}")
        (pixel_side,) = check_kernel("pixel_kernel", pixel_kernel, 1, odd=True)
        token_sides = check_kernel("token_kernel", token_kernel, 2, odd=True)
        if position not in ("frame_start", "frame_end") or importance not in ("clip", "batch"):
            raise ValueError("position is frame_start or frame_end, importance is clip or batch")
        self.prompts, self.scale, self.position, self.patch = prompts, scale, position, config.patch
        self.importance, self.mixes_clips = importance, importance == "batch"
        patches = math.prod(config.grid)
        self.marked = max(1, round(share * patches))
        self.soft_gradient = True
        self._add_pixel_networks(pixel_side, drop)
        self._add_token_networks(config.d_model, patches, prompts, heads, token_sides)

    def _add_pixel_networks(self, side: int, drop: float) -> None:
        """`draw` and `colour` make the prompt; `pixel_score` and `frame_score` make mask and weights."""
        kernel = (3, side, side)
        self.draw = nn.Sequential(
            SameConv3d(3, 9, kernel),
            SameConv3d(9, 9, kernel),
            nn.PReLU(),
            SameConv3d(9, 9, kernel),
            nn.PReLU(),
            SameConv3d(9, 16, kernel),
            nn.Dropout(drop),
        )
        self.colour = nn.Sequential(
            nn.Linear(16, 16),
            nn.PReLU(),
            nn.Linear(16, 3),
            nn.Dropout(drop),
            nn.Dropout(drop),  # two in a row, as published
        )
        self.pixel_score = SameConv3d(3, 1, (5, side, side))
        self.frame_score = SameConv3d(1, 1, (5, 11, 11))

    def _add_token_networks(
        self, d_model: int, patches: int, prompts: int, heads: int, sides: tuple[int, ...]
    ) -> None:
        """`attention` over all patches, `between` frames, and `tokens`: from patches to prompts."""
        kernel = (3, sides[0], sides[1])
        self.attention = nn.MultiheadAttention(d_model, heads, batch_first=True)
        self.between = nn.Sequential(SameConv3d(1, 9, kernel), nn.PReLU(), SameConv3d(9, 1, kernel))
        self.tokens = nn.Sequential(Linear(patches, 16), nn.PReLU(), Linear(16, prompts))

    def edit_clip(self, clip: Tensor, memory: dict[str, Any]) -> Tensor:
        mask = self._patch_mask(clip)
        memory["stop_mask"] = mask
        rows_columns = [side // self.patch for side in clip.shape[-2:]]
        pixel_mask = mask.unflatten(2, rows_columns)
        pixel_mask = pixel_mask.repeat_interleave(self.patch, -1).repeat_interleave(self.patch, -2)
        drawn = self.colour(self.draw(clip).movedim(1, -1)).movedim(-1, 1)
        out: Tensor = clip + self.scale * drawn * (1 + pixel_mask[:, None])
        return out

    def _patch_mask(self, clip: Tensor) -> Tensor:
        """1 for the patches of each frame with the highest scores, else 0: (batch, frames, patches).

        The gradient is that of sigmoid(score - lowest marked score), so that the scores are trained.
        """
        pixel_scores = self.pixel_score(clip).float().squeeze(1)
        score = F.avg_pool2d(pixel_scores, self.patch).flatten(2)
        best = score.topk(self.marked, dim=-1)
        soft = torch.sigmoid(score - best.values[..., -1:].detach())
        hard = torch.zeros_like(soft).scatter(-1, best.indices, 1.0)
        return hard + soft - soft.detach() if self.soft_gradient else hard

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        if layer == 0:
            patches, mask = tokens.part("patches").float(), tokens.memory["stop_mask"]
            tokens.memory["stop"] = self._frame_tokens(patches, mask)
            tokens = tokens.insert("stop", self.position, self.prompts)
        return tokens.restart(stop=tokens.memory["stop"])

    def _frame_tokens(self, patches: Tensor, mask: Tensor) -> Tensor:
        """Tokens (batch, frames, prompts, d_model) of embedded patches (batch, frames, patches, d_model)."""
        sequence = patches.flatten(1, 2)
        attended = self.attention(sequence, sequence, sequence, need_weights=False)[0].view_as(patches)
        weights = self._frame_weights(attended, mask)
        mixed = self.between(attended[:, None]).squeeze(1)
        tokens = self.tokens(mixed.transpose(2, 3)).transpose(2, 3)
        out: Tensor = self.scale * tokens * (1 + weights[..., None, None])
        return out

    def _frame_weights(self, attended: Tensor, mask: Tensor) -> Tensor:
        """Weights (batch, frames) from 0 to 1, larger for frames with high scores under the mask."""
        score = self.frame_score(attended[:, None]).squeeze(1)
        weights = ((1 + mask[..., None]) * score).mean((2, 3))
        over = (0, 1) if self.importance == "batch" else (1,)
        weights = weights - weights.amin(over, keepdim=True)
        out: Tensor = weights / weights.amax(over, keepdim=True).clamp_min(1e-10)
        return out

    @contextmanager
    def all_gradients(self) -> Iterator[None]:
        # The mask is a step: its gradient is zero wherever it has one.
        before, self.soft_gradient = self.soft_gradient, False
        try:
            yield
        finally:
            self.soft_gradient = before

    def quantities(self, layer: int, tokens: Tokens) -> Sequence[Quantity]:
        if layer:  # the mask is the same in all blocks
            return ()
        return [Quantity("patches that the mask marks", tokens.memory["stop_mask"], "patch")]
