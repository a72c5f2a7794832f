"""`Contents`: the tensors that an adapter holds, and whether all others are as they were made."""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from videossp.model.head import Head

PARTS = ("tuner", "head", "backbone")
COMPILED = "_orig_mod"  # the name that torch.compile gives to a module inside its wrapper


class Contents:
    """What the adapter of a classifier holds. The method decides it when the classifier is made.

    The adapter holds all tensors of tuner and head, and the backbone parameters that the method trains. All
    other tensors of the backbone come from its source again, so they must not change. Whether a parameter
    requires a gradient plays no part: a user may freeze a trained classifier.

    A checksum per frozen tensor reads VideoMamba-M in 0.12 s (74 million weights, 2 cores).

    Args:
        parts: the modules "tuner", "head" and "backbone".
        trained: names of the backbone parameters that the method trains.
    """

    def __init__(self, parts: Mapping[str, nn.Module], trained: Iterable[str]) -> None:
        self.trained = {f"backbone.{name}" for name in trained}
        tensors = tensors_of(parts)
        self.held = {name: _form(x) for name, x in tensors.items() if self._holds(name)}
        # Without these an adapter is incomplete. Buffers may be missing: older versions did not save them.
        self.learned = {name for name in self.held if tensors[name].requires_grad} | self.trained
        self.frozen = {name: _state(x) for name, x in tensors.items() if not self._holds(name)}
        self.modules = _modules(parts["tuner"])

    def _holds(self, name: str) -> bool:
        return not name.startswith("backbone.") or name in self.trained

    def unchanged(self, parts: Mapping[str, nn.Module]) -> list[str]:
        """Names of the frozen tensors that have the dtype and the values that were recorded."""
        tensors = tensors_of(parts)
        return [
            name for name, state in self.frozen.items() if name in tensors and _state(tensors[name]) == state
        ]

    def record(self, parts: Mapping[str, nn.Module], names: Iterable[str]) -> None:
        """Record the present dtype and values of frozen tensors, after an intended change."""
        tensors = tensors_of(parts)
        self.frozen |= {name: _state(tensors[name]) for name in names}

    def collect(self, parts: Mapping[str, nn.Module], classes: int, method: str) -> dict[str, Tensor]:
        """The tensors to save, by name.

        Args:
            parts: as in the constructor.
            classes: number of classes.
            method: its name, for messages.

        Raises:
            ValueError: a classifier that is loaded with these tensors would differ; names the first tensor
                that is the reason.
        """
        tensors = tensors_of(parts)
        held = {name: x for name, x in tensors.items() if self._holds(name)}
        self._check_held(parts, held, classes)
        for name, x in tensors.items():
            if name not in held and x.requires_grad:
                raise ValueError(
                    f"{name} requires a gradient, but {method} does not train it, so the adapter would not "
                    "hold it: call requires_grad_(False) on it, or use a method that trains it (full)"
                )
        self._check_frozen({name: x for name, x in tensors.items() if name not in held}, method)
        for name, x in held.items():
            if np.isnan(_values(x)).any():
                raise ValueError(f"{name} contains NaN: the classifier cannot predict, so it is not saved")
        return held

    def _check_held(self, parts: Mapping[str, nn.Module], held: Mapping[str, Tensor], classes: int) -> None:
        with torch.device("meta"):
            head = Head(self.held["head.norm.weight"][0][0], classes)
        expected = {name: form for name, form in self.held.items() if not name.startswith("head.")}
        expected |= {f"head.{name}": _form(x) for name, x in head.named_parameters()}
        for name in sorted(expected.keys() | held.keys()):
            if name not in held:
                raise ValueError(f"{name} is gone: an adapter of these classes and this method holds it")
            if name not in expected:
                raise ValueError(f"{name} was added to the classifier: its adapter could not be loaded again")
            (shape, dtype), (shape_there, dtype_there) = _form(held[name]), expected[name]
            if shape != shape_there:
                raise ValueError(
                    f"{name} has shape {tuple(shape)}, but {classes} classes and this method need "
                    f"{tuple(shape_there)}: its adapter could not be loaded again"
                )
            if dtype != dtype_there:
                raise ValueError(
                    f"{name} is {dtype}, but its adapter holds {dtype_there}: call float() before save, or "
                    "load the adapter again"
                )
        for part, modules in (("head", _modules(head)), ("tuner", self.modules)):
            if _modules(parts[part]) != modules:
                raise ValueError(
                    f"{part} has other layers than the classifier was made with: its adapter could not be "
                    "loaded again"
                )

    def _check_frozen(self, frozen: Mapping[str, Tensor], method: str) -> None:
        remedy = (
            f"{method} does not train it, so the adapter would not hold it: give the changed backbone as "
            "Classifier.create(backbone=...), or load the adapter again"
        )
        for name in sorted(self.frozen.keys() | frozen.keys()):
            if name not in frozen or name not in self.frozen:
                what = "gone" if name in self.frozen else "new"
                raise ValueError(f"{name} of the backbone is {what}, and {remedy}")
            dtype, checksum = self.frozen[name]
            x = frozen[name]
            if x.dtype not in (dtype, torch.float32) or _state(x)[1] != checksum:
                raise ValueError(f"{name} was changed since the classifier was made, and {remedy}")


def tensors_of(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name; a module that torch.compile wraps has its own name."""
    tensors: dict[str, Tensor] = {}
    for part in PARTS:
        module = parts[part]
        saved = module.state_dict(keep_vars=True)
        found = [*module.named_parameters(), *(x for x in module.named_buffers() if x[0] in saved)]
        tensors |= {plain_name(f"{part}.{name}"): x for name, x in found}
    return tensors


def plain_name(name: str) -> str:
    """The name that a tensor or module has without torch.compile."""
    return ".".join(x for x in name.split(".") if x != COMPILED)


def _modules(module: nn.Module) -> dict[str, type[nn.Module]]:
    """Classes of the modules inside a module, by name; of a compiled one that inside the wrapper."""
    return {plain_name(name): type(x) for name, x in module.named_modules()}


def _form(x: Tensor) -> tuple[torch.Size, torch.dtype]:
    return x.shape, x.dtype


def _state(x: Tensor) -> tuple[torch.dtype, int]:
    """Dtype and checksum of the values; the same on every device."""
    return x.dtype, zlib.crc32(_values(x).data)


def _values(x: Tensor) -> Any:
    """The values in float32, as an array of NumPy, which starts no threads."""
    return x.detach().float().cpu().contiguous().reshape(-1).numpy()
