"""Visual Fourier Prompt Tuning: VPT with transformed tokens (Zeng et al., NeurIPS 2024, arXiv 2411.01327)."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from videossp.methods.check_sizes import check_size
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Scaled, Tuner
from videossp.model.tokens import Tokens


class VFPT(Tuner):
    """Writes learned tokens after cls before every block, the first of them Fourier transformed.

    A transformed token is the real part of the FFT; the transform has no parameters.

    Args:
        config: sizes of the backbone.
        length: number of tokens, 80 at VideoMamba-M.
        share: fraction of the tokens that is transformed (alpha), rounded down.
        dimension: the transform is over tokens and channels ("all"), channels ("hidden") or tokens
            ("sequence").
        norm: "backward" (published) does not scale the transform, which makes tokens some hundred times
            larger; "ortho" keeps their size.
    """

    scaled = {"length": Scaled(80)}

    def __init__(
        self,
        config: VideoMambaConfig,
        *,
        length: int | None = None,
        share: float = 0.5,
        dimension: Literal["all", "hidden", "sequence"] = "all",
        norm: Literal["backward", "ortho"] = "backward",
    ) -> None:
        super().__init__()
        length = self.scaled["length"].resolve(length, config)
        dims = {"all": (-2, -1), "hidden": (-1,), "sequence": (-2,)}
        check_size("length", length)
        if not 0 <= share <= 1 or dimension not in dims or norm not in ("backward", "ortho"):
            raise ValueError("0 <= share <= 1, dimension all, hidden or sequence, norm backward or ortho")
        self.transformed, self.dims, self.norm = math.floor(share * length + 1e-9), dims[dimension], norm
        self.prompts = config.prompts(config.depth, length)

    def tokens(self, prompts: Tensor) -> Tensor:
        """Transform learned tokens to those to insert, in float32; both (..., length, d_model)."""
        first, rest = prompts.float().split([self.transformed, prompts.shape[-2] - self.transformed], dim=-2)
        if self.transformed:
            first = torch.fft.fftn(first, dim=self.dims, norm=self.norm).real
        return torch.cat([first, rest], dim=-2)

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        if layer == 0:
            tokens = tokens.insert("vfpt", "after_cls", self.prompts.shape[1])
        return tokens.restart(vfpt=self.tokens(self.prompts[layer]))

    @torch.no_grad()
    def merge(self, weight: Callable[[int, str], Tensor]) -> tuple[Tuner, str]:
        self.prompts.copy_(self.tokens(self.prompts))
        self.transformed = 0
        return self, "the transform is folded into its tokens; they stay in the sequence"
