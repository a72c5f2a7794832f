"""The entry point: run the verb that argv names; report an error as one line and an exit code."""

import math
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING

from videossp.cli.arguments import CONFIG_FLAGS, Arguments, before_separator, read_arguments
from videossp.cli.output import BROKEN_PIPE, DATA, INTERRUPTED, print_error, print_message
from videossp.cli.verbs import VERBS
from videossp.system.process import prepare_process
from videossp.system.terminal import open_missing_streams, silence_closed_pipes
from videossp.system.warn import warning_lines

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

USAGE, WEIGHTS = 2, 4
POSITIONALS = {
    "adapter": "ADAPTER",
    "dataset": "DATA",
    "paths": "VIDEO",
    "source": "SOURCE",
    "query": "QUERY",
    "embeddings": "EMBEDDINGS",
    "folders": "ADAPTER",
}
PATHS = (
    *POSITIONALS,
    *("resume", "out", "data", "videos", "backbone", "weights", "features", "split"),
    *("confusion", "report", "write_clean_list", "output", "truth", "video", "frozen", "near_duplicates"),
    *("list", "shard", "ray", "clips"),
    *("adapters", "token_file", "label_studio", "temporary"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        The exit code: 0 success, 1 failure, 2 usage, 3 data, 4 weights, 130 interrupted, 141 the output is a
        pipe whose reader is gone.
    """
    open_missing_streams()
    try:
        return report_errors(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError as error:
        if silence_closed_pipes():
            return BROKEN_PIPE
        print_error(str(error))
        return 1


def report_errors(arguments: Sequence[str]) -> int:
    """Run one verb, and print its errors; returns the exit code."""
    debug = "--debug" in before_separator(arguments)
    try:
        try:
            return run_command(arguments, debug)
        finally:
            sys.stdout.flush()  # here, where an error can be reported; also after --help, which exits
    except KeyboardInterrupt:
        print_message("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        if debug:
            raise
        code = exit_code(error)
        lines = str(error).split("\n") if code == WEIGHTS else [one_line(error)]
        print_error(*(lines if any(lines) else [f"{type(error).__name__}; --debug shows where"]))
        return code


def one_line(error: Exception) -> str:
    """The message of an error as one line.

    Those of this package have one line. A line break in them is part of a name: it is shown as an escape.
    """
    from videossp.errors import VideoSSPError

    if isinstance(error, VideoSSPError):
        return str(error)
    text = " ".join(str(error).split())
    if isinstance(error, RuntimeError) and "CUDA" in text and "out of memory" in text:
        # Outside of passes and steps, which know their levers: where weights are moved, or in a benchmark.
        return "too little free memory on the GPU: end other programs that use it, or choose another --device"
    return text


def run_command(arguments: Sequence[str], debug: bool) -> int:
    """Print the overview or the version, or run the verb."""
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
    with warning_lines(print_message, others=debug):
        return run_verb(verb, read_arguments(verb, rest))


def run_verb(verb: str, given: Arguments) -> int:
    """Parse the arguments of a verb and call it."""
    from jsonargparse import ArgumentParser

    from videossp.cli.help import HelpFormatter
    from videossp.cli.options import group_of, parse_error, with_words

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
        named = with_words(given.settings, {x.dest: getattr(x, "_typehint", None) for x in parser._actions})
        settings = parser.parse_object(named) if named else None
        parsed = parser.parse_args(given.flags, namespace=settings)
    except Exception as error:
        raise ValueError(parse_error(parser, error, renamed_options(verb))) from error
    refuse_empty_paths(parsed)
    refuse_not_finite(parsed)
    return run(parsed)


def renamed_options(verb: str) -> dict[str, str]:
    """Old name -> new name of the options of a verb."""
    if verb not in CONFIG_FLAGS:
        return {}
    from videossp.training.config import RENAMED

    return RENAMED


def usage(parser: "ArgumentParser") -> str:
    """One line: the flags are listed below it."""
    forms = {"?": "[{}]", "+": "{} ...", "*": "[{} ...]"}
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


def refuse_not_finite(args: "Namespace") -> None:
    """Refuse numbers such as inf, nan and 1e400 before anything is read."""
    for name, value in args.items():  # those of methods as METHOD.OPTION
        for x in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(x, float) and not math.isfinite(x):
                raise ValueError(f"--{name.replace('_', '-')} must be finite, got {x}")


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
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:{width}}  {build.__doc__}" for name, build in VERBS.items())
    return (
        "videossp: train a frozen VideoMamba on new classes of videos, with a small prompt\n\n"
        f"usage: videossp VERB ...   (videossp VERB --help lists the flags of a verb)\n\n{verbs}\n"
    )
