"""Which kernel runs on a GPU, why not Triton, and how autograd, torch.compile and a whole model see it."""

import json
import os
import re
import subprocess
import sys
import types
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_scan import arguments, close
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from conftest import SSP_SMALL, switch_on
from videossp.classifier import Classifier
from videossp.errors import VideoSSPWarning
from videossp.model.config import BACKBONES, VideoMambaConfig
from videossp.ops import dispatch, scan_cpu, triton_ready
from videossp.ops.conv import conv_silu
from videossp.ops.dispatch import kernels, scan_kernel
from videossp.ops.gate import gate
from videossp.ops.norm import add_norm
from videossp.ops.reference import scan_reference
from videossp.ops.scan import MOST_STATES, Scan, scan_fits, selective_scan
from videossp.ops.triton_ready import unusable_version, why_not_triton

ROOT = Path(__file__).parents[2]
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
TINY = VideoMambaConfig(depth=1, d_model=32, frames=2, size=(32, 32), d_state=4)


def on_gpu(x):
    """A fake tensor like x on a GPU; call it within FakeTensorMode."""
    return torch.empty(x.shape, dtype=x.dtype, device=CUDA)


@pytest.fixture
def usable(monkeypatch):
    """Triton can be used, whatever is installed."""
    monkeypatch.setattr(dispatch, "triton_is_usable", lambda: True)


@pytest.fixture
def unusable(monkeypatch):
    """Triton cannot be used, nor mamba_ssm, and no warning was issued yet."""
    monkeypatch.setattr(triton_ready, "_installed", "no Triton here")
    monkeypatch.setattr(dispatch, "mamba_ssm_is_built", lambda: False)
    monkeypatch.setattr(dispatch, "_told", False)


@pytest.fixture
def on_cpu(monkeypatch):
    """The Triton kernels compute with CPU tensors, in the interpreter."""
    pytest.importorskip("triton", "3.7", reason="needs triton >= 3.7, whose interpreter runs with NumPy 2.4")
    from videossp.ops import scan_triton

    monkeypatch.setattr(dispatch, "TRITON_DEVICES", ("cpu",))
    for name in ("scan_forward", "scan_backward"):  # the operator of a CPU calls these of Numba
        monkeypatch.setattr(scan_cpu, name, getattr(scan_triton, name))
    calls = []
    forward = scan_triton.scan_forward
    monkeypatch.setattr(scan_cpu, "scan_forward", lambda *a, **k: (calls.append(a), forward(*a, **k))[1])
    return calls


def test_triton_is_the_first_choice_on_a_gpu_and_numba_on_a_cpu(usable):
    assert scan_kernel(CUDA, torch.float32) == scan_kernel(CUDA, torch.bfloat16) == "triton"
    assert scan_kernel(CPU, torch.float32) == "numba"
    assert scan_kernel(CUDA, torch.float64) == scan_kernel(torch.device("mps"), torch.float32) == "chunked"
    with kernels("torch"):
        assert scan_kernel(CUDA, torch.float32) == "chunked"
    with FakeTensorMode():
        on_gpu, wide = torch.empty(1, 2, 3, device=CUDA), torch.empty(3, device=CUDA, dtype=torch.float64)
    assert dispatch.fused_on_gpu(on_gpu, None) and not dispatch.fused_on_gpu(on_gpu, wide)
    assert not dispatch.fused(on_gpu) and not dispatch.fused_on_gpu(torch.empty(3))


@pytest.mark.parametrize("installed", [{"mamba_ssm", "selective_scan_cuda"}, {"mamba_ssm"}, set()], ids=len)
def test_without_triton_mamba_ssm_scans_if_its_kernel_is_built(monkeypatch, unusable, installed):
    """The default build of mamba_ssm leaves its first kernel out and raises an error at the first scan."""
    monkeypatch.undo()
    monkeypatch.setattr(triton_ready, "_installed", "no Triton here")
    monkeypatch.setattr(dispatch, "find_spec", lambda name: name in installed)
    dispatch.mamba_ssm_is_built.cache_clear()
    try:
        assert scan_kernel(CUDA, torch.float32) == ("mamba_ssm" if len(installed) == 2 else "chunked")
    finally:
        dispatch.mamba_ssm_is_built.cache_clear()


@pytest.mark.parametrize("number", ["", "2.3.1", "3.2.0+git1"])
def test_a_triton_that_is_missing_or_too_old_is_named_in_one_line(number):
    reason = unusable_version(number)
    assert "\n" not in reason and (number or "not installed") in reason


@pytest.mark.parametrize("number", ["3.3.0", "3.7.1", "3.10.0", "4.0", "unknown"])
def test_other_versions_are_tried(number):
    assert unusable_version(number) == ""


def test_the_lowest_triton_of_the_extra_dev_is_the_lowest_that_can_be_used():
    lowest = re.search(r'"triton>=([\d.]+)', (ROOT / "pyproject.toml").read_text())[1]
    assert lowest == ".".join(map(str, triton_ready.LOWEST))


class PTXASError(Exception):
    """As Triton's, which is no RuntimeError."""


@pytest.mark.parametrize(
    "error",
    [
        PTXASError("PTXAS error: `ptxas` failed with error code 1\nfatal: sm_999 is not defined"),
        RuntimeError("Failed to find C compiler. Please specify via CC environment variable."),
        subprocess.CalledProcessError(1, ["gcc"]),
        FileNotFoundError(2, "No such file or directory", "/usr/bin/cc"),
        RuntimeError("0 active drivers ([]). There should only be one.\nmore"),
        ImportError("DLL load failed"),
    ],
    ids=lambda error: type(error).__name__ + str(error)[:1],
)
def test_a_first_launch_that_fails_is_a_reason_of_one_line(monkeypatch, capsys, error):
    launches = []

    class Kernel:
        def __getitem__(self, grid):
            launches.append(grid)
            print("the whole kernel")
            raise error

    math = types.ModuleType("videossp.ops.triton_math")
    math.nothing_kernel = Kernel()
    monkeypatch.setitem(sys.modules, math.__name__, math)
    monkeypatch.setattr(triton_ready, "_installed", "")
    monkeypatch.setattr(triton_ready, "_launched", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("TRITON_INTERPRET")
    reason = why_not_triton()
    assert reason.startswith("Triton ") and "\n" not in reason
    assert ("C compiler" in reason) == (
        "compiler" in str(error) or isinstance(error, (OSError, subprocess.CalledProcessError))
    )
    assert capsys.readouterr().out == ""
    assert why_not_triton() == reason and len(launches) == 1, "a launch is tried once"
    assert scan_kernel(CUDA, torch.float32) == "chunked"


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, torch.AcceleratorError, RuntimeError])
def test_an_error_of_the_gpu_in_the_first_launch_is_raised(monkeypatch, kind):
    class Kernel:
        def __getitem__(self, grid):
            raise kind("Triton Error [CUDA]: out of memory")

    math = types.ModuleType("videossp.ops.triton_math")
    math.nothing_kernel = Kernel()
    monkeypatch.setitem(sys.modules, math.__name__, math)
    with pytest.raises(kind, match="out of memory"):
        triton_ready.launch_failure()


def test_the_reason_is_told_once_and_the_scan_is_computed(monkeypatch, unusable):
    monkeypatch.setattr(dispatch, "TRITON_DEVICES", ("meta",))
    tensors = {name: x.to("meta") for name, x in arguments(1, 9, 4, 2).items()}
    with pytest.warns(VideoSSPWarning, match=r"^no Triton here\. The scan on meta .* plain torch") as told:
        ys = [selective_scan(Scan(**tensors)) for _ in range(2)]
    assert len(told) == 1 and all(y.shape == (1, 9, 4) for y in ys)


def test_nothing_is_told_on_a_cpu_or_where_plain_torch_is_chosen(monkeypatch, unusable):
    monkeypatch.setattr(dispatch, "TRITON_DEVICES", ("meta",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        selective_scan(Scan(**arguments(1, 9, 4, 2, dtype=torch.float64)))
        with kernels("torch"):
            selective_scan(Scan(**{name: x.to("meta") for name, x in arguments(1, 9, 4, 2).items()}))


def test_a_cpu_predicts_without_triton_and_without_the_import_of_torchs_compiler():
    """In a process where triton cannot be imported. The compiler would take two seconds."""
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch; from videossp.classifier import Classifier\n"
        "small = Classifier.create(num_classes=2, weights='random', frames=2, size=32)\n"
        "with torch.no_grad(): small.probabilities(torch.zeros(1, 3, 2, 32, 32))\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "endings = '_triton', 'triton_math', 'triton_operators', 'triton_launch'\n"
        "assert not [x for x in sys.modules if x.startswith('videossp') and x.endswith(endings)]\n"
        "from videossp.ops.triton_ready import why_not_triton; print(why_not_triton())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert "Triton is not installed" in done.stdout, done.stderr


def operations(u, delta, A, B, C, weight, bias, norm):
    """All operations that Triton computes, one after the other."""
    u, u_b = conv_silu(u, weight, bias, weight, bias)
    y = selective_scan(Scan(u, delta, A, B, C, reverse=True))
    return add_norm(u_b, gate(y, u_b, delta), norm)


def operation_arguments(batch=2, length=70, d_inner=8, d_state=4):
    tensors = list(arguments(batch, length, d_inner, d_state).values())[:5]
    return [*tensors, torch.randn(d_inner, 1, 4), torch.randn(d_inner), torch.randn(d_inner)]


NODES = [f"videossp.{x}.default" for x in ("conv_silu", "selective_scan", "gate", "add_norm")]


def operators_of(graph):
    names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    return [x for x in names if x != "<built-in function getitem>"]


def test_traced_on_a_gpu_every_operation_is_one_node(usable):
    with FakeTensorMode(allow_non_fake_inputs=True):
        inputs = [on_gpu(x) for x in operation_arguments()]
        graph = make_fx(operations)(*inputs)
        outputs = operations(*inputs)
    assert operators_of(graph) == NODES
    assert all(x.device.type == "cuda" and x.shape == (2, 70, 8) for x in outputs)


def test_torch_compile_sees_one_node_and_no_break(on_cpu):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    inputs = operation_arguments(1, 3, 4, 2)
    compiled = torch.compile(operations, backend=backend, fullgraph=True)(*inputs)
    (graph,) = graphs
    operators = [x for x in operators_of(graph) if x.startswith("videossp")]
    assert operators == NODES
    for actual, expected in zip(compiled, operations(*inputs), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("states", [MOST_STATES["triton"], MOST_STATES["triton"] + 1])
def test_more_states_than_the_kernel_takes_are_computed_by_plain_torch(on_cpu, states):
    tensors = arguments(1, 2, 3, states)
    expected = scan_reference(**{name: x.double() for name, x in tensors.items()})
    close(selective_scan(Scan(**tensors)).double(), expected, 1e-5)
    assert len(on_cpu) == (states <= MOST_STATES["triton"])


def test_a_clip_beyond_32_bits_and_too_many_clips_are_computed_by_plain_torch():
    with FakeTensorMode():
        most, more = torch.empty(65_535, 2, 8), torch.empty(65_536, 2, 8)
        fits, wide = torch.empty(9, 1000, 1152), torch.empty(1, 2**21, 1152)
        sliced = torch.empty(1, 2**20, 4096)[..., :1152]
    assert scan_fits(fits) and not scan_fits(fits, wide) and not scan_fits(sliced)
    assert scan_fits(most) and not scan_fits(more)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autograd_of_the_operator_gives_the_gradients_of_the_reference(on_cpu, dtype):
    """The path of a model: bfloat16 of the projections, gradients in the dtypes of the arguments."""
    tensors = arguments(1, 5, 6, 3)
    for name in ("u", "delta", "B", "C"):
        tensors[name] = tensors[name].to(dtype)
    runs = []
    for wide in (False, True):
        inputs = {name: (x.double() if wide else x).detach().requires_grad_() for name, x in tensors.items()}
        y = scan_reference(**inputs) if wide else selective_scan(Scan(**inputs))
        runs.append([y, *torch.autograd.grad(y.sum(), list(inputs.values()))])
    assert [x.dtype for x in runs[0]] == [dtype, *(x.dtype for x in tensors.values())]
    for actual, expected in zip(*runs, strict=True):
        close(actual.double(), expected, 1e-5 if dtype == torch.float32 else 1.2e-2)


def test_a_second_derivative_of_the_scan_is_an_error(on_cpu):
    tensors = {name: x.requires_grad_() for name, x in arguments(1, 2, 3, 2).items()}
    with pytest.raises(RuntimeError, match="selective_scan_backward.* no autograd formula"):
        (grad,) = torch.autograd.grad(selective_scan(Scan(**tensors)).sum(), tensors["u"], create_graph=True)
        torch.autograd.grad(grad.sum(), tensors["delta"])


@pytest.mark.parametrize("method", ["ssp", "full", "additional_scan", "affix", "state_offset"])
def test_a_training_step_of_a_model_equals_that_of_numba(monkeypatch, request, method):
    """Logits and every gradient. Some methods give the scan a first state, or more positions or states."""
    depth = 2 if method == "ssp" else 1  # its second prompt begins behind the first block
    monkeypatch.setitem(BACKBONES, "videomamba_tiny_test", replace(TINY, depth=depth))
    torch.manual_seed(0)
    options = SSP_SMALL if method == "ssp" else {}
    classifier = Classifier.create("videomamba_tiny_test", num_classes=2, method=method, **options)
    switch_on(classifier)
    trainable = list(classifier.trainable().values())
    clips = torch.randn(1, 3, 2, 32, 32)

    def step():
        logits = classifier(clips)
        return [logits, *torch.autograd.grad(logits.square().sum(), trainable)]

    expected = step()
    calls = request.getfixturevalue("on_cpu")
    actual = step()
    assert len(calls) == 2 * depth, "both directions of every block"
    for ours, numba in zip(actual, expected, strict=True):
        close(ours, numba, 1e-5)


@pytest.mark.parametrize("reason", ["", "Triton 3.2 is too old: install 3.3 or newer"])
def test_info_names_the_kernel_of_a_gpu_and_why_it_is_not_triton(monkeypatch, call, reason):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(triton_ready, "_installed", reason)
    monkeypatch.setattr(triton_ready, "triton_version", lambda: "3.2" if reason else "3.7.1")
    monkeypatch.setattr(dispatch, "mamba_ssm_is_built", lambda: False)
    code, stdout, _ = call("info", "--json")
    facts = json.loads(stdout)
    assert code == 0 and facts["scan on cpu"] == "numba" and facts["triton"] == ("3.2" if reason else "3.7.1")
    assert facts["scan on cuda"] == ("chunked" if reason else "triton")
    assert facts.get("no triton", "") == reason


def test_info_of_a_cpu_does_not_ask_for_triton(monkeypatch, call):
    monkeypatch.setattr(triton_ready, "_installed", "Triton is not installed")
    monkeypatch.setattr(triton_ready, "triton_version", lambda: "")
    assert not {"triton", "no triton", "scan on cuda"} & set(json.loads(call("info", "--json")[1]))
