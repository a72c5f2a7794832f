"""`Layout` and `Tokens`: which position of the sequence is cls, patch or slot."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Order of the sequence: cls, then frame by frame its patches (row by row) and its slots.

    Attributes:
        frames: number of frames.
        grid: (rows, columns) of patches in a frame.
        slots: prompt positions after the patches of each frame.
    """

    frames: int
    grid: tuple[int, int]
    slots: int = 0

    @property
    def patches(self) -> int:
        """Patches of one frame."""
        return self.grid[0] * self.grid[1]

    @property
    def length(self) -> int:
        """Positions in all."""
        return 1 + self.frames * (self.patches + self.slots)


@dataclass(frozen=True)
class Tokens:
    """The two streams between blocks, with the layout of their positions. Never written in place.

    Attributes:
        hidden: (batch, length, d_model), the output of the last mixer, not yet added to the residual
            (the embedded clip before the first block).
        residual: (batch, length, d_model) float32, the running sum.
        layout: what stands where.
    """

    hidden: Tensor
    residual: Tensor
    layout: Layout

    @cached_property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden cls, patches and slots: views of one split, whose gradients meet in one concatenation."""
        cls, rest = self.hidden.split([1, self.layout.length - 1], dim=1)
        frames = rest.unflatten(1, (self.layout.frames, -1))
        patches, slots = frames.split([self.layout.patches, self.layout.slots], dim=2)
        return cls, patches, slots

    def patches(self) -> Tensor:
        """Hidden patch tokens, (batch, frames, patches, d_model), a view."""
        return self._parts[1]

    def slots(self) -> Tensor:
        """Hidden prompt slots, (batch, frames, slots, d_model), a view."""
        return self._parts[2]

    def add_slots(self, slots: int) -> "Tokens":
        """The same tokens with `slots` zeros (hidden and residual) after the patches of each frame."""

        def widen(x: Tensor) -> Tensor:
            frames = x[:, 1:].unflatten(1, (self.layout.frames, -1))
            zeros = x.new_zeros(x.shape[0], self.layout.frames, slots, x.shape[2])
            return torch.cat([x[:, :1], torch.cat([frames, zeros], dim=2).flatten(1, 2)], dim=1)

        layout = replace(self.layout, slots=self.layout.slots + slots)
        return Tokens(widen(self.hidden), widen(self.residual), layout)

    def write(self, *, patches: Tensor | None = None, slots: Tensor | None = None) -> "Tokens":
        """The same tokens with other hidden patches and slots, in the shapes of `patches()` and `slots()`."""
        patches = self.patches() if patches is None else patches
        slots = self.slots() if slots is None else slots
        parts = [x.to(self.hidden.dtype).unbind(1) for x in (patches, slots)]  # by frame
        frames = [x for frame in zip(*parts, strict=True) for x in frame]
        return replace(self, hidden=torch.cat([self._parts[0], *frames], dim=1))
