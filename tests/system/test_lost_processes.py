"""Errors of lost processes, where several are lost at almost the same time."""

import pytest

from videossp.errors import WorkerLostError
from videossp.system import lost_processes
from videossp.system.lost_processes import explain_lost_processes


def test_workers_that_die_one_after_the_other_are_one_error(monkeypatch):
    """torch raises the death of the second one while the loader of the first is ended."""
    real, raised = lost_processes._end_loaders, []

    def end_loaders():
        if len(raised) < 2:
            raised.append(f"DataLoader worker (pid {len(raised)}) is killed by signal: Killed.")
            raise RuntimeError(raised[-1])
        real()

    monkeypatch.setattr(lost_processes, "_end_loaders", end_loaders)
    with pytest.raises(WorkerLostError, match="a worker process died") as error, explain_lost_processes():
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
    assert len(raised) == 2 and "pid 7" in str(error.value.__cause__)


def test_another_error_while_loaders_are_ended_is_raised(monkeypatch):
    def end_loaders():
        raise RuntimeError("something else")

    monkeypatch.setattr(lost_processes, "_end_loaders", end_loaders)
    with pytest.raises(RuntimeError, match="something else"), explain_lost_processes():
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
