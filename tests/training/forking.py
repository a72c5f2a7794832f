"""Starts functions in new processes, forked from one that has every library loaded."""

import multiprocessing
import os
from pathlib import Path

from conftest import start_fork_server_with


def forks(monkeypatch):
    """A function that starts another one in a new process."""
    # The server imports `warmed` and conftest from these folders, and the package like this process.
    folders = [*map(str, Path(__file__).parents[:2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(x for x in folders if x))
    context = multiprocessing.get_context("forkserver")
    start_fork_server_with("warmed")

    def start(function, *arguments):
        process = context.Process(target=function, args=arguments)
        process.start()
        return process

    return start
