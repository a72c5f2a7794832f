"""`Layout` and `Tokens`: which position of the sequence is cls, patch or prompt."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Place = Literal["before_cls", "after_cls", "frame_start", "frame_end", "end"]


@dataclass(frozen=True)
class Prompts:
    """Positions that a method added.

    Attributes:
        name: of the group, its owner's.
        place: before or after cls; in every frame, before or after its patches; at the end of the sequence.
        count: positions, in every frame where the place is one of a frame.
    """

    name: str
    place: Place
    count: int


@dataclass(frozen=True)
class Layout:
    """Order of the sequence: cls, then frame by frame its patches (row by row), with prompts in between.

    Attributes:
        frames: number of frames.
        grid: (rows, columns) of patches in a frame.
        prompts: groups of added positions; of several at one place the first comes first.
    """

    frames: int
    grid: tuple[int, int]
    prompts: tuple[Prompts, ...] = ()

    @property
    def patches(self) -> int:
        """Patches of one frame."""
        return self.grid[0] * self.grid[1]

    def _at(self, place: Place) -> dict[str, int]:
        return {x.name: x.count for x in self.prompts if x.place == place}

    @cached_property
    def in_frame(self) -> dict[str, int]:
        """Positions by name of one frame, in order."""
        return self._at("frame_start") | {"patches": self.patches} | self._at("frame_end")

    @cached_property
    def outer(self) -> dict[str, int]:
        """Positions by name of the whole sequence, in order; "frames" is all frames together."""
        before = self._at("before_cls") | {"cls": 1} | self._at("after_cls")
        return before | {"frames": self.frames * sum(self.in_frame.values())} | self._at("end")

    @property
    def length(self) -> int:
        """Positions in all."""
        return sum(self.outer.values())

    def add(self, group: Prompts) -> "Layout":
        """The layout with one more group; a ValueError if its name is taken or its place unknown."""
        if group.name in self.in_frame or group.name in self.outer:
            raise ValueError(f"there are positions named {group.name!r} already")
        if group.place not in get_args(Place):
            raise ValueError(f"no place {group.place!r}; there are {', '.join(get_args(Place))}")
        return replace(self, prompts=(*self.prompts, group))


@dataclass(frozen=True)
class Tokens:
    """The two streams between blocks, with the layout of their positions. Never written in place.

    Attributes:
        hidden: (batch, length, d_model), the output of the last mixer, not yet added to the residual
            (the embedded clip before the first block).
        residual: (batch, length, d_model) float32, the running sum.
        layout: what stands where.
        memory: what a method keeps from one edit to the next, within one forward pass.
    """

    hidden: Tensor
    residual: Tensor
    layout: Layout
    memory: dict[str, Any] = field(default_factory=dict)

    def _split(self, x: Tensor) -> dict[str, Tensor]:
        """Views by name of one split, whose gradients meet in one concatenation."""
        outer, inner = self.layout.outer, self.layout.in_frame
        parts = dict(zip(outer, x.split(list(outer.values()), dim=1), strict=True))
        frames = parts.pop("frames").unflatten(1, (self.layout.frames, -1))
        return parts | dict(zip(inner, frames.split(list(inner.values()), dim=2), strict=True))

    @cached_property
    def _hidden(self) -> dict[str, Tensor]:
        return self._split(self.hidden)

    @cached_property
    def _residual(self) -> dict[str, Tensor]:
        return self._split(self.residual)

    def part(self, name: str) -> Tensor:
        """Hidden tokens by name, a view: (batch, count, d_model), in frames (batch, frames, count, d_model).

        Names are "cls", "patches" and those of the prompts.
        """
        return self._hidden[name]

    def residual_part(self, name: str) -> Tensor:
        """As `part`, of the residual stream."""
        return self._residual[name]

    def write(self, **parts: Tensor) -> "Tokens":
        """The same tokens with other hidden parts, in the shapes of `part`.

        Raises:
            ValueError: there is no such part, or it has another shape.
        """
        for name, x in parts.items():
            if name not in self._hidden or x.shape != self._hidden[name].shape:
                known = ", ".join(f"{key} {tuple(part.shape)}" for key, part in self._hidden.items())
                raise ValueError(f"no part {name} of shape {tuple(x.shape)}; there are {known}")
        return replace(self, hidden=_join(self.layout, self._hidden | parts, self.hidden.dtype))

    def restart(self, **parts: Tensor) -> "Tokens":
        """The same tokens, but the next block reads exactly these prompts: nothing runs on from blocks
        before.

        They stand in the residual stream, where stochastic depth does not reach them. Shapes may lack the
        batch.
        """
        silent = {name: torch.zeros_like(self._hidden[name]) for name in parts}
        values = {name: x.expand_as(self._residual[name]) for name, x in parts.items()}
        residual = _join(self.layout, self._residual | values, self.residual.dtype)
        return replace(self.write(**silent), residual=residual)

    def insert(self, name: str, place: Place, count: int) -> "Tokens":
        """The same tokens with `count` more positions (in every frame, if there), zero in both streams."""
        layout = self.layout.add(Prompts(name, place, count))

        def widen(x: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
            frames = (self.layout.frames,) if place in ("frame_start", "frame_end") else ()
            zeros = x.new_zeros(len(x), *frames, count, x.shape[-1])
            return _join(layout, {**parts, name: zeros}, x.dtype)

        return replace(
            self,
            hidden=widen(self.hidden, self._hidden),
            residual=widen(self.residual, self._residual),
            layout=layout,
        )


def _join(layout: Layout, parts: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
    """The stream whose parts these are: (batch, length, d_model), in one concatenation."""
    by_frame = [parts[name].to(dtype).unbind(1) for name in layout.in_frame]
    frames = [x for frame in zip(*by_frame, strict=True) for x in frame]
    pieces = [frames if name == "frames" else [parts[name].to(dtype)] for name in layout.outer]
    return torch.cat([x for piece in pieces for x in piece], dim=1)
