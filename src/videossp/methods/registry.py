"""Methods by name: the bundled ones, registered ones, and those that installed distributions declare."""

import inspect
import keyword
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from videossp.methods.adapter import Adapter
from videossp.methods.additional_scan import AdditionalScan
from videossp.methods.affix import Affix
from videossp.methods.attentive import Attentive
from videossp.methods.chain import Chain
from videossp.methods.full import Full
from videossp.methods.gather_spread import GatherSpread
from videossp.methods.linear_probe import LinearProbe
from videossp.methods.lora import LoRA
from videossp.methods.mean import Mean
from videossp.methods.moments import Moments
from videossp.methods.options import CreateArguments
from videossp.methods.partial import Partial
from videossp.methods.rates import UNMEASURED, measured_lr
from videossp.methods.ssp import SSP
from videossp.methods.st_adapter import STAdapter
from videossp.methods.state_offset import StateOffset
from videossp.methods.stop import STOP
from videossp.methods.svp import SVP
from videossp.methods.vfpt import VFPT
from videossp.methods.vpt import VPT
from videossp.model.config import BACKBONES, VideoMambaConfig
from videossp.model.hooks import Tuner

ENTRY_POINTS = "videossp.methods"  # the group that a distribution declares its methods in
# Arguments of `Classifier.create`, which takes the options of a method beside them.
RESERVED = ("cls", "backbone", "method", *CreateArguments.__annotations__)

METHODS: dict[str, type[Tuner]] = {
    "linear": LinearProbe,
    "mean": Mean,
    "moments": Moments,
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
    "gather_spread": GatherSpread,
}
"""The bundled methods."""

_registered: dict[str, type[Tuner]] = {}
_rates: dict[str, float] = {}


def register_method(name: str, cls: type[Tuner], *, lr: float | None = None) -> None:
    """Make a method available under a name, in this process.

    A distribution can declare entry points of the group "videossp.methods" instead. Its methods are then
    available in every process and on the command line.

    Args:
        name: a Python identifier that no other method has.
        cls: the method. Its constructor takes the `VideoMambaConfig` first and its options as keyword
            arguments after it.
        lr: learning rate to train with by default; default: `cls.lr`, else 1e-3.

    Raises:
        ValueError: the name is taken or no identifier, the class is not such a method, or the name or an
            option is an argument of `Classifier.create`.
    """
    _check_name(name)
    _check_class(name, cls)
    if name in method_names():
        raise ValueError(f"there is a method {name!r} already; register {cls.__name__} under another name")
    _check_rate(name, lr)
    _registered[name] = cls
    if lr is not None:
        _rates[name] = lr


def registrations(method: str) -> list[tuple[str, str, float | None]]:
    """Methods registered at runtime, as arguments for `register_again`.

    Args:
        method: a name, or a chain.

    Returns:
        (name, "module:class", lr) of each member that `register_method` added.

    Raises:
        ValueError: a class lies where another process cannot import it.
    """
    found = []
    for name in method.split("+"):
        if name in _registered:
            cls = _registered[name]
            if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
                raise ValueError(
                    f"method {name!r} must run in another process, which cannot import {cls.__qualname__} of "
                    f"{cls.__module__}: move the class to the top level of a module"
                )
            found.append((name, f"{cls.__module__}:{cls.__qualname__}", _rates.get(name)))
    return found


def register_again(registered: Iterable[tuple[str, str, float | None]]) -> None:
    """Register the methods that another process had registered.

    Args:
        registered: of `registrations` in the other process.

    Raises:
        ValueError: there is another method of this name.
    """
    for name, path, lr in registered:
        cls = EntryPoint(name, path, ENTRY_POINTS).load()
        if _registered.get(name) is not cls:  # the import of its module may have registered it
            register_method(name, cls, lr=lr)


def method_names() -> list[str]:
    """Names of all methods: bundled, registered, and declared by installed distributions (not loaded)."""
    return list(dict.fromkeys([*METHODS, *_registered, *_declared()]))


def find_method(name: str) -> type[Tuner]:
    """The class of a method. That of an installed distribution is imported here.

    Raises:
        ValueError: there is no method of this name, the name is declared twice, or its module cannot be
            imported.
    """
    known = METHODS.get(name) or _registered.get(name)
    declared = _declared().get(name, [])
    if known is None and not declared:
        _declared.cache_clear()  # a distribution may have been installed since
        declared = _declared().get(name, [])
        if not declared:
            raise ValueError(f"no method {name!r}; there are {', '.join(method_names())}")
    if len(declared) + (known is not None) > 1:
        owners = ["videossp"] * (known is not None) + [_owner(entry) for entry in declared]
        raise ValueError(f"method {name!r} is declared by {' and by '.join(owners)}; uninstall all but one")
    return known or _load(declared[0])


def make_tuner(method: str | type[Tuner], config: VideoMambaConfig, options: Mapping[str, Any]) -> Tuner:
    """Build a method, or a chain of several.

    Args:
        method: a name, the names of a chain joined by "+" ("ssp+lora"), or a class.
        config: sizes of the backbone.
        options: of the method; of a chain nested by name, {"lora": {"rank": 8}}.

    Raises:
        ValueError: unknown names or options, listing the known ones, or values that the method rejects.
    """
    members = _members(method, options)
    if len(members) == 1:
        ((cls, given),) = members.values()
        return cls(config, **given)
    return Chain({name: cls(config, **given) for name, (cls, given) in members.items()})


def resolve_options(
    method: str | type[Tuner], config: VideoMambaConfig, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Complete the options of a method by the defaults at this backbone.

    Arguments and errors are those of `make_tuner`. The result can be passed to it as `options`.
    """
    resolved = {}
    for name, (cls, given) in _members(method, options).items():
        values = {key: x.default for key, x in _parameters(cls).items()} | given
        sizes = {key: scaled.resolve(values[key], config) for key, scaled in cls.scaled.items()}
        resolved[name] = values | sizes
    return resolved if len(resolved) > 1 else resolved.popitem()[1]


def published_options(method: str | type[Tuner], options: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the options of a method by the published defaults, which are those at VideoMamba-M.

    Older versions used these on every backbone. So if an old adapter or run folder lacks an option, the
    published default applies.
    """
    return resolve_options(method, BACKBONES["videomamba_middle"], options)


def default_lr(method: str | type[Tuner], config: VideoMambaConfig) -> float:
    """Default peak learning rate of AdamW; `lr_source` describes its origin.

    Rates of the bundled methods were measured for backbones of the depth and width of videomamba_nano
    (`rates.NANO`). Other methods can declare one (`Tuner.lr`, `register_method`). Everything else trains at
    1e-3. A chain takes the smallest rate of its members.
    """
    return min(lr or UNMEASURED for lr in _known_rates(method, config).values())


def lr_source(method: str | type[Tuner], config: VideoMambaConfig) -> str:
    """Origin of `default_lr`, as text for the plan of a training."""
    known = _known_rates(method, config)
    missing = [name for name, lr in known.items() if lr is None]
    if missing:
        return f"not measured for {', '.join(missing)} on this backbone"
    smallest = min(known, key=lambda name: known[name] or 0.0)
    source = "measured on videomamba_nano" if measured_lr(smallest, config) else "the method's default"
    return f"{source}, the smallest of the chain" if len(known) > 1 else source


def _known_rates(method: str | type[Tuner], config: VideoMambaConfig) -> dict[str, float | None]:
    """By member, its learning rate; None: neither measured nor declared."""
    return {
        name: _rates.get(name) or cls.lr or (measured_lr(name, config) if cls is METHODS.get(name) else None)
        for name, (cls, _) in _members(method, {}).items()
    }


def _members(
    method: str | type[Tuner], options: Mapping[str, Any]
) -> dict[str, tuple[type[Tuner], dict[str, Any]]]:
    """By name, the class and the options of each member.

    A single method is treated as a chain of length one.
    """
    if not isinstance(method, str):
        name = next((x for x, cls in (METHODS | _registered).items() if cls is method), method.__name__)
        _check_class(name, method)
        return {name: (method, _checked(name, method, options))}
    names = method.split("+")
    classes = {name: find_method(name) for name in names}
    if len(names) == 1:
        return {method: (classes[method], _checked(method, classes[method], options))}
    if len(classes) < len(names):
        raise ValueError(f"{method}: each method once")
    for name, value in options.items():
        if name not in names or not isinstance(value, Mapping):
            raise ValueError(f"{method} has no option {name}; give those of a member as {names[0]}={{...}}")
    return {name: (cls, _checked(name, cls, options.get(name, {}))) for name, cls in classes.items()}


def _checked(name: str, cls: type[Tuner], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options. Raise a ValueError that lists the known ones if one is unknown."""
    parameters = _parameters(cls)
    if unknown := [key for key in options if key not in parameters]:
        known = ", ".join(parameters) or "none"
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {known}")
    return dict(options)


def _parameters(cls: type[Tuner]) -> dict[str, inspect.Parameter]:
    """The options of a method: the parameters of its constructor after `config`."""
    return dict(list(inspect.signature(cls).parameters.items())[1:])


def _check_name(name: str) -> None:
    """Raise a ValueError if options cannot be given under this name."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"the name of a method must be a Python identifier, got {name!r}")
    if name in RESERVED:  # a chain passes the options as an argument with the method's name
        raise ValueError(f"the name of a method must not be an argument of Classifier.create, got {name!r}")


def _check_class(name: str, cls: object) -> None:
    """Raise a ValueError if this is not a method whose options can be read off its constructor."""
    if not (isinstance(cls, type) and issubclass(cls, Tuner)):
        raise ValueError(f"method {name!r} must be a subclass of videossp.Tuner, got {cls!r}")
    first, *options = inspect.signature(cls).parameters.values() or [None]
    readable = first is not None and first.kind is first.POSITIONAL_OR_KEYWORD
    for x in options:
        readable &= x is not None and x.kind in (x.POSITIONAL_OR_KEYWORD, x.KEYWORD_ONLY)
        readable &= x is not None and x.default is not x.empty
    if not readable:
        raise ValueError(
            f"method {name!r}: the constructor of {cls.__name__} must be "
            "__init__(self, config, *, option=default, ...)"
        )
    if taken := [key for key in _parameters(cls) if key in RESERVED]:
        raise ValueError(
            f"method {name!r}: the option {taken[0]} of {cls.__name__} is an argument of Classifier.create; "
            "rename it"
        )
    if unknown := [key for key in cls.scaled if key not in _parameters(cls)]:
        raise ValueError(f"method {name!r}: {cls.__name__}.scaled names {unknown[0]}, which is no option")
    _check_rate(name, cls.lr)


def _check_rate(name: str, lr: float | None) -> None:
    """Raise a ValueError if this cannot be a learning rate."""
    if lr is not None and not 0 < lr < float("inf"):
        raise ValueError(f"lr of {name} must be positive, got {lr}")


@cache
def _declared() -> dict[str, list[EntryPoint]]:
    """By name, the methods that installed distributions declare; none is imported."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        found.setdefault(entry.name, []).append(entry)
    return found


def _load(entry: EntryPoint) -> type[Tuner]:
    """The class that an entry point names."""
    try:
        _check_name(entry.name)
        cls = entry.load()
        _check_class(entry.name, cls)
    except Exception as error:  # whatever the import of another package raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"method {entry.name!r} of {_owner(entry)} cannot be loaded: {reason}") from error
    return cls  # type: ignore[no-any-return]


def _owner(entry: EntryPoint) -> str:
    """Name and version of the distribution that declares an entry point."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else f"unknown ({entry.value})"
