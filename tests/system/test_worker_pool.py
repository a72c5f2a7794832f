"""Calls in worker processes: a crash, a hang or an error ends one call.

tests/data/doctor/test_probe.py tests the rest, with workers that are spawned.
"""

import os
import signal
import sys
import threading
import time

import pytest

from conftest import start_fork_server_with
from videossp.system import worker_pool
from videossp.system.worker_pool import Calls, Lost, run_tasks

MODULES = ("videossp.system.worker_pool", "json.tool")  # the second is loaded by no other


def behave(task):
    if task == "hang":
        time.sleep(1000)
    if task == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "raise":
        raise MemoryError("too\nlarge")
    return task, "json.tool" in sys.modules, os.getpid(), os.getppid()


@pytest.fixture(autouse=True)
def _server():
    start_fork_server_with(*MODULES)


def test_workers_are_forked_from_a_process_that_has_the_modules_and_lose_only_their_call():
    tasks = ["a", "crash", "b", "raise", "c", "hang", "d"]
    results = list(run_tasks(Calls(behave, timeout=2, workers=2, ahead=3, modules=MODULES), tasks))
    lost = {task: x.reason for task, x in zip(tasks, results, strict=True) if isinstance(x, Lost)}
    assert lost == {
        "crash": "the process that read it died (SIGSEGV)",
        "raise": "MemoryError: too large",
        "hang": "no answer within 2 s (--timeout)",
    }
    good = [x for x in results if not isinstance(x, Lost)]
    assert [x[0] for x in good] == ["a", "b", "c", "d"] and all(loaded for _, loaded, _, _ in good)
    assert {parent for *_, parent in good}.isdisjoint({os.getpid()})  # the process that forks them
    assert len({parent for *_, parent in good}) == 1


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"workers": -1}, {"timeout": 0}, {"timeout": -1}], ids=str)
def test_a_pool_that_could_never_answer_is_refused(wrong):
    with pytest.raises(ValueError, match="must be positive, got"):
        Calls(behave, **{"timeout": None, "workers": 1, "ahead": 1, **wrong})


def test_tasks_are_taken_only_as_far_ahead_as_is_allowed():
    taken = []

    def tasks():
        for i in range(10):
            taken.append(i)
            yield str(i)

    calls = Calls(behave, timeout=None, workers=1, ahead=3, modules=MODULES)
    for i, (task, *_) in enumerate(run_tasks(calls, tasks())):
        assert task == str(i) and len(taken) <= i + 3
    assert len(taken) == 10


def test_a_pool_keeps_its_locks_until_its_workers_have_ended():
    with worker_pool.pool_of(1, MODULES) as pool:
        assert pool.active


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="this system has no signal masks")
def test_ctrl_c_does_not_cut_off_the_start_of_workers_even_if_another_thread_gets_it():
    go = threading.Event()

    def interrupt():
        go.wait()
        signal.raise_signal(signal.SIGINT)  # handled before it returns

    thread = threading.Thread(target=interrupt)
    thread.start()
    started = False
    with pytest.raises(KeyboardInterrupt), worker_pool.sigint_blocked():
        go.set()
        thread.join()
        started = True
    assert started
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
