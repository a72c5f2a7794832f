"""`Chain`: several methods, one after the other."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from videossp.model.config import ProjectionName, ScanName
from videossp.model.hooks import Tuner
from videossp.model.tokens import Tokens
from videossp.ops.scan import Scan


class Chain(Tuner):
    """Several tuners; each hook passes its value through all of them in order.

    Args:
        tuners: by name.

    Raises:
        ValueError: a tuner that resizes the sequence is not the last, or the effect of one would be lost.
    """

    def __init__(self, tuners: Mapping[str, Tuner]) -> None:
        super().__init__()
        early = [name for name in list(tuners)[:-1] if tuners[name].resizes]
        if early:
            raise ValueError(f"{early[0]} makes the sequence longer inside the mixer: put it last")
        edits_cls = ""
        for name, tuner in tuners.items():
            if edits_cls and tuner.replaces_cls:
                raise ValueError(f"{name} replaces cls, which {edits_cls} adds to: put {name} first")
            edits_cls = name if tuner.adds_to_cls else edits_cls
            self.add_module(name, tuner)
        self.names = tuple(tuners)
        self.thaw = tuple(pattern for tuner in tuners.values() for pattern in tuner.thaw)
        self.undecayed = tuple(f"{name}.{x}" for name, tuner in tuners.items() for x in tuner.undecayed)
        self.resizes = any(tuner.resizes for tuner in tuners.values())
        self.adds_to_cls = any(tuner.adds_to_cls for tuner in tuners.values())
        self.mixes_clips = any(tuner.mixes_clips for tuner in tuners.values())
        depends = [tuner.depends_on for tuner in tuners.values()]
        self.depends_on = next(x for x in ("blocks", "tokens", "cls") if x in depends)

    @property
    def tuners(self) -> list[Tuner]:
        """The members, in order."""
        return [getattr(self, name) for name in self.names]

    def first_block(self, depth: int) -> int:
        return min(tuner.first_block(depth) for tuner in self.tuners)

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

    def edit_projection(self, layer: int, name: ProjectionName, x: Tensor, y: Tensor) -> Tensor:
        for tuner in self.tuners:
            y = tuner.edit_projection(layer, name, x, y)
        return y

    def edit_scan(self, layer: int, name: ScanName, scan: Scan) -> Scan:
        for tuner in self.tuners:
            scan = tuner.edit_scan(layer, name, scan)
        return scan

    def edit_scan_output(self, layer: int, name: ScanName, scan: Scan, y: Tensor) -> Tensor:
        for tuner in self.tuners:
            y = tuner.edit_scan_output(layer, name, scan, y)
        return y

    def edit_mixer_output(self, layer: int, tokens: Tokens, y: Tensor) -> Tensor:
        for tuner in self.tuners:
            y = tuner.edit_mixer_output(layer, tokens, y)
        return y

    def edit_cls(self, tokens: Tokens, y: Tensor) -> Tensor:
        for tuner in self.tuners:
            y = tuner.edit_cls(tokens, y)
        return y

    @contextmanager
    def all_gradients(self) -> Iterator[None]:
        with ExitStack() as stack:
            for tuner in self.tuners:
                stack.enter_context(tuner.all_gradients())
            yield

    def merge(self, weight: Callable[[int, str], Tensor]) -> tuple[Tuner, str]:
        merged = {name: tuner.merge(weight) for name, tuner in zip(self.names, self.tuners, strict=True)}
        rest = Chain({name: tuner for name, (tuner, _) in merged.items()})
        return rest, "; ".join(f"{name}: {note}" for name, (_, note) in merged.items())
