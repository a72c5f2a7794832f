"""Every method on a GPU without values: one device, no waiting, the dtypes that are promised."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from torch.utils import backend_registration

from videossp.methods import METHODS

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("fake_gpu.py")
SEVERAL = [*METHODS, "ssp+lora"]
PRECISIONS = ("float32", "bf16")
# Variants that place or compute something else on a device than the defaults.
VARIANTS = [
    ("partial", {"parts": ["A", "D", "dt_bias", "conv", "norm", "position"]}),
    ("adapter", {"scale": None, "reads": "norm", "drop": 0.1}),
    ("st_adapter", {"layers": 1, "kernel": [3, 2, 2], "residual": False}),
    ("lora", {"targets": ["in_proj.x", "x_proj.B", "dt_proj"], "drop": 0.1}),
    *(("vpt", {"position": x}) for x in ("prepend", "suffix", "prefix_suffix", "per_frame")),
    ("vpt", {"deep": False}),
    ("vpt", {"accumulate": True}),
    ("vfpt", {"share": 1.0, "dimension": "hidden", "norm": "ortho"}),
    ("svp", {"groups": 2}),
    ("additional_scan", {"start": "s4d"}),
    ("additional_scan", {"start": "last", "silent": True}),
    ("affix", {"start": "zero"}),
    ("state_offset", {"of": "output"}),
    ("stop", {"importance": "batch", "position": "frame_end"}),
    ("ssp", {"prompts": 0, "gather_width": 64}),
    ("ssp", {"token": "mean", "importance": "constant", "detach": False}),
    ("ssp", {"token": "first+last", "importance": "batch"}),
    ("ssp", {"gather_kernel": [1, 3, 3], "reads": "residual"}),
    ("ssp", {"gathering": False}),
    ("vpt+additional_scan+affix", {}),
]


def faults(cases):
    """The faults of cases, lists of keyword arguments of `run` in fake_gpu.py, in a process of its own."""
    command = [sys.executable, "-W", "ignore", str(SCRIPT)]
    done = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(autouse=True)
def _private_function():
    """torch's private registration of a device; it must be there in the torch that the suite is pinned to."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pinned = (ROOT / "constraints.txt").read_text().split()
        assert f"torch=={version('torch').partition('+')[0]}" not in pinned
        pytest.skip("this torch cannot register a device from Python")


def test_every_method_trains_and_predicts_on_a_gpu_in_both_precisions():
    """No mismatch of devices, no synchronisation, no tensor made on the CPU, and each gradient in place.

    One process and one test for all, because the registration and its imports cost more than the cases.
    """
    cases = [(x, {"precision": p, "kinds": ["train", "infer"]}) for x in SEVERAL for p in PRECISIONS]
    cases += [("ssp", {"precision": p, "kinds": ["checkpoint", "chunked"]}) for p in PRECISIONS]
    cases += [("ssp", {"kinds": ["merge"]}), ("planted", {})]
    assert {json.dumps(c): f for c, f in zip(cases, faults(cases), strict=True) if f} == {}
