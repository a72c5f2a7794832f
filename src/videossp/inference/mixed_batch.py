"""`mixed_logits`: several adapters of one frozen backbone, each for its own clips, in few passes."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from videossp.methods.chain import Chain
from videossp.model.config import ProjectionName, ScanName
from videossp.model.hooks import Tuner
from videossp.model.tokens import Tokens
from videossp.ops.scan import Scan

if TYPE_CHECKING:
    from videossp.classifier import Classifier

Part = TypeVar("Part", Tensor, Tokens)
MEMORIES = "memories of the rows"  # in `Tokens.memory`: one of each member


def mixed_logits(pairs: "Sequence[tuple[Classifier, Tensor]]", *, together: bool = False) -> list[Tensor]:
    """The logits (batch, classes) of each classifier for its own clips.

    Classifiers of one frozen backbone share its blocks up to the first that a method changes
    (`Tuner.first_block`). A method that reads only the output of the last block shares the whole backbone.
    The same tensor of clips is computed once for several classifiers.

    Args:
        pairs: classifiers on one device, in eval mode, and clips as `Classifier.forward` takes them.
        together: also compute the blocks that methods do change in one pass, where the methods and their
            options are the same. The products then have other shapes: logits differ from those of separate
            calls by rounding errors. Otherwise, with equal clips, they are the same to the digit.
    """
    logits: dict[int, Tensor] = {}
    first = [_first_block(x) for x, _ in pairs]
    groups: dict[object, list[int]] = {}
    for i, (x, _) in enumerate(pairs):
        backbone = (x.sha256, x.precision, x.clip_format.mean, x.clip_format.std)
        shares = first[i] is not None and (together or first[i])
        groups.setdefault(backbone if shares else i, []).append(i)
    for group in groups.values():
        if len(group) == 1:
            classifier, clips = pairs[group[0]]
            logits[group[0]] = classifier(clips)
        else:
            _compute_group([(i, *pairs[i], first[i] or 0) for i in group], together, logits)
    return [logits[i] for i in range(len(pairs))]


Entry = tuple[int, "Classifier", Tensor, int]  # number of the pair, classifier, clips, first block


def _compute_group(entries: list[Entry], together: bool, logits: dict[int, Tensor]) -> None:
    """Add the logits of pairs of one frozen backbone."""
    common = entries[0][1]
    shared = _FrozenBlocks(common, [clips for *_, clips, first in entries if first])
    for first, same in groupby(sorted(entries, key=lambda x: x[3]), key=lambda x: x[3]):
        for run in _runs(list(same), together):
            tuner = ByRows.of([(x.tuner, len(clips)) for _, x, clips, _ in run])
            own = run[0][1].backbone  # also where `common` has an equal one
            with common.computing(common.backbone.cls_token):
                if first:
                    tokens = shared.tokens(first, [clips for _, _, clips, _ in run])
                    tokens = own.run_blocks(tokens, range(first, len(own.layers)), tuner)
                    features = own.feature(tokens, tuner)
                else:
                    features = own(common.normalised(torch.cat([clips for _, _, clips, _ in run])), tuner)
            for _, neighbours in groupby(run, key=lambda entry: id(entry[1])):
                part = list(neighbours)
                counts = [len(clips) for _, _, clips, _ in part]
                mine, features = features.split([sum(counts), len(features) - sum(counts)])
                scores = part[0][1].head(mine).split(counts)
                logits.update(zip((i for i, *_ in part), scores, strict=True))


class _FrozenBlocks:
    """The tokens of clips behind the first blocks of a frozen backbone; the same clips are computed once.

    Args:
        classifier: of this backbone.
        clips: of which tokens will be asked for.
    """

    def __init__(self, classifier: "Classifier", clips: Sequence[Tensor]) -> None:
        self.classifier, self.done = classifier, 0
        unique = list({id(x): x for x in clips}.values())
        ends = list(accumulate(map(len, unique)))
        self.rows = {id(x): slice(end - len(x), end) for x, end in zip(unique, ends, strict=True)}
        if unique:
            with classifier.computing(unique[0]):
                self.all = classifier.backbone.embed(classifier.normalised(torch.cat(unique)))

    def tokens(self, blocks: int, clips: Sequence[Tensor]) -> Tokens:
        """The tokens of some clips behind so many blocks, at least as many as in the calls before."""
        self.all = self.classifier.backbone.run_blocks(self.all, range(self.done, blocks))
        self.done = blocks
        rows = [self.rows[id(x)] for x in clips]
        hidden, residual = (
            torch.cat([x[i] for i in rows]) if len(rows) > 1 else x[rows[0]]
            for x in (self.all.hidden, self.all.residual)
        )
        # A memory of their own: methods keep values there under their own names.
        return replace(self.all, hidden=hidden, residual=residual, memory={})


def _runs(entries: list[Entry], together: bool) -> Iterator[list[Entry]]:
    """The entries that share a pass, from a block that their methods change on."""
    if not together:
        yield from ([x] for x in entries)
        return
    runs: dict[object, list[Entry]] = {}
    for i, x, clips, first in entries:
        key = (x.method, json.dumps(x.options, sort_keys=True)) if _mixable(x.tuner) else id(x)
        runs.setdefault(key, []).append((i, x, clips, first))
    for run in runs.values():
        order = {id(x): n for n, (_, x, _, _) in enumerate(run)}
        yield sorted(run, key=lambda entry: order[id(entry[1])])  # the rows of one classifier are neighbours


def _mixable(tuner: Tuner) -> bool:
    """Whether rows of one batch can belong to several such tuners: A of a scan is the same for all rows."""
    members = tuner.tuners if isinstance(tuner, Chain) else [tuner]
    return all(type(x).edit_scan is Tuner.edit_scan for x in members)


def _first_block(classifier: "Classifier") -> int | None:
    """The first block that a classifier computes in its own way; None if nothing can be shared."""
    own = classifier.merged or classifier.disabled or classifier.tuner.thaw or classifier.tuner.mixes_clips
    return None if own else classifier.tuner.first_block(len(classifier.backbone.layers))


class ByRows(Tuner):
    """Several tuners of one method in a forward pass: each edits its own rows of the batch.

    Args:
        members: tuners of equal options, which do not edit the arguments of scans, and the number of rows of
            each, in the order of the batch.
    """

    def __init__(self, members: Sequence[tuple[Tuner, int]]) -> None:
        super().__init__()
        self.tuners = [tuner for tuner, _ in members]  # in a list: their weights are not those of this one
        self.counts = [count for _, count in members]

    @staticmethod
    def of(members: Sequence[tuple[Tuner, int]]) -> Tuner:
        """The tuner of these rows; neighbours of one tuner are one member."""
        merged: list[tuple[Tuner, int]] = []
        for tuner, count in members:
            if merged and merged[-1][0] is tuner:
                merged[-1] = tuner, merged[-1][1] + count
            else:
                merged.append((tuner, count))
        return merged[0][0] if len(merged) == 1 else ByRows(merged)

    def _tokens(self, tokens: Tokens) -> list[Tokens]:
        memories = tokens.memory.setdefault(MEMORIES, [{} for _ in self.tuners])
        streams = zip(tokens.hidden.split(self.counts), tokens.residual.split(self.counts), strict=True)
        return [
            replace(tokens, hidden=hidden, residual=residual, memory=memory)
            for (hidden, residual), memory in zip(streams, memories, strict=True)
        ]

    def _edited(self, y: Tensor, edit: Callable[[int, Tuner, Tensor], Tensor]) -> Tensor:
        """y with the rows of each tuner edited; y itself if no tuner changes its rows."""
        parts = y.split(self.counts)
        new = [edit(i, tuner, part) for i, (tuner, part) in enumerate(zip(self.tuners, parts, strict=True))]
        return y if all(a is b for a, b in zip(new, parts, strict=True)) else torch.cat(new)

    def edit_clip(self, clip: Tensor, memory: dict[str, Any]) -> Tensor:
        memories: list[dict[str, Any]] = [{} for _ in self.tuners]
        memory[MEMORIES] = memories
        return self._edited(clip, lambda i, tuner, x: tuner.edit_clip(x, memories[i]))

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        parts = self._tokens(tokens)
        new = [tuner.edit_tokens(layer, x) for tuner, x in zip(self.tuners, parts, strict=True)]
        if all(a is b for a, b in zip(new, parts, strict=True)):
            return tokens
        hidden, residual = torch.cat([x.hidden for x in new]), torch.cat([x.residual for x in new])
        return Tokens(hidden, residual, new[0].layout, tokens.memory)

    def edit_projection(self, layer: int, name: ProjectionName, x: Tensor, y: Tensor) -> Tensor:
        inputs = x.split(self.counts)
        return self._edited(y, lambda i, tuner, part: tuner.edit_projection(layer, name, inputs[i], part))

    def edit_scan_output(self, layer: int, name: ScanName, scan: Scan, y: Tensor) -> Tensor:
        if all(type(x).edit_scan_output is Tuner.edit_scan_output for x in self.tuners):
            return y
        per_row = [getattr(scan, x).split(self.counts) for x in ("u", "delta", "B", "C")]
        scans = [replace(scan, u=u, delta=d, B=b, C=c) for u, d, b, c in zip(*per_row, strict=True)]
        return self._edited(y, lambda i, tuner, part: tuner.edit_scan_output(layer, name, scans[i], part))

    def edit_mixer_output(self, layer: int, tokens: Tokens, y: Tensor) -> Tensor:
        parts = self._tokens(tokens)
        return self._edited(y, lambda i, tuner, part: tuner.edit_mixer_output(layer, parts[i], part))

    def edit_cls(self, tokens: Tokens, y: Tensor) -> Tensor:
        parts = self._tokens(tokens)
        return self._edited(y, lambda i, tuner, part: tuner.edit_cls(parts[i], part))
