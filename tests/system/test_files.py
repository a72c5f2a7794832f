"""Atomic writes and lock files."""

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from videossp.system.files import atomic_write, exclusive_lock

HOLD = """
import sys
from pathlib import Path
from videossp.system.files import exclusive_lock
with exclusive_lock(Path(sys.argv[1]), "held"):
    print("held", flush=True)
    sys.stdin.read()
"""
FORK = """
import os, sys, time
from pathlib import Path
from videossp.system.files import exclusive_lock
with exclusive_lock(Path(sys.argv[1]), "held"):
    if not os.fork():
        print(os.getpid(), flush=True)
        time.sleep(1000)
        os._exit(0)
    if sys.argv[2] == "killed":
        time.sleep(1000)
"""
TAKE = """
import sys
from pathlib import Path
from videossp.system.files import exclusive_lock
with exclusive_lock(Path(sys.argv[1]), "busy: choose another folder"):
    pass
"""


@pytest.fixture
def umask():
    """Sets the umask of this process for one test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def holder(lock):
    """A process that holds a lock until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_write_replaces_the_file_and_leaves_no_draft(tmp_path):
    file = tmp_path / "a.json"
    for text in ("first, and longer", "zweite: ä", ""):
        atomic_write(file, text)
        assert file.read_bytes() == text.encode()
    atomic_write(file, b"\x00\xff")
    assert file.read_bytes() == b"\x00\xff" and list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of the file size")
def test_a_full_disk_leaves_the_earlier_file_and_no_draft(tmp_path):
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from videossp.system.files import atomic_write\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    atomic_write(Path(sys.argv[1]), b'n' * 5000)\n"
        "except OSError as error:\n    sys.exit(f'refused: {error}')"
    )
    file = tmp_path / "a.bin"
    file.write_bytes(b"earlier")
    ended = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True)
    assert ended.returncode == 1 and "refused" in ended.stderr
    assert file.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [file]


def test_a_write_replaces_a_link_and_spares_its_target(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("precious")
    link.symlink_to(target)
    atomic_write(link, "new")
    assert target.read_text() == "precious" and link.read_text() == "new" and not link.is_symlink()


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_write_honours_the_umask(tmp_path, umask, mask, mode):
    umask(mask)
    for name in ("new", "replaced"):
        file = tmp_path / name
        if name == "replaced":
            file.write_text("earlier")
        atomic_write(file, "text")
        assert stat.S_IMODE(file.stat().st_mode) == mode


def test_two_threads_that_write_one_file_leave_one_of_their_contents(tmp_path):
    file, start, errors = tmp_path / "a", threading.Barrier(4), []

    def write(text):
        start.wait()
        try:
            for _ in range(50):
                atomic_write(file, text)
        except OSError as error:
            errors.append(error)

    contents = [str(i) * 70_000 for i in range(4)]
    threads = [threading.Thread(target=write, args=(x,)) for x in contents]
    for x in threads:
        x.start()
    for x in threads:
        x.join()
    assert not errors and file.read_text() in contents and list(tmp_path.iterdir()) == [file]


def test_a_lock_excludes_other_processes_with_the_given_message(tmp_path):
    lock = tmp_path / ".lock"
    with exclusive_lock(lock, "unused"):
        ended = subprocess.run([sys.executable, "-c", TAKE, lock], capture_output=True, text=True)
        assert ended.returncode == 1 and ended.stderr.endswith("ValueError: busy: choose another folder\n")
    assert subprocess.run([sys.executable, "-c", TAKE, lock]).returncode == 0


def test_a_lock_excludes_a_second_use_in_this_process_and_thread(tmp_path):
    lock = tmp_path / ".lock"
    with exclusive_lock(lock, "unused"):
        for path in (lock, tmp_path / "x" / ".." / ".lock"):
            (tmp_path / "x").mkdir(exist_ok=True)
            with pytest.raises(ValueError, match="^second use$"), exclusive_lock(path, "second use"):
                pytest.fail("both hold it")
    with exclusive_lock(lock, "unused"):
        pass


def test_a_lock_excludes_other_threads(tmp_path):
    outcome = []

    def take():
        try:
            with exclusive_lock(tmp_path / ".lock", "other thread"):
                outcome.append("held")
        except ValueError as error:
            outcome.append(str(error))

    for expected in ("other thread", "held"):
        thread = threading.Thread(target=take)
        if expected == "held":
            thread.start()
        else:
            with exclusive_lock(tmp_path / ".lock", "unused"):
                thread.start()
                thread.join()
        thread.join()
        assert outcome.pop() == expected


def test_a_lock_ends_with_an_error_in_its_block(tmp_path):
    with pytest.raises(KeyError), exclusive_lock(tmp_path / ".lock", "unused"):
        raise KeyError
    with exclusive_lock(tmp_path / ".lock", "still held"):
        pass


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_process_releases_its_lock(tmp_path):
    lock = tmp_path / ".lock"
    with holder(lock) as process:
        with pytest.raises(ValueError, match="^busy$"), exclusive_lock(lock, "busy"):
            pytest.fail("both hold it")
        process.kill()
        process.wait()
        with exclusive_lock(lock, "still held"):
            pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("end", ["killed", "ended"])
def test_a_child_that_outlives_its_parent_does_not_hold_the_lock(tmp_path, end):
    """As a worker that hangs in a decoder when its training is killed, or has failed."""
    lock = tmp_path / ".lock"
    command = [sys.executable, "-c", FORK, lock, end]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        try:
            if end == "killed":
                with pytest.raises(ValueError, match="^busy$"), exclusive_lock(lock, "busy"):
                    pytest.fail("both hold it")
                process.kill()
            process.wait()
            with exclusive_lock(lock, "still held"):
                os.kill(child, 0)  # it lives
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_end_of_the_block_in_a_child_leaves_the_lock_and_the_files_of_both_alone(tmp_path):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from videossp.system.files import exclusive_lock\n"
        "with exclusive_lock(Path(sys.argv[1]), 'held'):\n"
        "    if not (child := os.fork()):\n"
        "        other = os.open(sys.argv[1], os.O_RDONLY)  # takes the number that is free\n"
        "    else:\n        os.waitpid(child, 0)\n"
        "        try:\n"
        "            with exclusive_lock(Path(sys.argv[1]), 'as it should be'):\n                pass\n"
        "        except ValueError as error:\n            print(error)\n"
        "if not child:\n    os.fstat(other)\n    print('child')"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / ".lock"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("child\nas it should be\n", "")


def test_the_content_of_a_lock_file_is_kept(tmp_path):
    lock, other = tmp_path / ".lock", tmp_path / "other"
    other.write_text("precious")
    os.link(other, lock)
    with exclusive_lock(lock, "unused"):
        assert other.read_text() == "precious"
    assert other.read_text() == "precious" and lock.exists()


@pytest.mark.parametrize("target", ["file", "missing", "folder"])
def test_a_link_in_the_place_of_a_lock_file_is_refused(tmp_path, target):
    victim, lock = tmp_path / "victim", tmp_path / ".lock"
    if target == "file":
        victim.write_text("precious")
    elif target == "folder":
        victim.mkdir()
    lock.symlink_to(victim)
    with pytest.raises(ValueError, match=r"\.lock: .*symbolic link; remove it"), exclusive_lock(lock, "busy"):
        pytest.fail("held through a link")
    assert victim.exists() == (target != "missing")
    assert target != "file" or victim.read_text() == "precious"


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="no O_NOFOLLOW here")
def test_a_link_that_appears_after_the_check_is_not_followed(tmp_path, monkeypatch):
    lock = tmp_path / ".lock"
    lock.symlink_to(tmp_path / "victim")
    monkeypatch.setattr(Path, "is_symlink", lambda self: False)
    with pytest.raises(OSError, match=r"\.lock"), exclusive_lock(lock, "busy"):
        pytest.fail("held through a link")
    assert not (tmp_path / "victim").exists()
