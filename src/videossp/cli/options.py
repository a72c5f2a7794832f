"""Options of the command line made from signatures, with short help; one-line errors for wrong values."""

import inspect
import re
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

SUPPRESS = "==SUPPRESS=="  # of argparse, which is not imported before a verb is known
METAVARS = {int: "N", float: "X", bool: "true|false", str: "NAME"}
SHORT = 24  # characters of a list of choices that still fits beside its flag
LONGEST = 84  # characters of the help of a method's option
# Flags whose metavar says more than the one of their type.
NAMED = {
    **dict.fromkeys(("videos", "features", "out", "resume"), "FOLDER"),
    **dict.fromkeys(("config", "weights", "confusion", "report", "write_clean_list"), "FILE"),
    **dict.fromkeys(("truth", "video", "near_duplicates", "list", "token_file"), "FILE"),
    **dict.fromkeys(("adapters", "label_studio", "temporary"), "FOLDER"),
    "data": "PATH",
    "ray": "ADDRESS",
    "shard": "I/N",
    "expect": "{NAME: VALUE}",
}


def group_of(parser: "ArgumentParser", title: str) -> Any:
    """The group of flags with this title, made when it is first asked for."""
    for group in parser._action_groups:
        if group.title == title:
            return group
    return parser.add_argument_group(title)


def add_option(group: Any, name: str, kind: Any, text: str, *, default: Any = None, shown: str = "") -> None:
    """Add one flag.

    Args:
        group: of the parser.
        name: with underscores, as in a config file.
        kind: type of the value.
        text: help, best one line.
        default: SUPPRESS leaves the name out of the parsed arguments if the flag is not given.
        shown: the default as help shows it, if that is not `default`.
    """
    metavar, choices = named(name, kind) or metavar_of(kind), ""
    if "|" in metavar and len(metavar) > SHORT:
        *first, last = metavar.split("|")
        metavar, choices = "NAME", f": {', '.join(first)} or {last}"
    shown = shown or shown_default(default)
    text = f"{text}{choices}{shown and f' [{shown}]'}".replace("%", "%%")
    group.add_argument(f"--{name}", type=kind, default=default, help=text, metavar=metavar)


def add_options(
    group: Any,
    function: Callable[..., Any],
    texts: Mapping[str, str] | None = None,
    *,
    names: Collection[str] | None = None,
    skip: Collection[str] = (),
    prefix: str = "",
    shown: Mapping[str, Any] | None = None,
    suppress: bool = False,
) -> None:
    """Add a flag for each parameter of a function or class.

    Args:
        group: of the parser.
        function: its signature gives names, types and defaults.
        texts: help by name; default: the first clause of the docstring.
        names: parameters to add; default: all.
        skip: parameters to leave out.
        prefix: of the flags, as "ssp."
        shown: defaults that help shows, if they are not those of the signature.
        suppress: leave a name out of the parsed arguments if its flag is not given.
    """
    texts, documented, shown = texts or {}, argument_docs(function), shown or {}
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        name = parameter.name
        if name in skip or (names is not None and name not in names):
            continue
        untyped = parameter.annotation is parameter.empty
        default = None if parameter.default is parameter.empty else parameter.default
        add_option(
            group,
            prefix + name,
            Any if untyped else parameter.annotation,
            texts.get(name) or first_clause(documented.get(name, "")),
            default=SUPPRESS if suppress else default,
            shown=shown_default(shown.get(name, default)),
        )


def named(name: str, kind: Any) -> str | None:
    """The metavar in `NAMED` of an option; None if there is none, or its values are choices."""
    return None if get_origin(kind) is Literal else NAMED.get(name)


def metavar_of(kind: Any) -> str:
    """How help shows a value of a type: N, true|false, on|off, [N,N]."""
    origin, members = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "|".join(map(str, members))
    if origin in (Union, types.UnionType):
        if lists := [x for x in members if get_origin(x) is list]:  # also as text, separated by commas
            return f"{metavar_of(get_args(lists[0])[0])},..."
        shown = dict.fromkeys(metavar_of(x) for x in members if x is not type(None))
        return "|".join(shown)
    if origin in (tuple, list):
        if origin is list or members[1:] == (...,):
            return f"[{metavar_of(members[0])},...]"
        return f"[{','.join(map(metavar_of, members))}]"
    return METAVARS.get(kind, "VALUE")


def shown_default(value: Any) -> str:
    """A default as it is typed; empty for None, "" and empty collections."""
    if value in (None, "", SUPPRESS) or (isinstance(value, (tuple, list, dict)) and not value):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(map(shown_default, value)) if isinstance(value, (tuple, list)) else str(value)


def argument_docs(function: Callable[..., Any]) -> dict[str, str]:
    """By name, the text of each argument in a docstring of Google's style.

    An entry "a, b: text" documents both arguments.
    """
    lines = inspect.cleandoc(function.__doc__ or "").splitlines()
    starts = [i for i, line in enumerate(lines) if line in ("Args:", "Attributes:")]
    texts: dict[str, str] = {}
    names: list[str] = []
    for line in lines[starts[0] + 1 :] if starts else []:
        if line and not line.startswith(" "):
            break
        if entry := re.fullmatch(r" {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \(.*?\))?: (.*)", line):
            names = [x.lstrip("*") for x in entry[1].split(", ")]
            texts |= dict.fromkeys(names, entry[2])
        else:
            texts |= {name: f"{texts[name]} {line.strip()}" for name in names}
    return {name: " ".join(text.split()) for name, text in texts.items()}


def first_clause(text: str) -> str:
    """A text up to its first full stop or semicolon, cut where it would take more than two lines of help."""
    import textwrap

    return textwrap.shorten(re.split(r"[.;](?= |$)", text, maxsplit=1)[0], LONGEST, placeholder=" ...")


def with_words(settings: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a YAML file, with "on" and "off" again where these are the choices of an option.

    YAML 1.1 reads on, off, yes and no as true and false.

    Args:
        settings: by name; those of a method are nested.
        kinds: type of each option, by name or METHOD.OPTION.
    """
    words: dict[str, Any] = {}
    for name, value in settings.items():
        kind = kinds.get(name)
        if isinstance(value, Mapping) and kind is None:
            members = {x.removeprefix(f"{name}."): kinds[x] for x in kinds if x.startswith(f"{name}.")}
            words[name] = with_words(value, members)
        elif isinstance(value, bool) and get_origin(kind) is Literal and {"on", "off"} <= {*get_args(kind)}:
            words[name] = "on" if value else "off"
        else:
            words[name] = value
    return words


def parse_error(parser: "ArgumentParser", error: Exception, renamed: Mapping[str, str]) -> str:
    """Rewrite a jsonargparse error for users and suggest a similar option.

    Args:
        parser: that raised the error.
        error: what it raised.
        renamed: old name of an option -> new.
    """
    text = str(error)
    kinds = {x.dest: getattr(x, "_typehint", None) for x in parser._actions}
    if unknown := re.match(r"unrecognized arguments: (\S+)", text):
        flag, _, _ = unknown[1].partition("=")
        if not flag.startswith("--"):
            return f"unexpected argument {flag!r}"
        return f"unknown option {spelled(flag)}{hint(flag[2:], kinds, renamed, spelled)}"
    if unknown := re.search(r"Option '([^']+)' is not accepted", text):
        return f"unknown setting {unknown[1]!r} in a config file{hint(unknown[1], kinds, renamed, str)}"
    if incomplete := re.match(r"argument (--\w[\w.]*): expected", text):
        return f"{spelled(incomplete[1])} needs a value"
    if missing := re.match(r"the following arguments are required: (.*)", text):
        names = [str(x.metavar) for x in parser._actions if x.dest in missing[1].split(", ")]
        return f"missing: {', '.join(names)} (videossp {parser.prog.split()[-1]} --help)"
    key, value = re.match(r'Parser key "([\w.]+)"', text), re.search(r"(?:Got|Given) value: (.*)", text)
    if key and value and kinds.get(key[1]):
        allowed = named(key[1], kinds[key[1]]) or wanted(kinds[key[1]])
        return f"{spelled('--' + key[1])} must be {allowed}, got {value[1]}"
    return text


def spelled(flag: str) -> str:
    """A flag as people type it."""
    return "--" + flag.removeprefix("--").replace("_", "-")


def hint(name: str, known: Iterable[str], renamed: Mapping[str, str], show: Callable[[str], str]) -> str:
    """The new name of an option that was renamed, or the name that may have been meant; else empty."""
    if name in renamed:
        return f"; it is now {show(renamed[name])}"
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {show(near[0])}?" if near else ""


def wanted(kind: Any) -> str:
    """A type in words: "a whole number", "true or false"."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    origin, members = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(str, members))
    if origin in (Union, types.UnionType):
        return " or ".join(wanted(x) for x in members if x is not type(None))
    return words.get(kind) or metavar_of(kind)
