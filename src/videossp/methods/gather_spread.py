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

    Before block l every patch n of frame t, with x the sum of both streams and n(x) = x / rms(x), gets

        g_tn = A_l n(x_tn)                                                   rank numbers
        z_tn = w_l(-1) g_(t-1)n + w_l(0) g_tn + w_l(1) g_(t+1)n  + s_t       gathering, with taps over time
        x_tn + 0.3 rms(x_tn) B_l z_tn
        s_t  = u_l (f_t - q_t) + v_l (b_t - q_t)                             spreading, element by element

    with q_t the mean of g_tn over the patches of frame t, f_t a leaky mean of q over the frames before t, and
    b_t one over the frames after t (`LeakyContext`). After the last block, cls gets a map of the moments of
    the patches (`MomentMap`).

    As in SSP, a low-rank prompt for each patch gathers, and a message from other frames spreads. Other than
    there, every block has its own maps, the message is added to all patches instead of slots, and the head
    also reads the patches. B_l and the map of the moments start at zero, so training starts at the backbone.

    Args:
        config: sizes of the backbone.
        rank: of the gathering; 36 at VideoMamba-M.
        taps: whether the gathering reads the frames before and after.
        context: whether there is a spreading.
        moments: whether the head reads moments.
        times, order: frequencies of the moments, see `Moments`.
        moment_rank: rank of the map of each moment; 24 at VideoMamba-M.
    """

    scaled = {
        "rank": Scaled(36, multiple_of=4),
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
        taps: bool = True,
        context: bool = True,
        moments: bool = True,
        times: int | None = None,
        order: int = 2,
        moment_rank: int | None = None,
    ) -> None:
        super().__init__()
        rank, times, moment_rank = (
            self.scaled[name].resolve(given, config)
            for name, given in (("rank", rank), ("times", times), ("moment_rank", moment_rank))
        )
        check_size("rank", rank)
        check_size("moment_rank", moment_rank)
        self.depth = config.depth
        self.down = nn.ModuleList(Linear(config.d_model, rank, bias=False) for _ in range(config.depth))
        self.up = nn.ModuleList(Linear(rank, config.d_model, bias=False) for _ in range(config.depth))
        for down, up in zip(self.down, self.up, strict=True):
            nn.init.normal_(down.weight, std=config.d_model**-0.5)  # type: ignore[arg-type]
            nn.init.zeros_(up.weight)  # type: ignore[arg-type]
        self.taps = nn.Parameter(start_taps(rank).repeat(config.depth, 1, 1)) if taps else None
        self.contexts = nn.ModuleList(
            LeakyContext(rank, config.frames) for _ in range(config.depth if context else 0)
        )
        # Without moments, too, so that options that cannot be are refused.
        readout = MomentMap(config, times=times, order=order, rank=moment_rank)
        self.map, self.adds_to_cls = (readout if moments else None), moments

    def layer_of(self, name: str) -> int | None:
        kind, _, rest = name.partition(".")
        return int(rest.split(".")[0]) if kind in ("down", "up", "contexts") else None

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        patches = tokens.part("patches")
        x = (patches + tokens.residual_part("patches")).float()
        prompt = self._prompt(layer, x, self._code(layer, self._gathered(layer, x)))
        return tokens.write(patches=patches + prompt.to(patches.dtype))

    def _gathered(self, layer: int, x: Tensor) -> Tensor:
        """g of patches x (batch, frames, patches, d_model), (batch, frames, patches, rank)."""
        out: Tensor = self.down[layer](F.rms_norm(x, x.shape[-1:], eps=EPS))
        return out

    def _code(self, layer: int, gathered: Tensor) -> Tensor:
        """z of the gathered numbers, in their shape."""
        code = gathered
        if self.taps is not None:
            before, here, after = self.taps[layer]
            padded = F.pad(gathered, (0, 0, 0, 0, 1, 1))
            code = before * padded[:, :-2] + here * gathered + after * padded[:, 2:]
        if self.contexts:
            code = code + self._message(layer, gathered)
        return code

    def _message(self, layer: int, gathered: Tensor) -> Tensor:
        """s of the gathered numbers, (batch, frames, 1, rank)."""
        out: Tensor = self.contexts[layer](gathered.mean(2))[:, :, None]
        return out

    def _prompt(self, layer: int, x: Tensor, code: Tensor) -> Tensor:
        """The prompts of codes (batch, frames, patches or 1, rank), in proportion to the patches x."""
        size = x.square().mean(-1, keepdim=True).sqrt()
        out: Tensor = SCALE * size * self.up[layer](code)
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
        x = patches.float()
        gathered = self._gathered(layer, x)
        length = x.norm(dim=-1).clamp_min(1e-10)
        relative = self._prompt(layer, x, self._code(layer, gathered)).norm(dim=-1) / length
        found = [Quantity("size of the prompt / size of the patch token", relative, "patch")]
        if self.contexts:
            relative = self._prompt(layer, x, self._message(layer, gathered)).norm(dim=-1) / length
            name = "size of the message from other frames / size of the patch token, mean over the frame"
            found.append(Quantity(name, relative.mean(-1), "frame"))
        return found


def start_taps(rank: int) -> Tensor:
    """The first taps (3, rank): half of the numbers read the frame, half the change from frame to frame."""
    taps = torch.zeros(3, rank)
    taps[1, 0::2] = 1.0
    taps[0, 1::2], taps[2, 1::2] = -0.5, 0.5
    return taps
