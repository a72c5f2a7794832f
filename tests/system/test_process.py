"""Settings and memory of a process, and imports on systems without POSIX modules."""

import subprocess
import sys

import pytest

from conftest import numbered_frames, write_video

# Windows has none of these modules, functions, signals and flags; macOS lacks some. The third-party libraries
# are imported first, since theirs for POSIX expect them.
ELSEWHERE = """
import ast, importlib, os, pkgutil, signal, sys
from pathlib import Path
import videossp

MODULES = {"fcntl", "resource", "termios", "pwd", "grp", "tty", "pty", "syslog", "readline"}
ATTRIBUTES = {
    os: "fork killpg getpgid setsid getuid geteuid getgid nice uname sysconf statvfs getloadavg mkfifo "
        "register_at_fork sched_getaffinity sched_setaffinity O_NOFOLLOW O_CLOEXEC O_NONBLOCK O_DIRECTORY",
    signal: "SIGKILL SIGHUP SIGUSR1 SIGUSR2 SIGALRM SIGCHLD SIGPIPE SIGXFSZ SIGQUIT alarm setitimer sigwait "
            "pthread_sigmask pthread_kill",
}

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in MODULES:
            raise ModuleNotFoundError(f"{name} is hidden", name=name)

names = set()
for file in Path(videossp.__file__).parent.rglob("*.py"):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {x.name for x in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
for name in sorted(names):
    if name.split(".")[0] not in {"videossp", "mamba_ssm", *MODULES}:
        importlib.import_module(name)
assert {x for x in sys.modules if x.startswith("videossp.")} <= {"videossp.system", "videossp.system.process"}
os.environ.setdefault("USERNAME", "somebody")  # as on Windows: getpass.getuser needs no pwd then
for name in MODULES:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Hidden())
for module, attributes in ATTRIBUTES.items():
    for name in attributes.split():
        if hasattr(module, name):
            delattr(module, name)

imported = set()
for module in pkgutil.walk_packages(videossp.__path__, "videossp."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        imported.add(module.name)
assert {"videossp.system.files", "videossp.bench", "videossp.data.doctor.probe"} <= imported
classifier = videossp.Classifier.create("videomamba_nano", classes=["a", "b"])
(prediction,) = videossp.predict(classifier, [sys.argv[1]])
assert prediction.error is None and abs(sum(prediction.probabilities.values()) - 1) < 1e-5, prediction
"""


def run(code, *arguments, **environment):
    """The standard output of some Python code in a new process with nothing else in its environment."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, check=True, timeout=600, stdout=subprocess.PIPE, text=True, **environment
    ).stdout


def test_every_module_imports_and_prediction_works_without_posix(tmp_path):
    video = tmp_path / "tiny.mp4"
    write_video(video, numbered_frames(8))
    run(ELSEWHERE, video)


def test_the_settings_of_the_user_are_kept():
    code = (
        "import os; from videossp.system.process import prepare_process; prepare_process()\n"
        "print(os.environ.get('GOMP_SPINCOUNT'), os.environ['THP_MEM_ALLOC_ENABLE'])"
    )
    for environment, printed in [
        ({}, "10000 1"),
        ({"GOMP_SPINCOUNT": "7", "THP_MEM_ALLOC_ENABLE": "0"}, "7 0"),
        ({"OMP_WAIT_POLICY": "active", "MALLOC_ARENA_MAX": "1"}, "None 1"),
    ]:
        path = {"PYTHONPATH": ":".join(sys.path)}
        assert run(code, env=path | environment).strip() == printed


def test_peak_memory_includes_freed_memory():
    code = (
        "from videossp.system.process import peak_memory\n"
        "before = peak_memory(); x = bytearray(300_000_000); x[::4096] = b'1' * len(x[::4096]); del x\n"
        "print(before, peak_memory())"
    )
    before, after = map(float, run(code).split())
    assert after - before == pytest.approx(0.3, abs=0.03) and 0 < before < 0.2


@pytest.mark.skipif(sys.platform != "linux", reason="getrusage is right elsewhere")
def test_the_peak_of_the_memory_is_not_that_of_the_parent():
    code = (
        "import subprocess, sys; x = b'1' * 500_000_000\n"
        "child = 'from videossp.system.process import peak_memory; print(peak_memory())'\n"
        "subprocess.run([sys.executable, '-c', child], check=True)"
    )
    assert 0 < float(run(code)) < 0.2
