"""`videossp demo`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from videossp.cli.output import say, show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def demo(parser: "ArgumentParser") -> "Callable[[Namespace], int]":
    """the whole job on clips that come with the package: about three minutes, no network"""
    from videossp.demo import demo as run_demo
    from videossp.demo import demo_lines

    parser.add_argument("--out", type=str, default="demo", help="folder to write; it must not hold anything")

    def run(args: "Namespace") -> int:
        facts = run_demo(args.out, say)
        return show(args, facts, demo_lines(facts))

    return run
