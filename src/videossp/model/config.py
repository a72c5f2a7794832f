"""`VideoMambaConfig`: the sizes of a backbone."""

import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import nn

from videossp.system.plain import plain

# Products with a weight in a mixer, and its scans; "_b" marks the backward direction.
ProjectionName = Literal["in_proj", "x_proj", "x_proj_b", "dt_proj", "dt_proj_b", "out_proj"]
ScanName = Literal["scan", "scan_b"]
PROJECTIONS: tuple[ProjectionName, ...] = get_args(ProjectionName)


@dataclass(frozen=True)
class VideoMambaConfig:
    """The sizes of a VideoMamba.

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
        object.__setattr__(self, "size", tuple(map(plain, self.size)))
        for name in ("depth", "d_model", "frames", "patch", "d_state", "d_conv", "expand", "dt_rank"):
            value = plain(getattr(self, name))
            object.__setattr__(self, name, value)
            if name == "dt_rank" and value is None:
                value = math.ceil(self.d_model / 16)
                object.__setattr__(self, name, value)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be at least 1, a whole number, got {value!r}")
        if len(self.size) != 2 or any(
            not isinstance(side, int) or side < self.patch or side % self.patch for side in self.size
        ):
            raise ValueError(
                f"size must be (height, width), multiples of the patch, {self.patch} pixels, got {self.size}"
            )

    @property
    def d_inner(self) -> int:
        """Channels of the mixer."""
        return self.expand * self.d_model

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches in a frame."""
        return self.size[0] // self.patch, self.size[1] // self.patch

    def width(self, projection: str) -> tuple[int, int]:
        """(input, output) width of a projection.

        Raises:
            ValueError: no projection has this name; the message lists the names.
        """
        rank: int = self.dt_rank  # type: ignore[assignment]
        widths = {
            "in_proj": (self.d_model, 2 * self.d_inner),
            "x_proj": (self.d_inner, rank + 2 * self.d_state),
            "dt_proj": (rank, self.d_inner),
            "out_proj": (self.d_inner, self.d_model),
        }
        if projection not in PROJECTIONS:
            raise ValueError(f"no projection {projection!r}; there are {', '.join(PROJECTIONS)}")
        return widths[projection.removesuffix("_b")]

    def rows(self, target: str) -> tuple[ProjectionName, int, int]:
        """Output features of a projection, or of one named part of it: (projection, first, last + 1).

        Parts: in_proj.x and in_proj.z (the gate); x_proj.dt, x_proj.B and x_proj.C.

        Raises:
            ValueError: no such projection or part.
        """
        name, _, part = target.partition(".")
        out, rank = self.width(name)[1], self.width("dt_proj")[0]
        parts = {
            "in_proj": {"x": (0, self.d_inner), "z": (self.d_inner, out)},
            "x_proj": {
                "dt": (0, rank),
                "B": (rank, rank + self.d_state),
                "C": (rank + self.d_state, out),
            },
        }.get(name.removesuffix("_b"), {})
        if part and part not in parts:
            raise ValueError(f"{name} has no part {part!r}; it has {', '.join(parts) or 'none'}")
        first, last = parts[part] if part else (0, out)
        return cast(ProjectionName, name), first, last

    def last_layers(self, layers: int) -> range:
        """The last `layers` blocks.

        Raises:
            ValueError: there are fewer.
        """
        if not 1 <= layers <= self.depth:
            raise ValueError(
                f"layers must be between 1 and {self.depth}, the blocks of the backbone, got {layers}"
            )
        return range(self.depth - layers, self.depth)

    def prompts(self, *shape: int) -> nn.Parameter:
        """Learnable tokens (*shape, d_model), uniform in +-sqrt(6 / (pixels of a patch + d_model)) (VPT)."""
        bound = math.sqrt(6 / (3 * self.patch**2 + self.d_model))
        return nn.Parameter(torch.empty(*shape, self.d_model).uniform_(-bound, bound))


BACKBONES = {
    "videomamba_nano": VideoMambaConfig(depth=8, d_model=192, size=(96, 96), d_state=8),
    "videomamba_tiny": VideoMambaConfig(depth=24, d_model=192),
    "videomamba_small": VideoMambaConfig(depth=24, d_model=384),
    "videomamba_middle": VideoMambaConfig(depth=32, d_model=576),
    "videomamba_base": VideoMambaConfig(depth=24, d_model=768),
}
