"""`Tokens`, the two streams between blocks, and `Layout`, the order of their positions."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Place = Literal["before_cls", "after_cls", "frame_start", "frame_end", "end"]


@dataclass(frozen=True)
class Prompts:
    """A group of positions that a method added.

    Attributes:
        name: of the group, by which the method reads and writes it.
        place: before or after cls; in every frame, before or after its patches; at the end of the sequence.
        count: number of positions; with a place inside frames, per frame.
    """

    name: str
    place: Place
    count: int


@dataclass(frozen=True)
class Layout:
    """Order of the positions in the sequence: cls, then the patches frame by frame and row by row.

    Prompts lie before, between and after them, by their place.

    Attributes:
        frames: number of frames.
        grid: (rows, columns) of patches in a frame.
        prompts: groups of added positions. Groups with the same place lie in this order.
    """

    frames: int
    grid: tuple[int, int]
    prompts: tuple[Prompts, ...] = ()

    @property
    def patches(self) -> int:
        """Patches of one frame."""
        return self.grid[0] * self.grid[1]

    def _groups_at(self, place: Place) -> dict[str, int]:
        return {x.name: x.count for x in self.prompts if x.place == place}

    @cached_property
    def in_frame(self) -> dict[str, int]:
        """Positions of one frame by name, in order."""
        return self._groups_at("frame_start") | {"patches": self.patches} | self._groups_at("frame_end")

    @cached_property
    def outer(self) -> dict[str, int]:
        """Positions of the sequence by name, in order; "frames" is all frames together."""
        before = self._groups_at("before_cls") | {"cls": 1} | self._groups_at("after_cls")
        return before | {"frames": self.frames * sum(self.in_frame.values())} | self._groups_at("end")

    @property
    def length(self) -> int:
        """Length of the sequence."""
        return sum(self.outer.values())

    def add(self, group: Prompts) -> "Layout":
        """The layout with one more group.

        Raises:
            ValueError: the name is taken or the place unknown.
        """
        if group.name in self.in_frame or group.name in self.outer:
            raise ValueError(f"there are positions named {group.name!r} already")
        if group.place not in get_args(Place):
            raise ValueError(f"no place {group.place!r}; there are {', '.join(get_args(Place))}")
        return replace(self, prompts=(*self.prompts, group))


@dataclass(frozen=True)
class Tokens:
    """The two streams between blocks, with the layout of their positions. They are never written in place.

    Attributes:
        hidden: (batch, length, d_model), the output of the last mixer, not yet added to the residual
            (before the first block: the embedded clip).
        residual: (batch, length, d_model) float32, the sum of the outputs before it.
        layout: the order of the positions.
        memory: for methods, to pass values from one hook to a later one within a forward pass.
    """

    hidden: Tensor
    residual: Tensor
    layout: Layout
    memory: dict[str, Any] = field(default_factory=dict)

    def _split(self, x: Tensor) -> dict[str, Tensor]:
        """Views of a stream by name. One split makes them all, so the backward is one concatenation."""
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
        """View of the hidden stream at "cls", "patches" or the prompts of a name.

        Returns:
            (batch, count, d_model), or inside frames (batch, frames, count, d_model).
        """
        return self._hidden[name]

    def residual_part(self, name: str) -> Tensor:
        """The same view of the residual stream."""
        return self._residual[name]

    def write(self, **parts: Tensor) -> "Tokens":
        """The tokens with some parts of the hidden stream replaced, in the shapes of `part`.

        Raises:
            ValueError: there is no such part, or it has another shape.
        """
        for name, x in parts.items():
            if name not in self._hidden or x.shape != self._hidden[name].shape:
                known = ", ".join(f"{key} {tuple(part.shape)}" for key, part in self._hidden.items())
                raise ValueError(f"no part {name} of shape {tuple(x.shape)}; there are {known}")
        return replace(self, hidden=_join(self.layout, self._hidden | parts, self.hidden.dtype))

    def restart(self, **parts: Tensor) -> "Tokens":
        """The tokens with some prompts replaced in both streams, so that the next block reads exactly these.

        The values are written to the residual stream, because stochastic depth drops only the hidden
        stream. The hidden stream is set to zero at these positions. The batch dimension may be left out.
        """
        zeros = {name: torch.zeros_like(self._hidden[name]) for name in parts}
        values = {name: x.expand_as(self._residual[name]) for name, x in parts.items()}
        residual = _join(self.layout, self._residual | values, self.residual.dtype)
        return replace(self.write(**zeros), residual=residual)

    def insert(self, name: str, place: Place, count: int) -> "Tokens":
        """The tokens with a group of prompts added, zero in both streams; see `Prompts`."""
        layout = self.layout.add(Prompts(name, place, count))

        def widen(x: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
            frames = (self.layout.frames,) if place in ("frame_start", "frame_end") else ()
            # Not len(x): torch.export takes that for a constant, and the batch would be of fixed size.
            zeros = x.new_zeros(x.shape[0], *frames, count, x.shape[-1])
            return _join(layout, {**parts, name: zeros}, x.dtype)

        return replace(
            self,
            hidden=widen(self.hidden, self._hidden),
            residual=widen(self.residual, self._residual),
            layout=layout,
        )


def _join(layout: Layout, parts: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
    """The stream (batch, length, d_model) of its parts, in one concatenation."""
    by_frame = [parts[name].to(dtype).unbind(1) for name in layout.in_frame]
    frames = [x for frame in zip(*by_frame, strict=True) for x in frame]
    pieces = [frames if name == "frames" else [parts[name].to(dtype)] for name in layout.outer]
    return torch.cat([x for piece in pieces for x in piece], dim=1)
