"""Convolution, gate and norm in Triton, interpreted, against plain torch in float64, with gradients."""

import pytest
import torch
import torch.nn.functional as F

from videossp.ops import dispatch
from videossp.ops.conv import conv_silu
from videossp.ops.gate import gate
from videossp.ops.norm import add_norm
from videossp.ops.reference import conv_reference

pytest.importorskip("triton", "3.7", reason="needs triton >= 3.7, whose interpreter runs with NumPy 2.4")

from videossp.ops import conv_triton
from videossp.ops.triton_launch import even_rows


@pytest.fixture(autouse=True)
def on_triton(monkeypatch):
    """The operators compute on the CPU, in the interpreter. New memory is NaN."""
    monkeypatch.setattr(dispatch, "TRITON_DEVICES", ("cpu",))
    monkeypatch.setattr(conv_triton, "ROWS", 8)
    new_empty = torch.Tensor.new_empty

    def filled(*args, **kwargs):
        x = new_empty(*args, **kwargs)
        return x.fill_(float("nan")) if x.is_floating_point() else x

    monkeypatch.setattr(torch.Tensor, "new_empty", filled)


def draw(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def conv_arguments(batch, length, width):
    """x is a half of wider rows, as in_proj gives it."""
    x, *weights = draw((batch, length, 2 * width), *2 * [(width, 1, 4), (width,)])
    return [x, *weights]


def plain_conv(x, weight, bias, weight_b, bias_b):
    return conv_reference(x, weight, bias), conv_reference(x, weight_b, bias_b, reverse=True)


def plain_norm(residual, hidden, weight):
    total = residual + hidden
    return total, F.rms_norm(total, weight.shape, weight, 1e-5)


# Name: (operation, its definition, arguments). The first argument is a slice of wider rows.
CASES = {
    "conv_silu": (conv_silu, plain_conv, conv_arguments),
    "gate": (
        lambda z, y, y_b: gate(y, y_b, z),
        lambda z, y, y_b: (y + y_b) * F.silu(z),
        lambda b, n, w: draw((b, n, 2 * w), (b, n, w), (b, n, w)),
    ),
    "add_norm": (add_norm, plain_norm, lambda b, n, w: draw((b, n, 2 * w), (b, n, w), (w,))),
}


def outputs_and_gradients(function, inputs, wanted=None):
    inputs = [x.detach().requires_grad_(wanted is None or i in wanted) for i, x in enumerate(inputs)]
    width = inputs[0].shape[-1] // 2
    outputs = function(inputs[0][..., :width], *inputs[1:])
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    total = sum((y * torch.linspace(-1, 2, y.numel()).view(y.shape)).sum() for y in outputs)
    return [*outputs, *torch.autograd.grad(total, [x for x in inputs if x.requires_grad])]


def close(actual, expected, tolerance):
    assert actual.shape == expected.shape and torch.isfinite(actual).all()
    assert (actual.double() - expected).abs().max() <= tolerance * expected.abs().max().clamp_min(1e-3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (1, 17, 3), (1, 9, 130)], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_triton_equals_plain_torch(name, shape):
    function, plain, make = CASES[name]
    inputs = make(*shape)
    assert dispatch.fused_on_gpu(*inputs)
    expected = outputs_and_gradients(plain, [x.double() for x in inputs])
    for actual, wanted in zip(outputs_and_gradients(function, inputs), expected, strict=True):
        close(actual, wanted, 1e-5)


@pytest.mark.parametrize("name", CASES)
def test_one_gradient_alone_equals_that_of_all(name):
    function, _, make = CASES[name]
    inputs = make(1, 3, 20)
    everything = outputs_and_gradients(function, inputs)[-len(inputs) :]
    for i, expected in enumerate(everything):
        assert torch.equal(outputs_and_gradients(function, inputs, [i])[-1], expected)


@pytest.mark.parametrize("name", CASES)
def test_bfloat16_is_read_and_written_directly(name):
    """Against float64 results of the rounded inputs. The interpreter truncates bfloat16, a GPU rounds it."""
    function, plain, make = CASES[name]
    first = 1 if name == "add_norm" else 0  # the residual stays float32
    inputs = make(1, 9, 20)
    inputs = [x.bfloat16() if x.shape[:2] == (1, 9) and i >= first else x for i, x in enumerate(inputs)]
    expected = outputs_and_gradients(plain, [x.double() for x in inputs])
    actual = outputs_and_gradients(function, inputs)
    for got, wanted in zip(actual, expected, strict=True):
        close(got, wanted, 1.2e-2)
    grads = actual[-len(inputs) :]
    assert [x.dtype for x in grads] == [x.dtype for x in inputs]
    assert actual[1 if name == "add_norm" else 0].dtype == torch.bfloat16


@pytest.mark.parametrize("name", CASES)
def test_two_runs_give_the_same_bits_and_a_nan_comes_out(name):
    function, _, make = CASES[name]
    inputs = make(2, 5, 12)
    runs = [outputs_and_gradients(function, inputs) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    inputs[0][0, 4] = float("nan")
    outputs = outputs_and_gradients(function, inputs)
    assert outputs[0][0, 4].isnan().all() and torch.isfinite(outputs[0][1]).all()


def test_the_norm_alone_and_the_sum_alone_have_their_gradients():
    """A block's sum goes on to the next block; in the last one only the norm is used."""
    residual, hidden, weight = draw((1, 3, 8), (1, 3, 8), (8,))
    for output in range(2):
        grads = []
        for function, dtype in ((add_norm, torch.float32), (plain_norm, torch.float64)):
            inputs = [x.to(dtype).requires_grad_() for x in (residual, hidden, weight)]
            y = function(*inputs)[output].square().sum()
            grads.append(torch.autograd.grad(y, inputs, materialize_grads=True))
        for actual, expected in zip(*grads, strict=True):
            close(actual, expected, 1e-5)


@pytest.mark.parametrize("name", CASES)
def test_sequences_and_gradients_may_have_any_strides(name):
    """Turned inputs; gradients that are slices of rows of different widths."""
    function, plain, make = CASES[name]
    inputs = [x.detach() for x in make(2, 3, 4)]
    inputs[0] = inputs[0][..., :4]
    results = []
    for run, dtype in ((function, torch.float32), (plain, torch.float64)):
        turned = [x.mT.contiguous().mT if x.ndim == 3 and len(x) == 2 else x for x in inputs]
        leaves = [x.to(dtype).requires_grad_() for x in turned]
        outputs = run(*leaves)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        dys = [draw((2, 3, 4 * (i + 2)))[0].to(dtype)[..., :4] for i in range(len(outputs))]
        results.append([*outputs, *torch.autograd.grad(outputs, leaves, dys)])
    for actual, expected in zip(*results, strict=True):
        close(actual, expected, 1e-5)


def test_clips_of_one_token_have_the_pitch_of_their_rows():
    """torch counts them as contiguous whatever the stride between the tokens of a clip."""
    (clips,) = draw((1, 3, 4))
    turned = clips.transpose(0, 1)
    assert turned.is_contiguous() and turned.stride(1) == 12
    assert even_rows(turned).stride(1) == 4 and torch.equal(even_rows(turned), turned)


def test_a_second_derivative_is_an_error():
    y, y_b, z, residual, norm = (x.requires_grad_() for x in draw(*4 * [(1, 4, 8)], (8,)))
    taps = [x.requires_grad_() for x in draw((8, 1, 4), (8,), (8, 1, 4), (8,))]
    for out in (gate(y, y_b, z), add_norm(residual, y, norm)[1], conv_silu(y, *taps)[0]):
        with pytest.raises(RuntimeError, match="no second derivative"):
            torch.autograd.grad(out.sum(), y, create_graph=True)


@pytest.mark.parametrize("operation", ["conv_silu", "gate", "add_norm"])
def test_the_operators_pass_every_check_of_torch(operation):
    """Schema, autograd registration, and fake implementations, also with dynamic shapes."""
    x, y, z, weight, bias = draw((2, 1, 8), (2, 1, 8), (2, 1, 8), (8, 1, 4), (8,))
    arguments = {
        "conv_silu": (x, weight, bias, weight.clone(), bias.clone()),
        "gate": (x, y, z, True),
        "add_norm": (x, y, bias, 1e-5),
    }[operation]
    for t in arguments[:-1]:
        t.requires_grad_()
    torch.library.opcheck(getattr(torch.ops.videossp, operation).default, arguments)
