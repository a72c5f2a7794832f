"""`Tuner`, the three places where a tuning method may speak; `Spec`, what it may know of a backbone."""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from videossp.ops.scan import Scan
from videossp.tokens import Tokens

OPS = (
    "in_proj",
    "x_proj",
    "dt_proj",
    "scan",
    "x_proj_b",
    "dt_proj_b",
    "scan_b",
    "out_proj",
    "mixer",
)


@dataclass(frozen=True)
class Spec:
    """The sizes of a VideoMamba, read off a checkpoint or chosen.

    Attributes:
        depth: blocks.
        d_model: width of a token.
        frames: frames of a clip.
        size: (height, width) of a clip in pixels, multiples of `patch`.
        patch: side of a square patch in pixels.
        d_state: states per channel of the scan.
        d_conv: taps of the causal convolution.
        expand: d_inner / d_model.
        dt_rank: rank of the step-size projection; None for ceil(d_model / 16).
    """

    depth: int
    d_model: int
    frames: int = 8
    size: tuple[int, int] = (224, 224)
    patch: int = 16
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    dt_rank: int | None = None

    def __post_init__(self) -> None:
        if self.dt_rank is None:
            object.__setattr__(self, "dt_rank", math.ceil(self.d_model / 16))
        object.__setattr__(self, "size", tuple(self.size))
        if any(side < self.patch or side % self.patch for side in self.size):
            raise ValueError(f"size {self.size} must be multiples of the patch, {self.patch} pixels")
        for name in ("depth", "d_model", "frames", "d_state", "d_conv", "expand", "dt_rank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def d_inner(self) -> int:
        """Channels of the mixer."""
        return self.expand * self.d_model

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches in a frame."""
        return self.size[0] // self.patch, self.size[1] // self.patch

    def width(self, op: str) -> tuple[int, int]:
        """(input, output) width of an op; a ValueError that lists the ops if there is none of this name."""
        rank: int = self.dt_rank  # type: ignore[assignment]
        widths = {
            "in_proj": (self.d_model, 2 * self.d_inner),
            "x_proj": (self.d_inner, rank + 2 * self.d_state),
            "dt_proj": (rank, self.d_inner),
            "scan": (self.d_inner, self.d_inner),
            "out_proj": (self.d_inner, self.d_model),
            "mixer": (self.d_model, self.d_model),
        }
        if op not in OPS:
            raise ValueError(f"no op {op!r}; there are {', '.join(OPS)}")
        return widths[op.removesuffix("_b")]


class Tuner(nn.Module):
    """The three places where a tuning method may speak; by default it stays silent.

    A method owns its learned weights. What trains is its parameters, the head, and the backbone
    parameters whose names match a glob pattern of `thaw`; exactly that is saved. The keyword
    arguments of a method's constructor, after `spec`, are its options.
    """

    thaw: tuple[str, ...] = ()

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        """Tokens that block `layer` reads in place of `tokens`."""
        return tokens

    def edit_scan(self, layer: int, op: str, scan: Scan) -> Scan:
        """Arguments of the scan `op` ("scan" or "scan_b", which has `reverse` set) in place of `scan`."""
        return scan

    def edit_output(self, layer: int, op: str, x: Any, y: Tensor) -> Tensor:
        """Output of `op` in place of `y`, which the frozen op made of `x` (a tensor; for a scan, a `Scan`).

        dt_proj speaks before its bias, which is added inside the scan.
        """
        return y


class Chain(Tuner):
    """Several tuners, one after the other."""

    def __init__(self, *tuners: Tuner) -> None:
        super().__init__()
        self.tuners: list[Tuner] = list(tuners)
        self.members = nn.ModuleList(tuners)
        self.thaw = tuple(pattern for tuner in tuners for pattern in tuner.thaw)

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        for tuner in self.tuners:
            tokens = tuner.edit_tokens(layer, tokens)
        return tokens

    def edit_scan(self, layer: int, op: str, scan: Scan) -> Scan:
        for tuner in self.tuners:
            scan = tuner.edit_scan(layer, op, scan)
        return scan

    def edit_output(self, layer: int, op: str, x: Any, y: Tensor) -> Tensor:
        for tuner in self.tuners:
            y = tuner.edit_output(layer, op, x, y)
        return y
