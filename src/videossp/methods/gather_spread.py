"""Gather and spread: SSP's two ideas with other mechanisms, and moments for the head. Not from a paper."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.methods.check_sizes import check_size
from videossp.methods.layers.leaky_context import LeakyContext
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

        g_tn = A n(x_tn)                                                 rank numbers
        z_tn = w(-1) g_(t-1)n + w(0) g_tn + w(1) g_(t+1)n + s_t          gathering, with taps over time
        s_t  = u (f_t - q_t) + v (b_t - q_t)                             spreading, element by element
        x_tn becomes x_tn + 0.3 rms(x_tn) B z_tn

    where q_t is the mean of g_tn over the patches of frame t, f_t a leaky mean of q over the frames before t,
    and b_t one over the frames after t (`LeakyContext`). After the last block, cls gets a map of the moments
    of the patches (`MomentMap`).

    As in SSP, a low-rank prompt for each patch gathers, and a message from other frames spreads. Other than
    there, every block has its own maps, the message is added to all patches instead of slots, the head also
    reads the patches, and the first blocks are left alone, which halves the time of a backward pass. B and
    the map of the moments start at zero, so training starts at the backbone.

    Args:
        config: sizes of the backbone.
        rank: of the gathering; 144 at VideoMamba-M.
        layers: number of the last blocks that have prompts; 8 of 32 at VideoMamba-M.
        taps: whether the gathering reads the frames before and after.
        context: whether there is a spreading.
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
    undecayed = ("taps", "contexts.*")
    not_merged = "its prompts mix frames"

    def __init__(
        self,
        config: VideoMambaConfig,
        *,
        rank: int | None = None,
        layers: int | None = None,
        taps: bool = True,
        context: bool = True,
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
        self.contexts = nn.ModuleList(
            LeakyContext(rank, config.frames) for _ in range(layers if context else 0)
        )
        # Without moments, too, so that options that cannot be are refused.
        readout = MomentMap(config, times=times, order=order, rank=moment_rank)
        self.map, self.adds_to_cls = (readout if moments else None), moments

    def layer_of(self, name: str) -> int | None:
        kind, _, rest = name.partition(".")
        return self.first + int(rest.split(".")[0]) if kind in ("down", "up", "contexts") else None

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
        code = gathered
        if self.taps is not None:
            before, here, after = self.taps[i]
            padded = F.pad(gathered, (0, 0, 0, 0, 1, 1))
            code = before * padded[:, :-2] + here * gathered + after * padded[:, 2:]
        if self.contexts:
            code = code + self._message(i, gathered)
        return code

    def _message(self, i: int, gathered: Tensor) -> Tensor:
        """s of the gathered numbers, (batch, frames, 1, rank)."""
        out: Tensor = self.contexts[i](gathered.mean(2))[:, :, None]
        return out

    def _prompt(self, i: int, x: Tensor, code: Tensor) -> Tensor:
        """The prompts of codes (batch, frames, patches or 1, rank), in proportion to the patches x."""
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
        if self.contexts:
            relative = self._prompt(i, x, self._message(i, gathered)).norm(dim=-1) / length
            name = "size of the message from other frames / size of the patch token, mean over the frame"
            found.append(Quantity(name, relative.mean(-1), "frame"))
        return found


def start_taps(rank: int) -> Tensor:
    """The first taps (3, rank): half of the numbers read the frame, half the change from frame to frame."""
    taps = torch.zeros(3, rank)
    taps[1, 0::2] = 1.0
    taps[0, 1::2], taps[2, 1::2] = -0.5, 0.5
    return taps
