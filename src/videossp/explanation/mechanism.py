"""`mechanism`: quantities that a model computes for a clip. They show how it works, not why it decides."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from videossp.explanation.hidden_attention import hidden_attention
from videossp.methods.chain import Chain
from videossp.model.config import ScanName
from videossp.model.device import selected, to_device
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


class ScanReader(Tuner):
    """Changes nothing. It collects the arguments of the scans and the last layout of the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.scans: dict[int, dict[str, Scan]] = {}
        self.last: Tokens | None = None

    def edit_scan(self, layer: int, name: ScanName, scan: Scan) -> Scan:
        self.scans.setdefault(layer, {})[name] = scan
        return scan

    def edit_cls(self, tokens: Tokens, y: Tensor) -> Tensor:
        self.last = tokens
        return y

    def attention_of_cls(self) -> Quantity:
        """The hidden attention of cls to the patches."""
        assert self.last is not None
        length, tokens = self.scans[0]["scan"].u.shape[1], self.last
        positions = torch.arange(tokens.layout.length, device=tokens.hidden.device)
        # A method that makes the sequence longer inside the mixer adds the same number at both ends.
        extra = (length - tokens.layout.length) // 2
        cls = replace(tokens, hidden=positions[None, :, None].float()).part("cls")[0, 0, 0].long() + extra
        start = tokens.hidden.new_zeros(tokens.hidden.shape[0], length, dtype=torch.float32)
        start[:, cls] = 1
        weights = hidden_attention([self.scans[x] for x in sorted(self.scans)], start)
        inside = weights[:, extra : length - extra, None]
        patches = replace(tokens, hidden=inside).part("patches").squeeze(-1)
        return Quantity(HIDDEN_ATTENTION, patches, "patch")


@torch.no_grad()
def mechanism(classifier: "Classifier", clip: Tensor) -> list[Quantity]:
    """Quantities of the method (`Tuner.quantities`) and the hidden attention, for clips.

    The backbone is not changed: readers that edit nothing stand in a chain with the method.

    Args:
        classifier: in eval mode.
        clip: (batch, 3, frames, height, width), normalised.

    Returns:
        Quantities on the CPU. Values per patch are (batch, frames, rows, columns).
    """
    tuner = NO_TUNER if classifier.disabled else classifier.tuner
    members: Sequence[Tuner] = tuner.tuners if isinstance(tuner, Chain) else [tuner]
    depth, scans = len(classifier.backbone.layers), ScanReader()
    readers = [QuantityReader(x, depth) for x in members]
    chain: dict[str, Tuner] = {}
    for i, (reader, member) in enumerate(zip(readers, members, strict=True)):
        if member.resizes:  # it must be the last of a chain, and edits no argument of a scan
            chain["scans"] = scans
        chain |= {f"reader_{i}": reader, f"member_{i}": member}
    chain.setdefault("scans", scans)
    device = classifier.device
    with selected(device), classifier.computing(to_device(clip, device)):
        observed = Chain(chain)
        classifier.backbone(to_device(clip, device), observed)
        found: list[Any] = [x for reader in readers for x in reader.averages()]
        found.append(scans.attention_of_cls())
    grid = classifier.backbone.config.grid
    return [
        replace(x, values=(x.values.unflatten(-1, grid) if x.per == "patch" else x.values).cpu())
        for x in found
    ]
