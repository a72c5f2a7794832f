"""The entry point: run the verb that argv names; report an error as one line and an exit code."""

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING

from videossp.cli.arguments import CONFIG_FLAGS, Arguments, before_separator, read_arguments
from videossp.cli.output import DATA, INTERRUPTED, print_error, print_message
from videossp.cli.verbs import VERBS
from videossp.system.process import prepare_process
from videossp.system.warn import warning_lines

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

USAGE, WEIGHTS = 2, 4
POSITIONALS = {"adapter": "ADAPTER", "dataset": "DATA", "paths": "VIDEO"}
PATHS = (
    *POSITIONALS,
    *("resume", "out", "data", "videos", "backbone", "weights", "features", "split"),
    *("confusion", "report", "write_clean_list"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        The exit code: 0 success, 1 failure, 2 usage, 3 data, 4 weights, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0 if arguments else USAGE
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("videossp"))
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        print_message(f"no verb {verb!r}; there are {', '.join(VERBS)} (videossp --help)")
        return USAGE
    prepare_process()
    for stream in (sys.stdout, sys.stderr):
        # A file name that is not UTF-8 must not end the output.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with warning_lines(print_message, others="--debug" in before_separator(rest)):
            return run_verb(verb, read_arguments(verb, rest))
    except KeyboardInterrupt:
        print_message("interrupted")
        return INTERRUPTED
    except Exception as error:
        if "--debug" in before_separator(rest):
            raise
        # Only the list of weights that do not fit has more than one line.
        text = str(error) if exit_code(error) == WEIGHTS else " ".join(str(error).split())
        print_error(text or f"{type(error).__name__}; --debug shows where")
        return exit_code(error)


def run_verb(verb: str, given: Arguments) -> int:
    """Parse the arguments of a verb and call it."""
    from jsonargparse import ArgumentParser

    from videossp.cli.help import HelpFormatter
    from videossp.cli.options import group_of, parse_error

    build = VERBS[verb]
    parser = ArgumentParser(
        prog=f"videossp {verb}",
        description=build.__doc__,
        formatter_class=HelpFormatter,
        add_help=False,
        exit_on_error=False,
        allow_abbrev=False,  # --resum RUN must not resume without the settings of RUN
        print_config=None,
    )
    run = build(parser, given)
    group = group_of(parser, "output")
    group.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    group.add_argument("-h", "--help", action="help", help="show this help")
    parser.usage = usage(parser)
    try:
        settings = parser.parse_object(given.settings) if given.settings else None
        parsed = parser.parse_args(given.flags, namespace=settings)
    except Exception as error:
        raise ValueError(parse_error(parser, error, renamed_options(verb))) from error
    refuse_empty_paths(parsed)
    return run(parsed)


def renamed_options(verb: str) -> dict[str, str]:
    """Old name -> new name of the options of a verb."""
    if verb not in CONFIG_FLAGS:
        return {}
    from videossp.training.config import RENAMED

    return RENAMED


def usage(parser: "ArgumentParser") -> str:
    """One line: the flags are listed below it."""
    forms = {"?": "[{}]", "+": "{} ..."}
    positionals = [x for x in parser._actions if not x.option_strings]
    words = [forms.get(str(x.nargs), "{}").format(x.metavar) for x in positionals]
    return " ".join([parser.prog, *words, "[--FLAG VALUE ...]"])


def refuse_empty_paths(args: "Namespace") -> None:
    """Refuse "" as a path: usually an unset shell variable."""
    for name in PATHS:
        value = args.get(name)
        if "" in (value if isinstance(value, list) else [value]):
            shown = POSITIONALS.get(name) or f"--{name.replace('_', '-')}"
            raise ValueError(f"{shown} is empty: give a value, or leave it out")


def exit_code(error: Exception) -> int:
    """The exit code of an error: it tells usage, data and weights apart."""
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
        "videossp: train a frozen VideoMamba on new classes of videos, with a small prompt\n\n"
        f"usage: videossp VERB ...   (videossp VERB --help lists the flags of a verb)\n\n{verbs}\n"
    )
