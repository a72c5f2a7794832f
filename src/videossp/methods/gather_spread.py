"""Gather and spread: SSP's two ideas with other mechanisms, and moments for the head. Not from a paper."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.methods.check_sizes import check_size
from videossp.methods.layers.moments import EPS, SCALE, MomentMap
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Scaled, Tuner
from videossp.model.quantity import Quantity
from videossp.model.tokens import Tokens
from videossp.ops.matmul import Linear


class GatherSpread(Tuner):
    """Gathers within frames, spreads between frames, and lets the head read moments of all patches.

    Before each of the last blocks, every patch n of frame t changes. With x the sum of both streams,
    n(x) = x / rms(x), and own weights A, B, w, u, v in each block:

        g_tn = A n(x_tn)                                      gathering: rank numbers
        z_tn = w(-1) g_(t-1)n + w(0) g_tn + w(1) g_(t+1)n     spreading between neighbours, element by element
        x_tn becomes x_tn + 0.3 rms(x_tn) B z_tn

    After the last block, cls gets a map of the moments of the patches (`MomentMap`).

    As in SSP, a low-rank prompt for each patch gathers, and frames get messages from other frames. Other than
    there, every block has its own maps, a message goes from patch to patch instead of through slots, the head
    also reads the patches, and the first blocks are left alone, which halves the time of a training step. B
    and the map of the moments start at zero, so training starts at the backbone.

    Args:
        config: sizes of the backbone.
        rank: of the gathering; 144 at VideoMamba-M.
        layers: number of the last blocks that have prompts; 8 of 32 at VideoMamba-M.
        taps: whether there is a spreading.
        moments: whether the head reads moments.
        times, order: frequencies of the moments, see `Moments`.
        moment_rank: rank of the map of each moment; 24 at VideoMamba-M.
    """

    scaled = {
        "rank": Scaled(144, multiple_of=4),
        "layers": Scaled(8, by="depth"),
        "times": Scaled(4, by="frames", most=8),
        "moment_rank": Scaled(24, multiple_of=2),
    }
    undecayed = ("taps",)
    not_merged = "its prompts mix frames"

    def __init__(
        self,
        config: VideoMambaConfig,
        *,
        rank: int | None = None,
        layers: int | None = None,
        taps: bool = True,
        moments: bool = True,
        times: int | None = None,
        order: int = 2,
        moment_rank: int | None = None,
    ) -> None:
        super().__init__()
        given = {"rank": rank, "layers": layers, "times": times, "moment_rank": moment_rank}
        rank, layers, times, moment_rank = (self.scaled[x].resolve(given[x], config) for x in given)
        check_size("rank", rank)
        check_size("moment_rank", moment_rank)
        check_size("layers", layers)
        self.depth, self.first = config.depth, config.last_layers(layers).start
        self.down = nn.ModuleList(Linear(config.d_model, rank, bias=False) for _ in range(layers))
        self.up = nn.ModuleList(Linear(rank, config.d_model, bias=False) for _ in range(layers))
        for down, up in zip(self.down, self.up, strict=True):
            nn.init.normal_(down.weight, std=config.d_model**-0.5)  # type: ignore[arg-type]
            nn.init.zeros_(up.weight)  # type: ignore[arg-type]
        self.taps = nn.Parameter(start_taps(rank).repeat(layers, 1, 1)) if taps else None
        # Without moments, too, so that options that cannot be are refused.
        readout = MomentMap(config, times=times, order=order, rank=moment_rank)
        self.map, self.adds_to_cls = (readout if moments else None), moments

    def layer_of(self, name: str) -> int | None:
        kind, _, rest = name.partition(".")
        return self.first + int(rest.split(".")[0]) if kind in ("down", "up") else None

    def first_block(self, depth: int) -> int:
        return self.first

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        i = layer - self.first
        if i < 0:
            return tokens
        patches = tokens.part("patches")
        x = (patches + tokens.residual_part("patches")).float()
        prompt = self._prompt(i, x, self._code(i, self._gathered(i, x)))
        return tokens.write(patches=patches + prompt.to(patches.dtype))

    def _gathered(self, i: int, x: Tensor) -> Tensor:
        """g of patches x (batch, frames, patches, d_model), before the i-th of the changed blocks."""
        out: Tensor = self.down[i](F.rms_norm(x, x.shape[-1:], eps=EPS))
        return out

    def _code(self, i: int, gathered: Tensor) -> Tensor:
        """z of the gathered numbers, in their shape."""
        if self.taps is None:
            return gathered
        return self.taps[i, 1] * gathered + self._message(self.taps[i], gathered)

    def _message(self, taps: Tensor, gathered: Tensor) -> Tensor:
        """The part of z from the frames before and after; there are none beyond the ends of a clip."""
        padded = F.pad(gathered, (0, 0, 0, 0, 1, 1))
        return taps[0] * padded[:, :-2] + taps[2] * padded[:, 2:]

    def _prompt(self, i: int, x: Tensor, code: Tensor) -> Tensor:
        """The prompts of codes (batch, frames, patches, rank), in proportion to the patches x."""
        size = x.square().mean(-1, keepdim=True).sqrt()
        out: Tensor = SCALE * size * self.up[i](code)
        return out

    def edit_cls(self, tokens: Tokens, y: Tensor) -> Tensor:
        if self.map is None:
            return y
        out: Tensor = y + self.map(tokens.part("patches") + tokens.residual_part("patches"), y).to(y.dtype)
        return out

    def quantities(self, layer: int, tokens: Tokens) -> Sequence[Quantity]:
        patches = tokens.part("patches") + tokens.residual_part("patches")
        if layer == self.depth:
            return [] if self.map is None else [self.map.quantity(patches)]
        i = layer - self.first
        if i < 0:
            return []
        x = patches.float()
        gathered = self._gathered(i, x)
        length = x.norm(dim=-1).clamp_min(1e-10)
        relative = self._prompt(i, x, self._code(i, gathered)).norm(dim=-1) / length
        found = [Quantity("size of the prompt / size of the patch token", relative, "patch")]
        if self.taps is not None:
            relative = self._prompt(i, x, self._message(self.taps[i], gathered)).norm(dim=-1) / length
            name = "size of the message from neighbouring frames / size of the patch token"
            found.append(Quantity(name, relative, "patch"))
        return found


def start_taps(rank: int) -> Tensor:
    """The first taps (3, rank): half of the numbers read the frame, half the change from frame to frame."""
    taps = torch.zeros(3, rank)
    taps[1, 0::2] = 1.0
    taps[0, 1::2], taps[2, 1::2] = -0.5, 0.5
    return taps
