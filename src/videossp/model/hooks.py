"""`Tuner`: the hooks through which a tuning method changes what the frozen backbone computes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from videossp.model.config import BACKBONES, ProjectionName, ScanName, VideoMambaConfig
from videossp.model.quantity import Quantity
from videossp.model.tokens import Tokens
from videossp.ops.scan import Scan


@dataclass(frozen=True)
class Scaled:
    """Default of a size option that grows with the backbone.

    The default is `published`, the size for VideoMamba-M, times the ratio of one size of the backbone to that
    of VideoMamba-M, rounded to the nearest multiple (halves up) and at least one multiple.

    Attributes:
        published: the default at VideoMamba-M.
        by: the size of the backbone that the default is proportional to.
        multiple_of: the default is a multiple of this.
        most: the default is at most this; None: no limit.
    """

    published: int
    by: Literal["d_model", "depth", "d_state", "frames"] = "d_model"
    multiple_of: int = 1
    most: int | None = None

    def resolve(self, given: int | None, config: VideoMambaConfig) -> int:
        """`given`, or if that is None the default at this backbone."""
        if given is not None:
            return given
        here, there = getattr(config, self.by), getattr(BACKBONES["videomamba_middle"], self.by)
        step = self.multiple_of * there
        multiples: int = (2 * self.published * here + step) // (2 * step)
        size = self.multiple_of * max(1, multiples)
        return size if self.most is None else min(size, self.most)


class Tuner(nn.Module):
    """Base class of the tuning methods. Its hooks, the `edit_...` methods, change nothing.

    The backbone calls every hook at its point of the forward pass and continues with the returned value. A
    method overrides the hooks it needs:

    | hook | called | edits |
    | --- | --- | --- |
    | `edit_clip` | once, before patch embedding | pixels |
    | `edit_tokens` | before each block | both token streams, and prompts among the tokens |
    | `edit_projection` | after each projection of a mixer | its output |
    | `edit_scan` | before each selective scan | its arguments: u, delta, A, B, C, ... |
    | `edit_scan_output` | after each selective scan, before the gate | its output |
    | `edit_mixer_output` | after each mixer | its output |
    | `edit_cls` | once, after the last block | the feature that the head reads |

    No hook may write into its arguments in place. Layers count from 0.

    Only the tuner's parameters, the head, and the backbone parameters that `thaw` names are trained. They and
    the tuner's persistent buffers are saved. The keyword arguments of the constructor, after `config`, are
    the method's options.

    Attributes:
        thaw: glob patterns of names of backbone parameters that train as well.
        undecayed: glob patterns of names of the tuner's parameters that weight decay spares. Parameters of
            one dimension (biases, norms, gains) are always spared.
        resizes: the tuner changes the length of the sequence inside the mixer. It must be the last of a
            chain.
        mixes_clips: the prediction for a clip depends on the other clips of its batch.
        replaces_cls: `edit_cls` ignores its `y`, so that earlier changes to it would be lost.
        adds_to_cls: `edit_cls` changes its `y`, which no later member of a chain may replace.
        not_merged: the reason that `merge` gives for folding nothing.
        scaled: {option: default} for options whose default grows with the backbone. The constructor's default
            of such an option is None.
        lr: learning rate to train with by default; None: see `videossp.methods.default_lr`.
        depends_on: the part of the backbone's computation that the method needs. "blocks": it works before or
            inside blocks. "tokens" or "cls": it reads only the output of the last block, all tokens or cls
            alone. These outputs are those of the frozen backbone and can be cached.
    """

    thaw: tuple[str, ...] = ()
    undecayed: tuple[str, ...] = ()
    resizes: bool = False
    mixes_clips: bool = False
    replaces_cls: bool = False
    adds_to_cls: bool = False
    not_merged: str = "it adds nothing to the backbone"
    scaled: Mapping[str, Scaled] = {}
    lr: float | None = None
    depends_on: Literal["blocks", "tokens", "cls"] = "blocks"

    def layer_of(self, name: str) -> int | None:
        """Block that one of the tuner's parameters belongs to.

        Layer-wise learning-rate decay scales the rate of a parameter by the depth of its block.

        Args:
            name: of the parameter, as in `named_parameters()`.

        Returns:
            The layer, from 0. None for a parameter that belongs to several blocks or to none; its rate is not
            scaled.
        """
        return None

    def first_block(self, depth: int) -> int:
        """The first block whose computation the method changes.

        Blocks before it, and the embedding, compute what they compute in the frozen backbone. Several
        adapters of one backbone share them in prediction.

        Args:
            depth: number of blocks of the backbone.

        Returns:
            From 0, if the method may change everything, to `depth`, if it reads the output of the last block.
        """
        return 0 if self.thaw or self.depends_on == "blocks" else depth

    def edit_clip(self, clip: Tensor, memory: dict[str, Any]) -> Tensor:
        """Edit the pixels before they are embedded.

        Args:
            clip: (batch, 3, frames, height, width), normalised.
            memory: empty; entries written here are in `Tokens.memory` for the rest of the forward pass.

        Returns:
            The clip to embed, of the same shape.
        """
        return clip

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        """Edit the tokens before block `layer` reads them.

        `tokens.hidden` is the output of the previous mixer, not yet added to `tokens.residual`.
        """
        return tokens

    def edit_projection(self, layer: int, name: ProjectionName, x: Tensor, y: Tensor) -> Tensor:
        """Edit the output of a frozen projection.

        Args:
            layer: the block.
            name: of the projection. That of dt_proj and dt_proj_b is edited before its bias, which is added
                inside the scan.
            x: (batch, length, features in), the input of the projection.
            y: (batch, length, features out), its output.
        """
        return y

    def edit_scan(self, layer: int, name: ScanName, scan: Scan) -> Scan:
        """Edit the arguments of a selective scan; "scan_b" runs from the end (`scan.reverse`)."""
        return scan

    def edit_scan_output(self, layer: int, name: ScanName, scan: Scan, y: Tensor) -> Tensor:
        """Edit the output y, (batch, length, d_inner), of `scan`, before it is gated."""
        return y

    def edit_mixer_output(self, layer: int, tokens: Tokens, y: Tensor) -> Tensor:
        """Edit the output y, (batch, length, d_model), of a mixer.

        Args:
            layer: the block.
            tokens: `residual` is the sum of both streams, `hidden` its norm, which the mixer read.
            y: the output, which becomes the hidden stream.
        """
        return y

    def edit_cls(self, tokens: Tokens, y: Tensor) -> Tensor:
        """Edit the feature that the head reads.

        Args:
            tokens: after the last block; `hidden` is the last mixer's output.
            y: (batch, d_model), the sum of both streams at cls.
        """
        return y

    def quantities(self, layer: int, tokens: Tokens) -> Sequence[Quantity]:
        """Quantities of the method that `videossp explain --mechanism` draws, averaged over the blocks.

        Args:
            layer: the block, or the number of blocks.
            tokens: as `edit_tokens` takes them before this block; after the last block as `edit_cls` does.
        """
        return ()

    @contextmanager
    def all_gradients(self) -> Iterator[None]:
        """Within this context, gradients are those of the output, without stops and substitutes of training.

        Explanations by gradients need this: they must add up to the change of the output.
        """
        yield

    def merge(self, weight: Callable[[int, str], Tensor]) -> "tuple[Tuner, str]":
        """Fold into the frozen weights all that can be folded exactly.

        Args:
            weight: (layer, projection) -> its weight, (features out, features in), to be changed in place.

        Returns:
            The tuner that remains, and a note: the parts folded, or the reason that nothing was.
        """
        return self, f"nothing to fold: {self.not_merged}"
