"""argv -> one call of a verb; errors -> one line and an exit code."""

import difflib
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from io import TextIOWrapper
from typing import TYPE_CHECKING

from videossp.cli.arguments import Arguments, before_separator, read_arguments
from videossp.cli.output import DATA, INTERRUPTED, say
from videossp.cli.verbs import VERBS
from videossp.system.process import prepare_process

if TYPE_CHECKING:
    from jsonargparse import Namespace

USAGE, WEIGHTS = 2, 4
POSITIONALS = {"adapter": "ADAPTER", "place": "DATA", "paths": "VIDEO"}
PATHS = (
    *POSITIONALS,
    *("resume", "out", "data", "videos", "backbone", "weights", "features", "split"),
    *("confusion", "report", "write_clean_list"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0 ok, 1 failure, 2 usage, 3 data, 4 weights, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0 if arguments else USAGE
    if arguments[0] == "--version":
        print(version("videossp"))
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        say(f"no verb {verb!r}; there are {', '.join(VERBS)} (videossp --help)")
        return USAGE
    prepare_process()
    for stream in (sys.stdout, sys.stderr):
        # A name that is not UTF-8 must not end what is told of the others.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return run_verb(verb, read_arguments(verb, rest))
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except Exception as error:
        if "--debug" in before_separator(rest):
            raise
        # Only a list of misplaced weights takes more than a line.
        text = str(error) if exit_code(error) == WEIGHTS else " ".join(str(error).split())
        say(text or f"{type(error).__name__}; --debug shows where")
        return exit_code(error)


def run_verb(verb: str, given: Arguments) -> int:
    """Parse the arguments of a verb and call it."""
    from jsonargparse import ArgumentParser

    build = VERBS[verb]
    parser = ArgumentParser(
        prog=f"videossp {verb}",
        description=build.__doc__,
        exit_on_error=False,
        allow_abbrev=False,  # --resum RUN must not resume without the settings of RUN
        print_config=None,
    )
    run = build(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    try:
        settings = parser.parse_object(given.settings) if given.settings else None
        parsed = parser.parse_args(given.flags, namespace=settings)
    except Exception as error:
        hint = nearest(str(error), [*parser.get_defaults().keys()])
        raise ValueError(f"{error}{hint}") from error
    refuse_empty_paths(parsed)
    return run(parsed)


def refuse_empty_paths(args: "Namespace") -> None:
    """Refuse "" as a path: most often a shell variable that is not set, and no request for the default."""
    for name in PATHS:
        value = args.get(name)
        if "" in (value if isinstance(value, list) else [value]):
            shown = POSITIONALS.get(name) or f"--{name.replace('_', '-')}"
            raise ValueError(f"{shown} is empty: give a path, or leave it out")


def nearest(message: str, names: Sequence[str]) -> str:
    """What a flag or key that the parser's message says it does not know may have been meant for."""
    found = re.search(
        r"Option '([\w.]+)' is not|option '([\w.]+)'|unrecognized arguments: --([\w.]+)", message
    )
    word = next((x for x in found.groups() if x), "") if found else ""
    group = re.search(r"Group '([\w.]+)'", message)
    near = difflib.get_close_matches(f"{group[1]}.{word}" if group else word, names, 1)
    return f"; did you mean {near[0]}?" if word and near else ""


def exit_code(error: Exception) -> int:
    """The code for an error: what kind of thing the user has to mend."""
    from argparse import ArgumentError

    from videossp.errors import DataError, WeightsError

    if isinstance(error, DataError):
        return DATA
    if isinstance(error, WeightsError):
        return WEIGHTS
    if isinstance(error, (ArgumentError, ValueError, TypeError)):
        return USAGE
    return 1


def overview() -> str:
    """The text of `videossp --help`."""
    verbs = "\n".join(f"  {name:8} {build.__doc__}" for name, build in VERBS.items())
    return (
        "videossp: teach a frozen VideoMamba new classes with a small prompt\n\n"
        f"usage: videossp VERB ...   (videossp VERB --help lists its flags)\n\n{verbs}\n"
    )
