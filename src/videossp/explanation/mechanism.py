"""`mechanism`: quantities that a model computes for a clip. They show how it works, not why it decides."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from videossp.errors import OutOfMemoryError
from videossp.explanation.hidden_attention import hidden_attention
from videossp.methods.chain import Chain
from videossp.model.config import ScanName
from videossp.model.device import is_out_of_memory, selected, to_device
from videossp.model.hooks import Tuner
from videossp.model.quantity import Quantity
from videossp.model.tokens import Tokens
from videossp.model.videomamba import NO_TUNER
from videossp.ops.scan import Scan

if TYPE_CHECKING:
    from videossp.classifier import Classifier

HIDDEN_ATTENTION = "hidden attention of cls, chained over the blocks"


class QuantityReader(Tuner):
    """Changes nothing. In front of a method, it collects the quantities of the method.

    Args:
        method: whose quantities are read.
        depth: number of blocks.
    """

    def __init__(self, method: Tuner, depth: int) -> None:
        super().__init__()
        self.read, self.depth = method.quantities, depth
        self.found: list[Quantity] = []

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        self.found += self.read(layer, tokens)
        return tokens

    def edit_cls(self, tokens: Tokens, y: Tensor) -> Tensor:
        self.found += self.read(self.depth, tokens)
        return y

    def averages(self) -> list[Quantity]:
        """The quantities by name, averaged over the blocks."""
        names = dict.fromkeys(x.name for x in self.found)
        found = []
        for name in names:
            same = [x for x in self.found if x.name == name]
            found.append(replace(same[0], values=torch.stack([x.values.float() for x in same]).mean(0)))
        return found


class TokenReader(Tuner):
    """Changes nothing. In front of all methods, it keeps the tokens before they are edited."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: Tokens | None = None

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        self.tokens = tokens
        return tokens


class ScanReader(Tuner):
    """Changes nothing. Behind the methods, it collects scans, and the positions that the methods replace.

    Args:
        before: in front of the methods.
    """

    def __init__(self, before: TokenReader) -> None:
        super().__init__()
        self.read: Callable[[], Tokens | None] = lambda: before.tokens
        self.scans: dict[int, dict[str, Scan]] = {}
        self.kept: list[Tensor] = []
        self.last: Tokens | None = None

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        before = self.read()
        assert before is not None
        old = {x.name for x in before.layout.prompts}
        new = [
            x.name
            for x in tokens.layout.prompts
            if x.name not in old or not torch.equal(before.part(x.name), tokens.part(x.name))
        ]
        self.kept.append(_mask(tokens, new))
        return tokens

    def edit_scan(self, layer: int, name: ScanName, scan: Scan) -> Scan:
        # Without u, D and h0, which the hidden attention does not read: half of the memory.
        u = scan.u.new_ones(()).expand(scan.u.shape)
        self.scans.setdefault(layer, {})[name] = replace(scan, u=u, D=None, h0=None)
        return scan

    def edit_cls(self, tokens: Tokens, y: Tensor) -> Tensor:
        self.last = tokens
        return y

    def attention_of_cls(self) -> Quantity:
        """The hidden attention of cls to the patches."""
        assert self.last is not None
        length, tokens = self.scans[0]["scan"].u.shape[1], self.last
        # A method that makes the sequence longer inside the mixer adds as many positions at both ends.
        extra = (length - tokens.layout.length) // 2
        kept = [F.pad(x, (extra, extra)) for x in self.kept]
        start = F.pad(1 - _mask(tokens, ["cls"]), (extra, extra)).expand(tokens.hidden.shape[0], -1)
        weights = hidden_attention([self.scans[x] for x in sorted(self.scans)], kept, start)
        inside = weights[:, extra : length - extra, None]
        patches = replace(tokens, hidden=inside).part("patches").squeeze(-1)
        return Quantity(HIDDEN_ATTENTION, patches, "patch")


def _mask(tokens: Tokens, names: Sequence[str]) -> Tensor:
    """(length,): 0 at the positions of these names, else 1."""
    ones = tokens.hidden.new_ones(1, tokens.layout.length, 1, dtype=torch.float32)
    marked = replace(tokens, hidden=ones, residual=ones)
    zeros = {name: torch.zeros_like(marked.part(name)) for name in names}
    return marked.write(**zeros).hidden.flatten()


@torch.no_grad()
def mechanism(classifier: "Classifier", clip: Tensor) -> list[Quantity]:
    """Quantities of the method (`Tuner.quantities`) and the hidden attention, for clips.

    The backbone is not changed: tuners that only read form a chain with the method.

    Args:
        classifier: in eval mode.
        clip: (batch, 3, frames, height, width), normalised.

    Raises:
        OutOfMemoryError: the memory of a GPU is too small.

    Returns:
        Quantities on the CPU. Values per patch are (batch, frames, rows, columns).
    """
    tuner = NO_TUNER if classifier.disabled else classifier.tuner
    members: Sequence[Tuner] = tuner.tuners if isinstance(tuner, Chain) else [tuner]
    depth, before = len(classifier.backbone.layers), TokenReader()
    scans, readers = ScanReader(before), [QuantityReader(x, depth) for x in members]
    chain: dict[str, Tuner] = {"before": before}
    for i, (reader, member) in enumerate(zip(readers, members, strict=True)):
        if member.resizes:  # it must be the last of a chain, and edits no argument of a scan
            chain["scans"] = scans
        chain |= {f"reader_{i}": reader, f"member_{i}": member}
    chain.setdefault("scans", scans)
    clip = to_device(clip, classifier.device)
    try:
        with selected(classifier.device), classifier.computing(clip):
            classifier.backbone(clip, Chain(chain))
            found: list[Any] = [x for reader in readers for x in reader.averages()]
            found.append(scans.attention_of_cls())
    except RuntimeError as error:
        if not is_out_of_memory(error, classifier.device):
            raise
        raise OutOfMemoryError(
            f"too little memory on {classifier.device} for the arguments of all scans, which the mechanism "
            "reads: explain without it, or use another --device"
        ) from error
    grid = classifier.backbone.config.grid
    return [
        replace(x, values=(x.values.unflatten(-1, grid) if x.per == "patch" else x.values).cpu())
        for x in found
    ]
