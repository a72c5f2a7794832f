"""Every method on a GPU without values: one device, no waiting, the dtypes that are promised."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from filelock import FileLock
from torch.utils import backend_registration

from videossp.methods import METHODS

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("fake_gpu.py")
ALL = [*METHODS, "ssp+lora"]
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


PLANTED = {
    "nothing": "",
    "a weight without a gradient": "train: no gradient: tuner.unused",
    "a value read": "train: DataDependentOutputException: aten._local_scalar_dense",
    "a mask": "train: DynamicOutputShapeException",
    "a copy": "train: waits: copy from gpu:0 to cpu at model/videomamba.py",
    "a copy in the backward": "train: waits: copy from gpu:0 to cpu at backward",
    "a tensor made on the CPU": "train: on the CPU: ones () at model/videomamba.py",
    "a tensor of the CPU": "train: FakeTensorDeviceMismatchError",
    "a product in float32": "train: product at model/videomamba.py",
}
# In `make test` some methods train in bf16, the default on a GPU, and one does everything else.
SOME = ("ssp", "linear", "lora", "vpt", "stop")
FEW = {
    **{f"{x}-bf16": (x, {"precision": "bf16"}) for x in SOME},
    "ssp-float32": ("ssp", {"precision": "float32"}),
    "others": ("ssp", {"precision": "bf16", "kinds": ["checkpoint", "torch", "predict", "disabled"]}),
    "merge": ("ssp", {"kinds": ["merge"]}),
    **{name: ("planted", {"precision": "bf16", "fault": name}) for name in PLANTED},
}
MANY = [
    *((x, {"precision": "bf16"}) for x in ALL if x not in SOME),
    *((x, {"precision": "float32"}) for x in ALL),
    *((x, {"depth": 3, "precision": p, "kinds": ["checkpoint", "infer"]}) for x in ALL for p in PRECISIONS),
    *((x, {"precision": "bf16", "kinds": ["train", "predict"], **options}) for x, options in VARIANTS),
    *((x, {"kinds": ["torch"]}) for x in ("full", "additional_scan", "affix", "state_offset")),
    *((x, {"precision": "bf16", "kinds": ["features"]}) for x in ("linear", "mean", "attentive")),
    *((x, {"kinds": ["merge"]}) for x in ("vfpt", "lora", "st_adapter", "ssp+lora")),
    ("ssp", {"kinds": ["merge"], "prompts": 0, "gather_width": 64}),
]


def faults(cases):
    """The faults of cases, (method, other arguments) of `run` in fake_gpu.py, in a process of its own."""
    command = [sys.executable, "-W", "ignore", str(SCRIPT)]
    done = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    """The faults of FEW, by name; made once for all test processes."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        # A private function of torch: it must be there in the version that the suite is pinned to.
        pinned = (ROOT / "constraints.txt").read_text().split()
        assert f"torch=={version('torch').partition('+')[0]}" not in pinned
        pytest.skip("this torch cannot register a device from Python")
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    result = folder / "fake_gpu.json"
    with FileLock(folder / "fake_gpu.lock"):
        if not result.exists():
            result.write_text(json.dumps(dict(zip(FEW, faults([*FEW.values()]), strict=True))))
    return json.loads(result.read_text())


@pytest.mark.parametrize("name", [x for x in FEW if x not in PLANTED])
def test_a_gpu_never_waits_nor_sees_a_tensor_of_the_cpu(found, name):
    """Forward, backward, optimiser, prediction and merging stay on one device, in the promised dtypes."""
    assert found[name] == []


@pytest.mark.parametrize("name", PLANTED)
def test_the_gpu_without_values_finds(found, name):
    assert any(x.startswith(PLANTED[name]) for x in found[name]) == bool(PLANTED[name]) == bool(found[name])


@pytest.mark.slow
def test_variants_of_methods_checkpoints_features_and_merging_never_wait_for_a_gpu(found):
    assert {json.dumps(x): y for x, y in zip(MANY, faults(MANY), strict=True) if y} == {}
