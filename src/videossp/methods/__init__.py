"""The tuning methods by name, and chains of them."""

import inspect
from collections.abc import Mapping
from typing import Any

from videossp.methods.adapter import Adapter
from videossp.methods.additional_scan import AdditionalScan
from videossp.methods.affix import Affix
from videossp.methods.attentive import Attentive
from videossp.methods.chain import Chain
from videossp.methods.full import Full
from videossp.methods.linear_probe import LinearProbe
from videossp.methods.lora import LoRA
from videossp.methods.mean import Mean
from videossp.methods.partial import Partial
from videossp.methods.ssp import SSP
from videossp.methods.st_adapter import STAdapter
from videossp.methods.state_offset import StateOffset
from videossp.methods.stop import STOP
from videossp.methods.svp import SVP
from videossp.methods.vfpt import VFPT
from videossp.methods.vpt import VPT
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Tuner

METHODS: dict[str, type[Tuner]] = {
    "linear": LinearProbe,
    "mean": Mean,
    "attentive": Attentive,
    "full": Full,
    "partial": Partial,
    "adapter": Adapter,
    "st_adapter": STAdapter,
    "lora": LoRA,
    "vpt": VPT,
    "vfpt": VFPT,
    "svp": SVP,
    "additional_scan": AdditionalScan,
    "affix": Affix,
    "state_offset": StateOffset,
    "stop": STOP,
    "ssp": SSP,
}


def make_tuner(method: str | type[Tuner], config: VideoMambaConfig, options: Mapping[str, Any]) -> Tuner:
    """A method by name, or a chain of several, "ssp+lora", whose options are nested by name.

    Unknown names and options are errors that list the known ones.
    """
    if isinstance(method, type):
        return method(config, **options)
    names = method.split("+")
    if unknown := [name for name in names if name not in METHODS]:
        raise ValueError(f"no method {unknown[0]!r}; there are {', '.join(METHODS)}")
    if len(names) > 1:
        if len(set(names)) < len(names):
            raise ValueError(f"{method}: each method once")
        if odd := [name for name in options if name not in names or not isinstance(options[name], Mapping)]:
            raise ValueError(f"{method} has no option {odd[0]}; give those of a member as {names[0]}={{...}}")
        return Chain({name: make_tuner(name, config, options.get(name, {})) for name in names})
    known = list(inspect.signature(METHODS[method]).parameters)[1:]
    if odd := [name for name in options if name not in known]:
        raise ValueError(f"{method} has no option {', '.join(odd)}; it has {', '.join(known) or 'none'}")
    return METHODS[method](config, **options)


# Stand-ins for the registry of methods, to be replaced by it.


def register_method(name: str, cls: type[Tuner], *, lr: float | None = None) -> None:
    """Make a method available under a name."""
    METHODS[name] = cls


def find_method(name: str) -> type[Tuner]:
    """The class of a method."""
    return METHODS[name]


def method_names() -> list[str]:
    """Names of all methods."""
    return list(METHODS)


def resolve_options(
    method: str | type[Tuner], config: VideoMambaConfig, options: Mapping[str, Any]
) -> dict[str, Any]:
    """All options of a method: those given and the defaults of the others."""
    if isinstance(method, str) and "+" in method:
        return {name: resolve_options(name, config, options.get(name, {})) for name in method.split("+")}
    cls = METHODS[method] if isinstance(method, str) else method
    parameters = list(inspect.signature(cls).parameters.values())[1:]
    return {x.name: x.default for x in parameters} | dict(options)


def published_options(method: str | type[Tuner], options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a method: those given and the published defaults of the others."""
    return resolve_options(method, VideoMambaConfig(32, 576), options)
