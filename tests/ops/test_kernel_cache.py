"""Compiled kernels on disk: read again if intact, compiled again if not."""

import importlib
import os
import random
import subprocess
import sys

import numba
import numpy as np
import pytest

from videossp.ops import kernel_cache, simd

SOURCE = """
def double(x, n):
    for i in range(n):
        x[i] *= 2
"""
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from some_kernels import double
from videossp.ops.simd import kernel
double = kernel()(double)
for dtype in sys.argv[2:]:
    x = np.ones(3, dtype)
    double(x, 2)
    assert x.tolist() == [2, 2, 1], x
print(sum(double.stats.cache_hits.values()))
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty folder for compiled kernels, in which Numba looks from now on."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def double(tmp_path, monkeypatch):
    """A kernel's function, in a module of its own."""
    (tmp_path / "some_kernels.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "some_kernels", raising=False)
    return importlib.import_module("some_kernels").double


def run(function, dtype=np.float32):
    """Use a kernel as a new process does; returns whether it came from the cache."""
    compiled = simd.kernel()(function)
    x = np.ones(3, dtype)
    compiled(x, 2)
    assert x.tolist() == [2, 2, 1]
    return bool(compiled.stats.cache_hits)


def files(cache):
    return {path: path.read_bytes() for path in sorted(cache.rglob("*")) if path.is_file()}


def test_each_signature_is_compiled_once(double, cache):
    assert [run(double, x) for x in (np.float32, np.float64, np.float32, np.float64)] == [False] * 2 + [
        True
    ] * 2
    assert len(files(cache)) == 2


@pytest.mark.parametrize(
    "damage", ["empty", "cut at 10", "cut in half", "noise", "one bit", "another file's"]
)
def test_a_damaged_file_is_a_miss_and_is_made_again_once(double, cache, damage):
    run(double)
    run(double, np.float64)
    for path, content in (intact := files(cache)).items():
        spoiled = {
            "empty": b"",
            "cut at 10": content[:10],
            "cut in half": content[: len(content) // 2],
            "noise": random.Random(0).randbytes(len(content)),
            "one bit": content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
            "another file's": next(x for other, x in intact.items() if other != path),
        }
        path.write_bytes(spoiled[damage])
    assert not run(double) and not run(double, np.float64)
    assert run(double) and run(double, np.float64)
    assert files(cache).keys() == intact.keys()


def test_code_of_other_versions_or_of_an_older_source_is_replaced(double, cache, tmp_path, monkeypatch):
    run(double)
    with monkeypatch.context() as patch:
        patch.setattr(kernel_cache, "VERSIONS", "of another year")
        assert not run(double) and run(double)
    assert not run(double) and run(double)
    (tmp_path / "some_kernels.py").write_text(SOURCE + "# changed\n")
    assert not run(double) and run(double)
    assert len(files(cache)) == 1


def test_a_kernel_computes_though_its_cache_cannot_be_written_or_read(double, cache, monkeypatch):
    run(double)
    ((path, _),) = files(cache).items()
    path.unlink()
    path.mkdir()
    assert not run(double) and not run(double)
    path.rmdir()
    monkeypatch.setattr(kernel_cache, "atomic_write", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    assert not run(double) and not files(cache)


def test_two_processes_at_once_leave_intact_files(double, cache, tmp_path):
    """They compile the same kernel for two types in opposite order."""
    run(double)
    for path in files(cache):
        path.write_bytes(b"damaged")
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    types = ["float32", "float64"]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, tmp_path, *order],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for order in (types, types[::-1])
    ]
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert run(double) and run(double, np.float64) and len(files(cache)) == 2
