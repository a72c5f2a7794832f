"""Files are probed in workers, in order, each once; no file stops the others."""

import hashlib
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from conftest import numbered_frames, write_video
from videossp.data.datasets import Sample
from videossp.data.doctor import probe as probe_module
from videossp.data.doctor.probe import Probe, probe_all
from videossp.system import worker_pool

# Replacements of `probe_file`, in a file of their own: workers would take a second to import this one.
JOBS = """
import os, signal, sys, time
from videossp.data.doctor.probe import Probe

def behave(path, start, end, hashed, selected, *, frames, decode):
    name = os.path.basename(path)
    if name.startswith("hang"):
        time.sleep(1000)
    if name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("raise"):
        raise MemoryError("too\\nlarge")
    return Probe(path, message="torch" if "torch" in sys.modules else "light")

def log(path, start, end, hashed, selected, *, frames, decode):
    with open(os.path.join(os.path.dirname(path), "log.txt"), "a") as file:
        print(os.path.basename(path), start, end, hashed, file=file)
    return Probe(path, sha256="hash of " + path if hashed else None)
"""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "probe_jobs.py").write_text(JOBS)
    sys.path.insert(0, str(folder))  # spawned workers inherit it
    yield importlib.import_module("probe_jobs")
    sys.path.remove(str(folder))


def samples(*paths):
    return [Sample(str(x), os.path.basename(x), 0) for x in paths]


def test_probes_describe_the_files_in_their_order(tmp_path):
    moving, still, folder = tmp_path / "moving.mp4", tmp_path / "still.mkv", tmp_path / "folder"
    write_video(moving, numbered_frames(30))
    write_video(still, np.full((20, 32, 48, 3), 90, np.uint8), codec="ffv1", rate=10)
    images = []
    for i in (10, 9, 1):
        images.insert(0, folder / f"50%d_{i}.png")
        write_video(folder / "x.png", numbered_frames(1) + i, codec="png", pix_fmt="rgb24")
        (folder / "x.png").rename(images[0])
    (tmp_path / "text.avi").write_bytes(b"no video")
    paths = [still, tmp_path / "text.avi", moving, tmp_path / "none.mp4", folder]
    first, text, second, none, third = probe_all(samples(*paths), workers=2)
    digests = [hashlib.sha256(x.read_bytes()).hexdigest() for x in (still, moving)]
    assert first == Probe("still.mkv", None, "", 20, pytest.approx(2), digests[0], True, (32, 48))
    assert second == Probe("moving.mp4", None, "", 30, pytest.approx(2.5), digests[1], False, (48, 64))
    content = b"".join(x.read_bytes() for x in images)
    assert third == Probe("folder", None, "", 3, None, hashlib.sha256(content).hexdigest(), False, (48, 64))
    assert [x.check for x in (text, none)] == ["file.unreadable"] * 2
    assert text.message.startswith(str(paths[1])) and none.message.startswith(str(paths[3]))


def test_every_part_is_read_once_and_its_file_hashed_once(tmp_path, jobs):
    a, b = str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")
    parts = [(a, 0.0, 1.0), (b, None, None), (a, 1.0, 2.0), (a, 0.0, 1.0), (b, None, None)]
    every = [Sample(path, f"{i}", 0, start, end) for i, (path, start, end) in enumerate(parts)]
    found = list(probe_all(every, job=jobs.log, workers=1))
    assert [x.name for x in found] == list("01234")
    assert [x.sha256 for x in found] == [f"hash of {path}" for path, _, _ in parts]
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert lines == ["a.mp4 0.0 1.0 True", "b.mp4 None None True", "a.mp4 1.0 2.0 False"]


def test_a_file_that_hangs_crashes_or_raises_is_named_and_the_others_are_read(jobs):
    names = ["0", "hang", "1", "crash", "2", "raise", "3", "hang again", "4"]
    started = time.monotonic()
    found = {x.name: x for x in probe_all(samples(*names), job=jobs.behave, timeout=1, workers=2)}
    assert list(found) == names and time.monotonic() - started < 300
    assert {name: x.message for name, x in found.items() if x.check == "file.unreadable"} == {
        "hang": "hang: no answer within 1 s (--timeout)",
        "crash": "crash: the process that read it died (SIGSEGV)",
        "raise": "raise: MemoryError: too large",
        "hang again": "hang again: no answer within 1 s (--timeout)",
    }
    assert {x.message for x in found.values() if x.check is None} == {"light"}  # torch is not loaded
    assert multiprocessing.active_children() == []


def test_few_files_are_submitted_ahead(jobs, monkeypatch):
    monkeypatch.setattr(probe_module, "AHEAD", 3)
    handed_out = []
    hand_out = worker_pool.submit
    monkeypatch.setattr(worker_pool, "submit", lambda *x: handed_out.append(x[2]) or hand_out(*x))
    for i, x in enumerate(probe_all(samples(*map(str, range(20))), job=jobs.behave, workers=2)):
        assert x.name == str(i) and len(handed_out) <= i + 3


def test_a_pool_that_breaks_is_replaced_and_no_file_is_lost(jobs, monkeypatch):
    answer_of, calls = worker_pool.result_of, []

    def breaks(*arguments):
        calls.append(arguments)
        if len(calls) in (2, 3):
            raise BrokenProcessPool("as pebble does")
        return answer_of(*arguments)

    monkeypatch.setattr(worker_pool, "result_of", breaks)
    assert [x.name for x in probe_all(samples(*"abcd"), job=jobs.behave, workers=1)] == list("abcd")


def test_closing_the_iterator_ends_busy_workers(jobs):
    with closing(probe_all(samples("a", "hang", "hang 2"), job=jobs.behave, workers=2)) as stream:
        assert next(stream).name == "a" and len(multiprocessing.active_children()) == 2
        started = time.monotonic()
    assert time.monotonic() - started < 300 and multiprocessing.active_children() == []


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"workers": 0}, {"frames": 0}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="must be positive"):
        next(probe_all(samples("a"), **wrong))


@pytest.mark.parametrize(
    ("count", "frames", "decoded"), [(1, 4, [0]), (9, 2, [0, 2, 4, 6, 8]), (9, 1, [0, 4, 8])]
)
def test_first_last_and_uniform_frames_and_borders_are_decoded(tmp_path, monkeypatch, count, frames, decoded):
    wanted, read = [], probe_module.read_frames_and_notes
    monkeypatch.setattr(
        probe_module,
        "read_frames_and_notes",
        lambda video, choose: wanted.extend(choose(len(video))) or read(video, choose),
    )
    write_video(tmp_path / "a.mp4", numbered_frames(count))
    probe_module.probe_file(str(tmp_path / "a.mp4"), None, None, False, frames=frames, decode=True)
    assert wanted == decoded


def test_frozen_needs_at_least_two_frames_all_equal(tmp_path):
    still = np.full((9, 32, 32, 3), 90, np.uint8)
    late = still.copy()
    late[-1] = 200
    for name, frames in (("one", still[:1]), ("two", still[:2]), ("late", late)):
        write_video(tmp_path / f"{name}.mp4", frames)
    every = samples(*(tmp_path / f"{x}.mp4" for x in ("one", "two", "late")))
    assert [x.frozen for x in probe_all(every, workers=1)] == [False, True, False]
    assert [x.frozen for x in probe_all(every, workers=1, decode=False, hashed=False)] == [False] * 3


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start(code, jobs):
    """A script in a new process group, and a function that tells whether a process of the group is alive."""
    path = os.pathsep.join([os.path.dirname(jobs.__file__), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )

    def alive():
        """Zombies do not count."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
                found += [stat] * (int(group) == process.pid and state != "Z")
        return bool(found)

    return process, alive


HANGS = """
import sys
from probe_jobs import behave
from videossp.data.datasets import Sample
from videossp.data.doctor.probe import probe_all
names = ["a", "hang", "hang 2"]
try:
    for x in probe_all([Sample(x, x, 0) for x in names], job=behave, workers=2):
        print(x.name, flush=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are listed by /proc")


@needs_proc
def test_ctrl_c_stops_at_once_silently_and_leaves_no_process(jobs):
    process, alive = start(HANGS, jobs)
    assert process.stdout.readline() == "a\n"
    os.killpg(process.pid, signal.SIGINT)  # to the workers, too, as a terminal does
    started = time.monotonic()
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130 and (stdout, stderr) == ("", "") and time.monotonic() - started < 300
    wait_for(lambda: not alive())


@needs_proc
def test_workers_end_when_their_parent_is_killed(jobs):
    process, alive = start(HANGS, jobs)
    assert process.stdout.readline() == "a\n"
    process.kill()
    process.communicate(timeout=300)
    wait_for(lambda: not alive())


LATE = """
import sys, time
from pathlib import Path
if "--multiprocessing-fork" in sys.orig_argv:
    while not Path(__file__).with_name("stopping").exists():
        time.sleep(0.01)
"""
STOPS = """
import sys
from pathlib import Path
from pebble.pool.process import WorkerManager
from videossp.system.worker_pool import pool_of
end = WorkerManager.force_stop_workers
def end_late(manager):  # as if the workers reached their locks between the two steps of pebble's stop
    Path(sys.argv[1], "stopping").touch()
    for worker in manager.workers.values():
        worker.join(300)
    end(manager)
WorkerManager.force_stop_workers = end_late
with pool_of(2):
    pass
"""


def test_a_pool_that_stops_while_its_workers_start_prints_nothing(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(LATE)
    done = subprocess.run(
        [sys.executable, "-c", STOPS, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_script_without_a_main_guard_gets_a_clear_error(tmp_path, jobs):
    script = tmp_path / "script.py"
    script.write_text(HANGS)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(jobs.__file__), *sys.path])},
    )
    assert done.returncode == 1 and done.stdout == ""
    assert "RuntimeError: the processes that read videos end as they start" in done.stderr
