"""`videossp demo`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from videossp.cli.arguments import Arguments
from videossp.cli.flags import add_device, device_of
from videossp.cli.options import add_option, group_of
from videossp.cli.output import print_message, print_result

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def demo(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Run everything on bundled clips and weights: about three minutes, no network."""
    from videossp.demo import demo as run_demo
    from videossp.demo import demo_lines

    add_option(group_of(parser, "output"), "out", str, "empty or new folder to write", default="demo")

    add_device(group_of(parser, "hardware"))

    def run(args: "Namespace") -> int:
        figures = run_demo(args.out, print_message, device_of(args))
        return print_result(args, figures, demo_lines(figures))

    return run
