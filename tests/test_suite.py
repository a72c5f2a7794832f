"""The set-up of the tests themselves: Ctrl-C, and the cache of compiled kernels."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import conftest
from videossp.ops import scan_cpu

IGNORES = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"


def test_ctrl_c_works_in_tests_and_in_processes_that_they_start():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    child = "import signal; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    subprocess.run([sys.executable, "-c", child], check=True)


def test_ctrl_c_works_where_the_session_started_with_it_ignored():
    code = (
        f"{IGNORES}import os, conftest\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept KeyboardInterrupt:\n    print('interrupted')"
    )
    path = os.pathsep.join([str(Path(conftest.__file__).parent), *sys.path])
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, stdout=-1, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.stdout == "interrupted\n"


def test_kernels_are_cached_for_this_state_of_the_sources():
    folder = Path(scan_cpu._scan_block.stats.cache_path)
    assert folder.is_relative_to(conftest.kernel_cache())
    assert conftest.kernel_cache().parent == Path(__file__).parents[1] / ".numba_cache"


@pytest.mark.parametrize("change", ["edited", "added", "removed", "moved"])
def test_other_sources_have_another_kernel_cache(tmp_path, change):
    ops = tmp_path / "ops"
    shutil.copytree(Path(scan_cpu.__file__).parent, ops)
    before = conftest.kernel_cache(ops)
    (ops / "simd.py").touch()
    assert conftest.kernel_cache(ops) == before
    if change == "edited":
        (ops / "simd.py").write_text((ops / "simd.py").read_text() + "\n")
    elif change == "added":
        (ops / "new.py").touch()
    elif change == "removed":
        (ops / "norm.py").unlink()
    else:
        ops = ops.rename(tmp_path / "elsewhere")
    assert conftest.kernel_cache(ops) != before


@pytest.mark.slow
def test_cases_of_slow_tests_that_stay_in_make_test_exist():
    tests = Path(__file__).parent
    sources = {x: x.read_text(encoding="utf-8") for x in tests.rglob("test_*.py")}
    files = {name: [x for x, text in sources.items() if f"def {name}(" in text] for name in conftest.SLOW}
    assert all(len(x) == 1 for x in files.values()), files
    command = [sys.executable, "-m", "pytest", "-W", "ignore", "-p", "no:cacheprovider", "--collect-only"]
    listed = subprocess.run(
        [*command, *{str(x) for (x,) in files.values()}], cwd=tests.parent, check=True, stdout=-1, text=True
    ).stdout
    for name, cases in conftest.SLOW.items():
        kept = [x.split(f"::{name}")[1] for x in listed.splitlines() if f"::{name}" in x]
        assert sorted(kept) == sorted(f"[{x}]" for x in cases), name
