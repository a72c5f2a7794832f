"""`read_checkpoint`: the tensors of a backbone in a training checkpoint of any layout."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videossp.errors import WeightsError
from videossp.model.published import TUNER, State, grouped
from videossp.model.weights_file import read_weights_file

# Two tensors that every VideoMamba has; no other model has both under these names.
MARKS = ("layers.0.mixer.A_log", "patch_embed.proj.weight")
# Parts of names that DistributedDataParallel, torch.compile, FSDP and others insert anywhere.
WRAPPERS = {
    "_checkpoint_wrapped_module",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_module",
    "_orig_mod",
    "module",
}
PREFERRED = ("model", "module", "state_dict")
AVERAGED = {"averaged", "avg", "ema", "m", "momentum", "swa"}
# Outside the part of the backbone, only these belong to it.
ENDS = ("head.weight", "head.bias", "norm_f.weight")
DEEPEST = 4  # levels of dicts in which tensors are looked for


@dataclass(frozen=True)
class Found:
    """One set of tensors in a checkpoint that looks like a backbone.

    Attributes:
        path: the keys of the dicts that hold it.
        prefix: of the names of its tensors, "" or with a dot at its end.
        nested: longer prefixes of other backbones.
        tensors: of the dict that holds it, without the parts that wrappers insert.
    """

    path: tuple[str, ...]
    prefix: str
    nested: tuple[str, ...]
    tensors: State

    @property
    def label(self) -> str:
        """Its place in the file, in words."""
        return ".".join([*self.path, *self.prefix.split(".")]).rstrip(".") or "the top level"

    @property
    def rank(self) -> tuple[bool, int]:
        """Smaller is better: weights before their moving average, then the published trainers' keys."""
        averaged = not AVERAGED.isdisjoint(re.split(r"[._]", self.label.lower()))
        keys = [PREFERRED.index(x) for x in self.path[:1] if x in PREFERRED]
        return averaged, min(keys, default=len(PREFERRED))

    def owns(self, name: str) -> bool:
        """Whether a tensor is under its prefix, and not under the prefix of a backbone inside it."""
        return name.startswith(self.prefix) and not name.startswith(self.nested)

    def own(self) -> State:
        """Its tensors, without its prefix."""
        return {key.removeprefix(self.prefix): x for key, x in self.tensors.items() if self.owns(key)}


def read_checkpoint(path: str | Path) -> tuple[State, list[str]]:
    """Read the tensors of a backbone, and of its head, from a file; see `unwrap`.

    Raises:
        WeightsError: the file cannot be read or holds no backbone.
    """
    return unwrap(read_weights_file(path), str(path))


def unwrap(content: Any, name: str = "state dict") -> tuple[State, list[str]]:
    """The tensors of the backbone inside a training checkpoint, by their published names.

    They may be nested in dicts under any keys, and their names may have any prefix. If there are several
    backbones, weights are preferred to their moving average.

    Args:
        content: a dict of tensors by name, or of dicts.
        name: of the file, for messages.

    Returns:
        The tensors, and a note on each choice and omission.

    Raises:
        WeightsError: no backbone, or several that are equally good.
    """
    tables = list(_tables(content, ()))
    if not tables:
        keys = list(content)[:5] if isinstance(content, Mapping) else [type(content).__name__]
        raise WeightsError(
            f"{name}: no tensors by name in it, only {', '.join(map(str, keys)) or 'an empty dict'}"
        )
    found: list[Found] = []
    for path, tensors in tables:
        prefixes = _prefixes(tensors)
        for prefix in prefixes:
            nested = tuple(x for x in prefixes if x != prefix and x.startswith(prefix))
            new = Found(path, prefix, nested, tensors)
            if not any(_equal(new.own(), x.own()) for x in found):  # of a model with two names
                found.append(new)
    if not found:
        raise WeightsError(f"{name}: not a VideoMamba checkpoint: {_what_is_missing(tables)}")
    best, *others = sorted(found, key=lambda x: x.rank)
    if others and others[0].rank == best.rank:
        labels = ", ".join(x.label for x in found if x.rank == best.rank)
        raise WeightsError(
            f"{name}: it holds several backbones ({labels}): save the wanted one in a file alone"
        )
    notes = [f"taken: the weights of {best.label}; the checkpoint also has {x.label}" for x in others]
    state, outside = _with_head(best)
    if outside:
        notes.append(f"left out: {grouped(outside)}, not part of the backbone")
    return state, notes


def _tables(content: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], State]]:
    """Each dict of tensors in a checkpoint with the keys that lead to it, without the parts of wrappers."""
    if not isinstance(content, Mapping) or len(path) > DEEPEST:
        return
    items = {key: x for key, x in content.items() if isinstance(key, str)}
    state: State = {}
    for key, x in items.items():
        if isinstance(x, Tensor):
            plain = ".".join(part for part in key.split(".") if part not in WRAPPERS)
            if plain not in state:
                state[plain] = x
            elif not _same(state[plain], x):
                state[key] = x  # no name of a backbone: left out with a note, or an error inside a backbone
    if state:
        yield path, state
    for key, x in items.items():
        yield from _tables(x, (*path, key))


def _prefixes(tensors: State) -> list[str]:
    """The prefixes under which `MARKS` are."""
    mark, other = MARKS
    ends = [key.removesuffix(mark) for key in tensors if key == mark or key.endswith(f".{mark}")]
    return [prefix for prefix in ends if prefix + other in tensors]


def _equal(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.dtype == b.dtype and torch.equal(a, b))


def _what_is_missing(tables: list[tuple[tuple[str, ...], State]]) -> str:
    """The tensor that the largest dict lacks, and the names that it has instead."""
    tensors = max((x for _, x in tables), key=len)
    present = [x for x in MARKS if any(key == x or key.endswith(f".{x}") for key in tensors)]
    lacking = [x for x in MARKS if x not in present] or ["one prefix for all tensors"]
    names = list(tensors)
    more = f", ... ({len(names)} tensors)" if len(names) > 4 else ""
    return f"{' and '.join(lacking)} missing; it has {', '.join(names[:4])}{more}"


def _with_head(found: Found) -> tuple[State, list[str]]:
    """The tensors of a backbone with head, norm and prompts at a shorter prefix; the names of the rest."""
    state, outside = found.own(), []
    parts = found.prefix.split(".")[:-1]
    shorter = [".".join([*parts[:count], ""]) for count in range(len(parts) - 1, -1, -1)]
    for key, x in found.tensors.items():
        if found.owns(key):
            continue
        names = (key.removeprefix(prefix) for prefix in shorter if key.startswith(prefix))
        name = next((x for x in names if x in ENDS or re.match(TUNER, x)), None)
        if name is None or name in state:
            outside.append(key)
        else:
            state[name] = x
    return state, outside
