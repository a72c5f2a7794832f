"""`SharedBlocks`: several adapters of one backbone; blocks that no method changes are computed once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from videossp.classifier import Classifier


class SharedBlocks:
    """The logits of several classifiers for the same clips, to the digits of each one alone.

    Classifiers of one frozen backbone share its blocks up to the first that one of them changes
    (`Tuner.first_block`). A method that reads only the output of the last block shares the whole backbone.

    Args:
        classifiers: on one device, in eval mode, of one clip format.
    """

    def __init__(self, classifiers: Sequence["Classifier"]) -> None:
        self.classifiers = classifiers
        self.first = [_first_block(x) for x in classifiers]
        groups: dict[object, list[int]] = {}
        for i, x in enumerate(classifiers):
            backbone = (x.sha256, x.precision, x.clip_format.mean, x.clip_format.std)
            groups.setdefault(backbone if self.first[i] else i, []).append(i)
        self.groups = [sorted(group, key=self.first.__getitem__) for group in groups.values()]

    def __call__(self, clips: Tensor) -> list[Tensor]:
        """Logits (batch, classes) of each classifier, of clips as `Classifier.forward` takes them."""
        logits: dict[int, Tensor] = {}
        for group in self.groups:
            if len(group) == 1:
                logits[group[0]] = self.classifiers[group[0]](clips)
                continue
            common, done = self.classifiers[group[0]], 0
            with common.computing(clips):
                tokens = common.backbone.embed(common.normalised(clips))
            for i in group:
                one, first = self.classifiers[i], self.first[i]
                with one.computing(clips):
                    tokens = common.backbone.run_blocks(tokens, range(done, first))
                    done = first
                    rest = range(first, len(one.backbone.layers))
                    # A memory of its own: methods keep values there under their own names.
                    own = one.backbone.run_blocks(replace(tokens, memory={}), rest, one.tuner)
                    feature = one.backbone.feature(own, one.tuner)
                logits[i] = one.head(feature)
        return [logits[i] for i in range(len(self.classifiers))]


def _first_block(classifier: "Classifier") -> int:
    """The first block that a classifier computes in its own way; 0 also if its frozen weights are unknown."""
    own = classifier.merged or classifier.disabled
    return 0 if own else classifier.tuner.first_block(len(classifier.backbone.layers))
