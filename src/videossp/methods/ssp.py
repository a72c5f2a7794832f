"""State Space Prompting: intra-frame gathering and inter-frame spreading (NeurIPS 2025, arXiv 2510.12160)."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from videossp.methods.check_sizes import check_kernel, check_size
from videossp.methods.layers.attention import NarrowAttention
from videossp.methods.layers.bottleneck import Bottleneck
from videossp.methods.layers.frame_weights import frame_weights
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Scaled, Tuner
from videossp.model.quantity import Quantity
from videossp.model.tokens import Tokens
from videossp.ops.matmul import Linear


class SSP(Tuner):
    """State Space Prompting (SSP).

    Two modules edit the tokens before each block. All blocks share their weights, except the gains.

    - Gathering, inside a frame, adds to every patch x the low-rank prompt p = W_up conv(W_down x). The
      parameters of the scan that depend on its input (step size, B, C) then depend on x + p.
    - Spreading, between frames, writes `prompts` slots after the patches of each frame. Slot j of frame t is
      a_j(t) * v(t), element by element, with

          s(t)   = token(t) * (1 + gain * w(t))            a patch token of the frame, weighted
          a_j    = scale_j * up_j(attention_j(down_j(s)))  attention over the frames of the clip
          v(t)   = W_v sum_n k_n * code_n(t)               summary of the frame: a sum over its patches n
          code_n = conv(W_down x_n)

      and w(t) of `frame_weights`, from the entropy of the frame's prompts, with sum 1 over the clip. Before
      the first block there is no spreading.

    Prompts and slots start at zero. Slots still occupy positions, so the initial logits are close but not
    equal to the backbone's.

    Args:
        config: sizes of the backbone.
        prompts: slots after each frame; 0 for gathering alone.
        gathering: whether to prompt the patches. Without it, spreading reads the patches in place of prompt
            and code.
        reads: input of the gathering. "branch" is the output of the last mixer (published), "residual" the
            sum of both streams.
        gather_width: rank of the prompts; published: 384 at VideoMamba-M.
        gather_kernel: (time, rows, columns) of the convolution; published: 1 x 1 x 1.
        spread_width: width of the attention; published: 256 at VideoMamba-M.
        heads: of the attention; they divide `spread_width`.
        token: patches that are averaged to the token of a frame. The published choice is the last patch,
            which ends the forward scan over the frame.
        importance: maximum entropy that weighs the frames. It is the maximum over the clip
            ("clip"), over the batch ("batch", published), or log(channels) ("constant"). With "batch", a
            prediction depends on the other clips of its batch.
        detach: no gradient flows from the spreading to the gathering (published).
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
        check_size("prompts", prompts, least=0 if gathering else 1)
        for name, size in (("heads", heads), ("gather_width", gather_width), ("spread_width", spread_width)):
            check_size(name, size)
        check_kernel("gather_kernel", gather_kernel, 3)
        if spread_width % heads:
            raise ValueError(f"heads must divide spread_width {spread_width}, got {heads}")
        # Which patches of a frame, in the order of the scan, are averaged to its token. The slice from the
        # first to the last is not a list of indices, which would be copied to a GPU in every block.
        most = max(1, math.prod(config.grid) - 1)
        frame_tokens = {"last": slice(-1, None), "first+last": slice(None, None, most), "mean": slice(None)}
        if (
            importance not in ("clip", "constant", "batch")
            or reads not in ("branch", "residual")
            or token not in frame_tokens
        ):
            raise ValueError(
                f"token {[*frame_tokens]}, importance clip|constant|batch, reads branch|residual"
            )
        self.prompts, self.reads, self.detach, self.depth = prompts, reads, detach, config.depth
        self.detach_weights = True
        self.importance, self.mixes_clips = importance, importance == "batch"
        self.frame_patches = frame_tokens[token]
        self.gather = Bottleneck(config.d_model, gather_width, gather_kernel) if gathering else None
        self.merged: Linear | None = None  # gathering as one product, after `merge`
        if prompts:
            self._add_spreading(config, gather_width if gathering else config.d_model, spread_width, heads)

    def _add_spreading(self, config: VideoMambaConfig, code_width: int, width: int, heads: int) -> None:
        """Create the weights of the spreading, with the published initial values."""
        # k_n: a depthwise convolution as large as the frame, without padding. It starts at zero,
        # so all slots start at zero.
        self.places = nn.Conv3d(code_width, code_width, (1, *config.grid), groups=code_width)
        self.summary = nn.Linear(code_width, config.d_model)
        nn.init.xavier_normal_(self.summary.weight)
        for weight in (*self.places.parameters(), self.summary.bias):
            weight.data.zero_()
        self.spread = nn.ModuleList(
            NarrowAttention(config.d_model, width, heads) for _ in range(self.prompts)
        )
        self.gain = nn.Parameter(torch.zeros(config.depth - 1))  # of all blocks but the first

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        if layer == 0 and self.prompts:
            tokens = tokens.insert("ssp", "frame_end", self.prompts)
        patches, read = self._patches(tokens)
        if self.merged:
            return tokens.write(patches=patches + self.merged(read))
        prompt, code = self._gathered(read, tokens)
        prompted = patches + prompt if self.gather else patches
        if layer == 0 or not self.prompts:
            return tokens.write(patches=prompted)
        frame_token = self._weighted_token(patches, prompt, self.gain[layer - 1])
        slots = self._slots(frame_token, self._summarise(code))
        return tokens.write(patches=prompted, ssp=slots)

    def _patches(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """The patches, (batch, frames, patches, d_model), and the input of the gathering."""
        patches = tokens.part("patches")
        return patches, patches if self.reads == "branch" else patches + tokens.residual_part("patches")

    def _gathered(self, read: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Prompt and code of the patches; without gathering, the patches themselves."""
        return self.gather(read, tokens.layout.grid) if self.gather else (read, read)

    def _weighted_token(self, patches: Tensor, prompt: Tensor, gain: Tensor) -> Tensor:
        """s: the token of each frame, before it is prompted, (batch, frames, d_model)."""
        token = patches[:, :, self.frame_patches].mean(2)
        weights = frame_weights(prompt, self.importance, detach=self.detach_weights)
        return token * (1 + gain * weights[..., None])

    def _summarise(self, code: Tensor) -> Tensor:
        """v: the summary of each frame, (batch, frames, d_model), of (batch, frames, patches, width)."""
        code = code.detach() if self.detach else code
        # The convolution, which has one output per frame, as a product and a sum.
        bias: Any = self.places.bias
        weighted = code * self.places.weight.flatten(1).T
        summary: Tensor = self.summary(weighted.sum(2) + bias)
        return summary

    def _slots(self, frame_token: Tensor, summary: Tensor) -> Tensor:
        """The slots of each frame, (batch, frames, prompts, d_model)."""
        return torch.stack([spread(frame_token) * summary for spread in self.spread], dim=2)

    def quantities(self, layer: int, tokens: Tokens) -> Sequence[Quantity]:
        if self.merged or layer == self.depth:
            return ()
        patches, read = self._patches(tokens)
        prompt, code = self._gathered(read, tokens)
        found = []
        if self.gather:
            relative = prompt.norm(dim=-1) / patches.norm(dim=-1).clamp_min(1e-10)
            found.append(Quantity("size of the gathered prompt / size of the patch token", relative, "patch"))
        if layer and self.prompts:
            token = self._weighted_token(patches, prompt, self.gain[layer - 1])
            spread: Any = self.spread
            attention = torch.stack([x.weights(token) for x in spread])
            slots = self._slots(token, self._summarise(code)).norm(dim=-1).mean(-1)
            found += [
                Quantity("attention of the spreading between frames", attention.mean(0), "frame_pair"),
                Quantity("frame weight of the spreading", frame_weights(prompt, self.importance), "frame"),
                Quantity("size of the slots of a frame", slots, "frame"),
            ]
        return found

    @contextmanager
    def all_gradients(self) -> Iterator[None]:
        before = self.detach, self.detach_weights
        self.detach = self.detach_weights = False
        try:
            yield
        finally:
            self.detach, self.detach_weights = before

    def merge(self, weight: Callable[[int, str], Tensor]) -> tuple[Tuner, str]:
        if not self.gather or not self.gather.fold():
            return self, "nothing to fold: the convolution of the gathering mixes patches, or there is none"
        if self.prompts:
            return self, "gathering: convolution folded; its two products stay, spreading reads between them"
        self.merged = self.gather.one_product()
        if self.merged:
            return self, "gathering: one product"
        return self, "gathering: convolution folded; one product would be larger than its two"
