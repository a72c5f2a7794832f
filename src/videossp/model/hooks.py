"""`Tuner`, the places where a tuning method may speak; `Spec`, what it may know of a backbone."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from videossp.model.tokens import Tokens
from videossp.ops.scan import Scan

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

    def rows(self, target: str) -> tuple[str, int, int]:
        """(op, first, last + 1) of the outputs of a projection, or of a named part of them.

        Parts: in_proj.x and in_proj.z (the gate); x_proj.dt, x_proj.B and x_proj.C.
        """
        op, _, part = target.partition(".")
        out, rank = self.width(op)[1], self.width("dt_proj")[0]
        parts = {
            "in_proj": {"x": (0, self.d_inner), "z": (self.d_inner, out)},
            "x_proj": {
                "dt": (0, rank),
                "B": (rank, rank + self.d_state),
                "C": (rank + self.d_state, out),
            },
        }.get(op.removesuffix("_b"), {})
        if part and part not in parts:
            raise ValueError(f"{op} has no part {part!r}; it has {', '.join(parts) or 'none'}")
        return (op, *(parts[part] if part else (0, out)))

    def last_layers(self, layers: int) -> range:
        """The last `layers` blocks; a ValueError if there are fewer."""
        if not 1 <= layers <= self.depth:
            raise ValueError(
                f"layers must be between 1 and {self.depth}, the blocks of the backbone, got {layers}"
            )
        return range(self.depth - layers, self.depth)

    def prompts(self, *shape: int) -> nn.Parameter:
        """Learnable tokens (*shape, d_model), uniform as in VPT (Jia et al. 2022), by pixels and width."""
        bound = math.sqrt(6 / (3 * self.patch**2 + self.d_model))
        return nn.Parameter(torch.empty(*shape, self.d_model).uniform_(-bound, bound))


def names_of(option: str, given: str | Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    """The names that an option lists: each known and once, else a ValueError that lists those there are."""
    names = (given,) if isinstance(given, str) else tuple(given)
    odd = [name for name in names if name not in known or names.count(name) > 1]
    if odd or not names:
        text = ", ".join(dict.fromkeys(odd)) or "none"
        raise ValueError(f"{option} {text}: name some, each once, of {', '.join(known)}")
    return names


class Tuner(nn.Module):
    """The places where a tuning method may speak; by default it stays silent.

    A method owns its learned weights. What trains is its parameters, the head, and the backbone
    parameters whose names match a glob pattern of `thaw`; exactly that is saved. The keyword
    arguments of a method's constructor, after `spec`, are its options.

    Attributes:
        thaw: patterns of the names of backbone parameters that train as well.
        undecayed: patterns of the names of its own parameters that weight decay spares. It always spares
            parameters of one dimension (biases, norms, gains).
        resizes: the sequence is longer inside the mixer. Such a method comes last in a chain.
        mixes_clips: what is predicted for a clip depends on the others of its batch.
        replaces_cls: the head reads what it makes in place of cls, and of what others before it add to that.
        unfolded: why `merge` has nothing to fold.
        depends_on: what it and the head need of the backbone: "blocks", it works inside them; else what
            comes out of the last one, which is frozen: "tokens", all of them, or "cls" alone.
    """

    thaw: tuple[str, ...] = ()
    undecayed: tuple[str, ...] = ()
    resizes: bool = False
    mixes_clips: bool = False
    replaces_cls: bool = False
    unfolded: str = "it adds nothing to the backbone"
    depends_on: Literal["blocks", "tokens", "cls"] = "blocks"

    def layer_of(self, name: str) -> int | None:
        """The block that a parameter of its own belongs to, for layer decay; None: to several, or to none."""
        return None

    def edit_clip(self, clip: Tensor, memory: dict[str, Any]) -> Tensor:
        """Clip (batch, 3, frames, height, width) that is embedded in place of `clip`.

        What is put into `memory` comes back in `Tokens.memory`.
        """
        return clip

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        """Tokens that block `layer` reads in place of `tokens`."""
        return tokens

    def edit_scan(self, layer: int, op: str, scan: Scan) -> Scan:
        """Arguments of the scan `op` ("scan" or "scan_b", which has `reverse` set) in place of `scan`."""
        return scan

    def edit_output(self, layer: int, op: str, x: Any, y: Tensor) -> Tensor:
        """Output of `op` in place of `y`, which the frozen op made of `x`.

        x is a tensor (batch, length, width); for a scan, a `Scan`; for the mixer, `Tokens` whose residual is
        the sum of both streams and whose hidden is its norm. dt_proj speaks before its bias, which is added
        inside the scan. After the last block op "cls" (layer: the depth) may replace what the head reads: x
        is the same kind of `Tokens`, their hidden the last mixer's output, and y (batch, d_model) their cls.
        """
        return y

    def merge(self, weight: Callable[[int, str], Tensor]) -> "tuple[Tuner, str]":
        """Fold into frozen weights what can be folded exactly.

        Args:
            weight: (layer, op) -> weight of a projection, (features out, features in), to be changed in
                place.

        Returns:
            The tuner that remains, and what was done or why nothing can be.
        """
        return self, f"nothing to fold: {self.unfolded}"


class Chain(Tuner):
    """Several tuners, one after the other.

    Args:
        tuners: by name.

    Raises:
        ValueError: one that resizes the sequence is not the last, or one would be in vain.
    """

    def __init__(self, tuners: Mapping[str, Tuner]) -> None:
        super().__init__()
        early = [name for name in list(tuners)[:-1] if tuners[name].resizes]
        if early:
            raise ValueError(f"{early[0]} makes the sequence longer inside the mixer: name it last")
        adding = ""
        for name, tuner in tuners.items():
            if adding and tuner.replaces_cls:
                raise ValueError(f"{name} replaces cls, to which {adding} adds: name {name} first")
            adding = name if tuner.depends_on == "tokens" else adding
            self.add_module(name, tuner)
        self.names = tuple(tuners)
        self.thaw = tuple(pattern for tuner in tuners.values() for pattern in tuner.thaw)
        self.undecayed = tuple(f"{name}.{x}" for name, tuner in tuners.items() for x in tuner.undecayed)
        self.resizes = any(tuner.resizes for tuner in tuners.values())
        self.mixes_clips = any(tuner.mixes_clips for tuner in tuners.values())
        read = [tuner.depends_on for tuner in tuners.values()]
        self.depends_on = next(x for x in ("blocks", "tokens", "cls") if x in read)

    @property
    def tuners(self) -> list[Tuner]:
        """The members, in order."""
        return [getattr(self, name) for name in self.names]

    def layer_of(self, name: str) -> int | None:
        member, _, rest = name.partition(".")
        layer: int | None = getattr(self, member).layer_of(rest)
        return layer

    def edit_clip(self, clip: Tensor, memory: dict[str, Any]) -> Tensor:
        for tuner in self.tuners:
            clip = tuner.edit_clip(clip, memory)
        return clip

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

    def merge(self, weight: Callable[[int, str], Tensor]) -> tuple[Tuner, str]:
        done = {name: tuner.merge(weight) for name, tuner in zip(self.names, self.tuners, strict=True)}
        return Chain({name: rest for name, (rest, _) in done.items()}), "; ".join(
            f"{name}: {note}" for name, (_, note) in done.items()
        )
