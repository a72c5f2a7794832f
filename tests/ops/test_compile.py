"""The scan's operators as torch.compile and torch.export see them, and gradients of compiled code."""

import shutil

import pytest
import torch
from test_scan import arguments

from conftest import switch_on
from videossp.classifier import Classifier
from videossp.model.config import BACKBONES, VideoMambaConfig
from videossp.ops.scan import Scan, selective_scan

OPTIONAL = ("D", "delta_bias", "h0")
ALL, NONE = frozenset(OPTIONAL), frozenset()

needs_compiler = [
    pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler"),
    pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]


@pytest.fixture
def no_inductor_cache():
    """Without inductor's disk cache, whose keys do not contain the fake implementations of operators."""
    with torch._inductor.config.patch(force_disable_caches=True):
        yield


def operator_arguments(present, u_dtype, delta_dtype, batch=2, length=70, d_inner=5, d_state=3):
    """Tensors as `selective_scan` passes them to the operator: only u and delta may be bfloat16."""
    tensors = arguments(batch, length, d_inner, d_state)
    tensors |= {"u": tensors["u"].to(u_dtype), "delta": tensors["delta"].to(delta_dtype)}
    return [x if name in present or name not in OPTIONAL else None for name, x in tensors.items()]


# Numba compiles the kernels for each pair: the mixed ones are for `make test-all`.
DTYPES = [
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    pytest.param(torch.float32, torch.bfloat16, marks=pytest.mark.slow),
    pytest.param(torch.bfloat16, torch.float32, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("keep_states", [False, True])
@pytest.mark.parametrize("present", [ALL, NONE, frozenset({"h0"})], ids=lambda names: "+".join(sorted(names)))
@pytest.mark.parametrize("u_dtype, delta_dtype", DTYPES)
def test_the_fake_forward_matches_the_kernel(u_dtype, delta_dtype, present, keep_states):
    """torch's own check of the schema and of shapes, dtypes and strides of the fake implementation."""
    tensors = operator_arguments(present, u_dtype, delta_dtype)
    operator = torch.ops.videossp.selective_scan.default
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(operator, (*tensors, False, keep_states), test_utils=checks)


@pytest.mark.parametrize("wanted", [[True] * 8, [False] * 5 + [True] * 3, [True] * 5 + [False] * 3], ids=str)
@pytest.mark.parametrize("present", [ALL, NONE, frozenset({"h0"})], ids=lambda names: "+".join(sorted(names)))
@pytest.mark.parametrize("u_dtype, delta_dtype", DTYPES)
def test_the_fake_backward_matches_the_kernel(u_dtype, delta_dtype, present, wanted):
    tensors = operator_arguments(present, u_dtype, delta_dtype)
    y, states = torch.ops.videossp.selective_scan.default(*tensors, True, True)
    operator = torch.ops.videossp.selective_scan_backward.default
    args = (torch.randn_like(y), *tensors[:-1], states, True, wanted)
    torch.library.opcheck(operator, args, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_operator_passes_every_check_of_torch(dtype, learning):
    """Also autograd registration and dynamic shapes."""
    tensors = [x.requires_grad_(learning) for x in operator_arguments(ALL, dtype, dtype, length=10)]
    torch.library.opcheck(torch.ops.videossp.selective_scan.default, (*tensors, False, learning))


def test_export_sees_one_operator():
    class Layer(torch.nn.Module):
        def forward(self, u, delta, A, B, C):
            return selective_scan(Scan(u, delta, A, B, C))

    inputs = tuple(list(arguments(1, 20, 4, 3).values())[:5])
    program = torch.export.export(Layer(), inputs)
    operators = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert operators.count("videossp.selective_scan.default") == 1
    torch.testing.assert_close(program.module()(*inputs), selective_scan(Scan(*inputs)))


class TestInductor:
    """Compiled by torch's default backend, which allocates outputs by the fake implementations."""

    pytestmark = needs_compiler

    def test_every_bfloat16_gradient_of_a_scan_equals_the_eager_one(self, no_inductor_cache):
        tensors = arguments(2, 37, 6, 4)
        for name in ("u", "delta", "B", "C"):  # by the projections of a bfloat16 model
            tensors[name] = tensors[name].bfloat16()
        tensors = {name: x.requires_grad_() for name, x in tensors.items()}
        dy = torch.randn(2, 37, 6, generator=torch.Generator().manual_seed(1)).bfloat16()

        def scan(**tensors):
            return selective_scan(Scan(**tensors))

        eager = torch.autograd.grad(scan(**tensors), list(tensors.values()), dy)
        compiled = torch.autograd.grad(torch.compile(scan)(**tensors), list(tensors.values()), dy)
        for name, actual, expected in zip(tensors, compiled, eager, strict=True):
            torch.testing.assert_close(actual, expected, msg=lambda text, name=name: f"{name}: {text}")

    @pytest.mark.slow
    def test_bfloat16_gradients_of_full_tuning_equal_the_eager_ones(self, no_inductor_cache, monkeypatch):
        tiny = VideoMambaConfig(depth=1, d_model=32, frames=2, size=(32, 32), d_state=4)
        monkeypatch.setitem(BACKBONES, "videomamba_tiny_test", tiny)
        torch.manual_seed(0)
        classifier = Classifier.create("videomamba_tiny_test", num_classes=2, method="full")
        switch_on(classifier)
        trainable = classifier.trainable()
        clips = torch.randn(2, 3, 2, 32, 32)

        def gradients(model):
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(clips)
            return torch.autograd.grad(logits.float().square().sum(), list(trainable.values()))

        for name, actual, expected in zip(
            trainable, gradients(torch.compile(classifier)), gradients(classifier), strict=True
        ):
            assert (actual - expected).norm() <= 0.03 * expected.norm(), name
