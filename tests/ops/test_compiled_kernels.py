"""The Triton kernels compile for GPUs that are not there, with the results that the design relies on.

Registers and layouts are decisions of Triton and ptxas, so the tests hold for the version in constraints.txt.
"""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from conftest import CACHE

ROOT = Path(__file__).parents[2]
PINNED = re.search(r"^triton==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)[1]
try:
    INSTALLED = version("triton")
except PackageNotFoundError:
    INSTALLED = ""
BENCHMARKS = ROOT / "benchmarks"
TARGETS = ("80", "89", "90", "100", "gfx942")
NVIDIA = TARGETS[:4]
# `make test` leaves out the kernel that takes longest to compile.
CASES = [*((x, ["backward, all gradients"]) for x in ("80", "90")), *((x, []) for x in TARGETS)]
# Of VideoMamba-M in bfloat16: d_state 16, a walk over time is 4 unrolled steps and the rest.
PER_CHANNEL = ("ends", "ends, backward", "forward")


def compiled(*command):
    """What a process that compiles, and does not interpret, prints."""
    if INSTALLED != PINNED:
        pytest.skip(f"needs triton {PINNED}, found {INSTALLED or 'none'}")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(CACHE / "triton")
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def facts(target, *without):
    """What the compiler made of the kernels, by their names."""
    left_out = ["--without", *without] if without else []
    rows = compiled(BENCHMARKS / "compile_kernels.py", "--targets", target, "--json", *left_out)
    return {x["kernel"]: x for x in rows}


@pytest.mark.parametrize(
    "target, without", CASES, ids=lambda x: x if isinstance(x, str) else "".join(x) and "frozen"
)
def test_kernels_compile_without_spills_and_with_the_layouts_of_the_design(target, without):
    kernels = facts(target, *without)
    assert len(kernels) == 13 - len(without)
    lanes = 64 if target == "gfx942" else 32
    spilled = {name: x["stack"] for name, x in kernels.items() if x["stack"]}
    assert set(spilled) <= {"backward, all gradients"}, "nothing is spilled where the backbone is frozen"
    for name in PER_CHANNEL:
        assert kernels[name]["shared"] == 0, f"{name}: a thread has a channel"
    for name in kernels.keys() & {"carry", "backward, frozen weights", "backward, all gradients"}:
        assert kernels[name]["shared"] <= 4 * lanes, name
    if target not in NVIDIA:
        return
    for name, x in kernels.items():
        most = 255 if name.startswith("backward") else 128  # 16 warps a multiprocessor
        assert x["registers"] <= most, name
    for name in PER_CHANNEL:
        assert kernels[name]["shuffles"] == kernels[name]["barriers"] == 0, name
        assert kernels[name]["exponentials"] == 5 * 17, (
            f"{name}: one instruction each, 16 states and softplus"
        )
        assert kernels[name]["loads of 4"] >= 20, f"{name}: B and C"
    # 4 states x 4 channels in a thread: 40 exchanges in each of 4 steps. A channel in a thread takes 160.
    assert kernels["backward, frozen weights"]["shuffles"] == 160
    assert kernels["backward, frozen weights"]["loads of 4"] == 16
    for name in ("gate", "gate, backward"):
        assert kernels[name]["loads"] == kernels[name]["loads of 4"] == 3, name


def test_launches_with_real_arguments_compile_to_the_same_kernels():
    """Types, alignment and constants as the host code gives them. Sizes of 1 are constants."""
    launches = compiled(Path(__file__).with_name("compile_launches.py"), BENCHMARKS)
    scan = ["pack", "ends", "carry", "forward", "pack", "ends, backward", "carry", "backward, frozen weights"]
    others = ["convolution", "convolution, backward", "gate", "gate, backward"]
    expected, names = facts("90"), [*scan, *others]
    same = "registers", "stack", "shared", "shuffles", "loads of 4", "exponentials"
    for name, launch in zip(names, launches["VideoMamba-M"], strict=False):
        if name not in ("ends, backward", "carry"):  # the table has these for the forward and back alike
            assert [launch[x] for x in same] == [expected[name][x] for x in same], name
    assert len(launches["VideoMamba-M"]) == len(names) + 2, "and two of the norm"
    assert len(launches["others"]) == 2 * (4 + 6)
