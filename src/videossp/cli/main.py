"""argv -> one call of a verb; errors -> one line and an exit code."""

import difflib
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path

from videossp.cli.output import DATA, INTERRUPTED, say
from videossp.cli.verbs import VERBS
from videossp.system.process import prepare_process

USAGE, WEIGHTS = 2, 4


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
        return run_verb(verb, in_order([underscores(x) for x in rest]))
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except Exception as error:
        if "--debug" in rest:
            raise
        # Only a list of misplaced weights takes more than a line.
        text = str(error) if exit_code(error) == WEIGHTS else " ".join(str(error).split())
        say(text or f"{type(error).__name__}; --debug shows where")
        return exit_code(error)


def run_verb(verb: str, arguments: list[str]) -> int:
    """Parse the arguments of a verb and call it."""
    from jsonargparse import ArgumentParser

    build = VERBS[verb]
    parser = ArgumentParser(prog=f"videossp {verb}", description=build.__doc__, exit_on_error=False)
    run = build(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    try:
        parsed = parser.parse_args(arguments)
    except Exception as error:
        hint = nearest(str(error), [*parser.get_defaults().keys()])
        raise ValueError(f"{error}{hint}") from error
    return run(parsed)


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


def in_order(arguments: Sequence[str]) -> list[str]:
    """--config before all flags, which win over it wherever they stand; the config of a run to --resume."""
    front: list[str] = []
    rest: list[str] = []
    given = iter(arguments)
    for argument in given:
        name, equals, value = argument.partition("=")
        if name in ("--config", "--resume") and not equals:
            value = next(given, "")
        if name == "--config":
            front += [name, value]
        elif name == "--resume":
            front += ["--config", str(Path(value) / "config.yaml")]
            rest += [name, value]
        else:
            rest.append(argument)
    return front + rest


def underscores(argument: str) -> str:
    """--batch-size is --batch_size."""
    name, equals, value = argument.partition("=")
    return (
        name.replace("-", "_").replace("__", "--", 1) + equals + value if name.startswith("--") else argument
    )
