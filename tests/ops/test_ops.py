"""The fused CPU operations against plain torch in float64: outputs and every gradient."""

import copy
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from videossp.methods.layers.attention import self_attention
from videossp.methods.layers.conv3d import SameConv3d
from videossp.methods.layers.depthwise import Depthwise
from videossp.ops import dispatch, matmul, simd
from videossp.ops.conv import conv_silu
from videossp.ops.entropy import softmax_entropy
from videossp.ops.gate import gate
from videossp.ops.matmul import Linear, _packed, linear
from videossp.ops.norm import add_norm
from videossp.ops.recompute import recompute_in_backward


def draw(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def conv_arguments(batch, length, width):
    x, z, *weights = draw((batch, length, width), (batch, length, width), *2 * [(width, 1, 4), (width,)])
    # A half of a wider tensor, as in_proj gives it.
    return [torch.cat([x, z], dim=-1)[..., :width], *weights]


CASES = {
    "conv_silu": (conv_silu, conv_arguments),
    "gate": (gate, lambda b, n, w: draw((b, n, w), (b, n, w), (b, n, w))),
    "add_norm": (add_norm, lambda b, n, w: draw((b, n, w), (b, n, w), (w,))),
    "linear": (linear, lambda b, n, w: draw((b, n, w), (w + 3, w), (w + 3,))),
}


def outputs_and_gradients(function, inputs, dtype, wanted=None):
    inputs = [x.to(dtype).detach() for x in inputs]
    wanted = range(len(inputs)) if wanted is None else wanted
    for i in wanted:
        inputs[i].requires_grad_()
    outputs = function(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    total = sum((y * torch.linspace(-1, 2, y.numel(), dtype=dtype).view(y.shape)).sum() for y in outputs)
    return [*outputs, *torch.autograd.grad(total, [inputs[i] for i in wanted])]


def close(actual, expected, tolerance=1e-5):
    assert actual.shape == expected.shape
    assert torch.isfinite(actual).all()
    scale = expected.abs().max().clamp_min(1e-3)
    assert (actual.double() - expected).abs().max() <= tolerance * scale


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (1, 7, 96), (3, 130, 100)], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_fused_equals_plain_torch(nan_filled_empty, name, shape):
    function, make = CASES[name]
    inputs = make(*shape)
    assert dispatch.fused(*inputs)
    fast = outputs_and_gradients(function, inputs, torch.float32)
    for actual, expected in zip(fast, outputs_and_gradients(function, inputs, torch.float64), strict=True):
        close(actual, expected)


@pytest.mark.parametrize("name", CASES)
def test_one_gradient_alone_equals_that_of_all(nan_filled_empty, name):
    function, make = CASES[name]
    inputs = make(2, 9, 20)
    everything = outputs_and_gradients(function, inputs, torch.float32)[-len(inputs) :]
    for i, expected in enumerate(everything):
        alone = outputs_and_gradients(function, inputs, torch.float32, [i])[-1]
        torch.testing.assert_close(alone, expected)


@pytest.mark.parametrize("name", ["conv_silu", "gate", "add_norm"])
def test_bfloat16_is_computed_in_float32(name):
    """Rounding the inputs, computing in float32 and rounding the outputs gives the same numbers."""
    function, make = CASES[name]
    inputs = make(2, 9, 20)
    first = 1 if name == "add_norm" else 0  # the residual stays float32
    rounded = [x.bfloat16() if x.ndim == 3 and i >= first else x for i, x in enumerate(inputs)]
    outputs = function(*rounded)
    for y, wide in zip(outputs, function(*(x.float() for x in rounded)), strict=True):
        assert torch.equal(y, wide.to(y.dtype))
    assert (outputs[-1] if isinstance(outputs, tuple) else outputs).dtype == torch.bfloat16


def test_other_kernel_widths_use_plain_torch():
    inputs = draw((1, 6, 3), (3, 1, 2), (3,), (3, 1, 2), (3,))
    fast = outputs_and_gradients(conv_silu, inputs, torch.float32)
    for actual, expected in zip(fast, outputs_and_gradients(conv_silu, inputs, torch.float64), strict=True):
        close(actual, expected)


@pytest.mark.parametrize("value", [0.0, 30.0, -1e4])
def test_softmax_entropy_equals_that_of_a_categorical_distribution(value):
    (x,) = draw((2, 3, 130))
    x[0, 0] = value
    expected = torch.distributions.Categorical(logits=x.double()).entropy()
    torch.testing.assert_close(softmax_entropy(x).double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(softmax_entropy(x.double()).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", [(1, 1, 1), (3, 1, 1), (1, 3, 3)], ids=str)
def test_depthwise_equals_conv3d(kernel):
    layer = Depthwise(5, kernel)
    for weight in layer.parameters():
        nn.init.normal_(weight)
    (x,) = draw((2, 4, 6, 5))
    expected = nn.Conv3d.forward(layer, x.view(2, 4, 2, 3, 5).permute(0, 4, 1, 2, 3))
    torch.testing.assert_close(layer(x, (2, 3)), expected.permute(0, 2, 3, 4, 1).flatten(2, 3))


@pytest.mark.parametrize("channels, out", [(3, 9), (9, 1), (1, 2)])
@pytest.mark.parametrize("kernel", [(3, 5, 5), (5, 1, 3), (1, 3, 7), (5, 15, 25)], ids=str)
@pytest.mark.parametrize("volume", [(4, 6, 7), (1, 1, 9)], ids=str)
def test_same_conv3d_equals_conv3d(channels, out, kernel, volume):
    layer = SameConv3d(channels, out, kernel)
    (x,) = draw((2, channels, *volume))
    inputs = x, layer.weight.detach(), layer.bias.detach()

    def by_frames(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    def in_3d(x, weight, bias):
        return F.conv3d(x, weight, bias, padding="same")

    actuals = outputs_and_gradients(by_frames, inputs, torch.float32)
    for actual, expected in zip(actuals, outputs_and_gradients(in_3d, inputs, torch.float64), strict=True):
        close(actual, expected)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(x)
    torch.testing.assert_close(rounded.float(), layer(x), rtol=0.02, atol=0.02)


def saved_by_autograd(function):
    """Addresses of the tensors that autograd saves for the backward of a call, and its result."""
    addresses = set()

    def pack(x):
        addresses.add(x.data_ptr())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = function()
    return addresses, out


@pytest.mark.parametrize("shape", [(2, 8, 12), (1, 1, 12)])
def test_self_attention_equals_torchs_layer(shape):
    layer = nn.MultiheadAttention(12, 3, batch_first=True)
    nn.init.normal_(layer.in_proj_bias)
    (x,) = draw(shape)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    y, expected = self_attention(ours, layer), layer(theirs, theirs, theirs, need_weights=False)[0]
    torch.testing.assert_close(y, expected)
    dy = torch.randn_like(y)
    weights = list(layer.parameters())
    for grad, right in zip(
        torch.autograd.grad(y, [ours, *weights], dy),
        torch.autograd.grad(expected, [theirs, *weights], dy),
        strict=True,
    ):
        torch.testing.assert_close(grad, right)


def test_a_frozen_weight_costs_no_gradient_and_no_memory(monkeypatch):
    """Backward: two products if the weight is trainable, one if it is frozen, whose input is not saved."""
    from videossp.ops import matmul as module

    calls = []
    product = module._product
    monkeypatch.setattr(module, "_product", lambda *args: (calls.append(args), product(*args))[1])
    x, weight = draw((2, 5, 8), (6, 8))
    x.requires_grad_()
    for frozen, products in ((True, 1), (False, 2)):
        weight.requires_grad_(not frozen)
        saved, y = saved_by_autograd(lambda: linear(x, weight))
        assert (x.data_ptr() in saved) == (not frozen)
        calls.clear()
        y.sum().backward()
        assert len(calls) == products
    assert weight.grad.shape == weight.shape


def test_a_changed_frozen_weight_is_packed_again():
    (x,) = draw((3, 8))
    layer = Linear(8, 6).requires_grad_(False)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
            layer.weight.add_(1)
        layer.weight.data = torch.zeros(6, 8)
        torch.testing.assert_close(layer(x), layer.bias.expand(3, 6))
    layer(x.requires_grad_())
    assert not _packed, "training needs the memory"


def test_recomputed_tensors_are_not_saved_and_gradients_are_equal():
    x, weight = (t.requires_grad_() for t in draw((3, 4), (5, 4)))
    product = linear(x, weight)

    def work():
        with recompute_in_backward((product, lambda: linear(x, weight))):
            return product.sigmoid() * product

    expected = torch.autograd.grad((product.sigmoid() * product).sum(), [x, weight], retain_graph=True)
    saved, y = saved_by_autograd(lambda: product * product)
    assert product.data_ptr() in saved
    saved, y = saved_by_autograd(work)
    assert product.data_ptr() not in saved
    for actual, wanted in zip(torch.autograd.grad(y.sum(), [x, weight]), expected, strict=True):
        torch.testing.assert_close(actual, wanted)


def test_recomputation_uses_the_precision_of_the_forward():
    """The backward runs outside of autocast; without care it would recompute in float32."""
    x, weight = (t.requires_grad_() for t in draw((64, 32), (16, 32)))
    made = []

    def compute():
        made.append(linear(x, weight))
        return made[-1]

    with torch.autocast("cpu", torch.bfloat16):
        product = linear(x, weight)
        with recompute_in_backward((product, compute)):
            y = product * product
    y.sum().backward()
    assert made and all(torch.equal(z, product) for z in made)  # the same numbers, and bfloat16


def test_a_tensor_that_was_written_to_is_saved_not_recomputed():
    x, weight = (t.requires_grad_() for t in draw((3, 4), (5, 4)))
    product = linear(x, weight)
    product.add_(1.0)
    with recompute_in_backward((product, lambda: linear(x, weight))):
        y = product.sigmoid() * product
    (actual,) = torch.autograd.grad(y.sum(), x)
    plain = torch.nn.functional.linear(x, weight) + 1
    torch.testing.assert_close(actual, torch.autograd.grad((plain.sigmoid() * plain).sum(), x)[0])


def test_writing_to_a_saved_tensor_is_an_error():
    x, weight = (t.requires_grad_() for t in draw((3, 4), (5, 4)))
    (scale,) = draw((3, 5))
    product = linear(x, weight)
    with recompute_in_backward((product, lambda: linear(x, weight))):
        y = product * scale
    scale.add_(1.0)
    with pytest.raises(RuntimeError, match="written to after the forward"):
        y.sum().backward()


def test_a_second_derivative_is_an_error():
    y, y_b, z, residual = (x.requires_grad_() for x in draw((1, 4, 8), (1, 4, 8), (1, 4, 8), (1, 4, 8)))
    norm, weight = (x.requires_grad_() for x in draw((8,), (6, 8)))
    taps = [x.requires_grad_() for x in draw((8, 1, 4), (8,), (8, 1, 4), (8,))]
    for out in (gate(y, y_b, z), add_norm(residual, y, norm)[1], linear(y, weight), conv_silu(y, *taps)[0]):
        with pytest.raises(RuntimeError, match="no second derivative"):
            torch.autograd.grad(out.sum(), y, create_graph=True)


def test_no_rows_have_no_gradient():
    weight = torch.ones(3, 4, requires_grad=True)
    linear(torch.zeros(0, 2, 4), weight).sum().backward()
    assert torch.equal(weight.grad, torch.zeros(3, 4))


def test_weights_made_in_inference_mode_work():
    with torch.inference_mode():
        layer = Linear(8, 4).requires_grad_(False).bfloat16()
        x = torch.randn(2, 3, 8).bfloat16()
        expected = x.float() @ layer.weight.float().T + layer.bias.float()
        torch.testing.assert_close(layer(x).float(), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_products_are_those_of_rounded_factors_on_every_cpu(monkeypatch, supported):
    """oneDNN refuses bfloat16 on a CPU without the instructions for it."""
    if supported and not matmul.BFLOAT16:
        pytest.skip("this CPU has no instructions for bfloat16")
    monkeypatch.setattr(matmul, "BFLOAT16", supported)
    random = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(5, 7, n, generator=random).bfloat16() for n in (16, 24))
    layer = Linear(16, 24).bfloat16()
    exact = nn.Linear(16, 24).double()
    exact.load_state_dict(layer.state_dict())
    wide = x.double().requires_grad_()
    exact(wide).backward(dy.double())
    with torch.no_grad():
        frozen = layer.requires_grad_(False)(x)
    layer.requires_grad_()
    x.requires_grad_()
    layer(x).backward(dy)
    for ours, expected in (
        (frozen, exact(wide)),
        (x.grad, wide.grad),
        (layer.weight.grad, exact.weight.grad),
        (layer.bias.grad, exact.bias.grad),
    ):
        assert (ours - expected).norm() <= 4e-3 * expected.norm()


def test_linear_equals_torchs_layer():
    torch.manual_seed(0)
    ours = Linear(7, 5)
    theirs = nn.Linear(7, 5)
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    (x,) = draw((4, 7))
    torch.testing.assert_close(ours(x), theirs(x))


def test_the_torch_choice_turns_every_kernel_off():
    (x,) = draw((1, 2, 3))
    assert dispatch.fused(x) and dispatch.scan_kernel(x.device, x.dtype) == "numba"
    with dispatch.kernels("torch"):
        assert not dispatch.fused(x) and dispatch.scan_kernel(x.device, x.dtype) == "chunked"
    assert dispatch.fused(x) and not dispatch.fused(x.double())
    with pytest.raises(ValueError, match="auto, torch"), dispatch.kernels("fast"):
        pass


@pytest.mark.parametrize(
    ("value", "expected"), [("torch", "chunked"), ("fast", "must be one of auto, torch")]
)
def test_the_environment_variable_sets_the_choice(value, expected):
    code = "import torch; from videossp.ops.dispatch import *; "
    code += "print(scan_kernel(torch.device('cpu'), torch.float32))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, dispatch.VARIABLE: value},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert expected in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["exp2", "exp2_of_product", "softplus", "sigmoid"])
def test_kernel_functions_equal_those_of_float64(name):
    """Compiled here, as vector instructions: cached kernels may be older than the code."""
    function, two = getattr(simd, name), name == "exp2_of_product"
    use_widest_vectors = simd.use_widest_vectors

    def of_two(x, y, out):
        use_widest_vectors()
        for i in range(x.size):
            out[i] = function(x[i], y[i])

    def of_one(x, y, out):
        use_widest_vectors()
        for i in range(x.size):
            out[i] = function(x[i])

    run = numba.njit(**simd.OPTIONS)(of_two if two else of_one)

    x = np.linspace(-125.9, 0 if "exp2" in name else 125.9, 100_001, dtype=np.float32)
    y = np.linspace(1, 0.3, x.size, dtype=np.float32) if two else np.ones_like(x)
    out = np.empty_like(x)
    run(x, y, out)
    exact = x.astype(np.float64) * y
    expected = {
        "exp2": np.exp2,
        "exp2_of_product": np.exp2,
        "softplus": lambda v: np.logaddexp(0, v),
        "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    }[name](exact)
    normal = expected > 1e-37
    tolerance = 3e-7 if "exp2" in name else 2e-5  # an argument of 100 is itself rounded, by 4e-6
    assert (np.abs(out - expected)[normal] <= tolerance * expected[normal]).all()


def test_bfloat16_gradients_of_a_product_of_a_slice():
    """dt_proj reads a slice of the output of x_proj, whose rows are not adjacent in memory."""
    wide, weight, dy = draw((2, 40, 24), (16, 8), (2, 40, 16))
    wide, weight = wide.bfloat16().requires_grad_(), weight.bfloat16().requires_grad_()
    for_x, for_weight = torch.autograd.grad(linear(wide[..., :8], weight), (wide, weight), dy.bfloat16())
    rows, dy = wide.detach().double()[..., :8].flatten(0, 1), dy.bfloat16().double().flatten(0, 1)
    torch.testing.assert_close(for_weight.double(), dy.T @ rows, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(
        for_x[..., :8].double().flatten(0, 1), dy @ weight.detach().double(), rtol=1e-2, atol=1e-2
    )
    assert not for_x[..., 8:].any()
