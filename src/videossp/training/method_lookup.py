"""Methods by name. Temporary: the functions of this name in `videossp.methods` replace it."""

import inspect
from collections.abc import Mapping
from typing import Any

from videossp.methods import METHODS
from videossp.model.config import BACKBONES, VideoMambaConfig
from videossp.model.hooks import Tuner


def method_names() -> list[str]:
    """Names of all methods."""
    return list(METHODS)


def find_method(name: str) -> type[Tuner]:
    """The class of a method."""
    if name not in METHODS:
        raise ValueError(f"no method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]


def resolve_options(method: str, config: VideoMambaConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a method: those given, and defaults for the others."""

    def resolve(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        signature = list(inspect.signature(find_method(name)).parameters.values())[1:]
        return {x.name: x.default for x in signature} | dict(given)

    names = method.split("+")
    return resolve(method, options) if len(names) == 1 else {x: resolve(x, options.get(x, {})) for x in names}


def published_options(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a method: those given, and the published defaults for the others."""
    return resolve_options(method, BACKBONES["videomamba_middle"], options)


def default_lr(method: str, config: VideoMambaConfig) -> float:
    """Learning rate that a method trains with by default."""
    return 1e-3
