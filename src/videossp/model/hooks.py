"""`Tuner`, the places where a tuning method may speak; `VideoMambaConfig`, what it may know of a backbone."""

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from videossp.model.tokens import Tokens
from videossp.ops.scan import Scan


class Tuner(nn.Module):
    """The places where a tuning method may speak; by default it stays silent.

    A method owns its learned weights. What trains is its parameters, the head, and the backbone
    parameters whose names match a glob pattern of `thaw`; exactly that is saved. The keyword
    arguments of a method's constructor, after `config`, are its options.

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
