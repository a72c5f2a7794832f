"""The scan's Triton kernels, interpreted, against the reference loop in float64: outputs and gradients."""

import itertools

import pytest
import torch
from test_scan import NAMES, arguments, close

from videossp.ops.reference import scan_reference

pytest.importorskip("triton", "3.7", reason="needs triton >= 3.7, whose interpreter runs with NumPy 2.4")

from videossp.ops import scan_triton

CHUNK = 8  # in place of 64: several chunks and segments in few steps


@pytest.fixture(autouse=True)
def nan_filled(monkeypatch):
    """New memory is NaN, so that a kernel that forgets to write is caught."""
    new_empty = torch.Tensor.new_empty

    def filled(*args, **kwargs):
        x = new_empty(*args, **kwargs)
        return x.fill_(float("nan")) if x.is_floating_point() else x

    monkeypatch.setattr(torch.Tensor, "new_empty", filled)


def run(tensors, reverse=False, wanted=(True,) * 8, cut=None, chunk=CHUNK, layout=lambda dy: dy):
    """y and the gradients of sum(y weights), by name, and the weights. layout gives dy other strides."""
    inputs = [tensors[name] for name in NAMES[:7]]
    options = {"reverse": reverse, "cut": cut, "chunk": chunk}
    y, states = scan_triton.scan_forward(*inputs, tensors["h0"], keep_states=True, **options)
    weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape).to(y.dtype)
    wanted = tuple(want and tensors[name] is not None for name, want in zip(NAMES, wanted, strict=True))
    grads = scan_triton.scan_backward(layout(weights), *inputs, states, wanted=wanted, **options)
    assert [grad is not None for grad in grads] == list(wanted)
    return {"y": y} | dict(zip(NAMES, grads, strict=True)), weights


def forward(tensors):
    """y alone, over two segments of ten steps."""
    return scan_triton.scan_forward(
        *tensors.values(), reverse=False, keep_states=False, chunk=CHUNK, cut=(2, 8)
    )[0]


def check(tensors, reverse=False, tolerance=1e-5, **options):
    got, weights = run(tensors, reverse, **options)
    exact = {name: None if x is None else x.double().requires_grad_() for name, x in tensors.items()}
    y = scan_reference(**exact, reverse=reverse)
    close(got["y"].double(), y.detach(), tolerance)
    present = [name for name in NAMES if got[name] is not None]
    expected = torch.autograd.grad((y * weights.double()).sum(), [exact[name] for name in present])
    for name, grad in zip(present, expected, strict=True):
        assert got[name].shape == grad.shape, name
        close(got[name].double(), grad, tolerance)
    return got


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize(
    "length, d_inner, d_state, cut",
    [
        (1, 1, 1, None),
        (3, 33, 22, None),
        (11, 32, 8, (2, 8)),
        (18, 5, 16, (3, 8)),
        (9, 8, 4, (1, 16)),
        (2, 4, 64, None),
    ],
)
def test_the_scan_equals_the_reference(length, d_inner, d_state, cut, reverse):
    """Also with idle channels and states, at ends of chunks, segments and blocks of channels."""
    check(arguments(2 if length < 4 else 1, length, d_inner, d_state), reverse, cut=cut)


def test_the_chunk_of_the_package():
    check(arguments(1, 65, 4, 4), True, cut=(2, 64), chunk=scan_triton.CHUNK)


@pytest.mark.parametrize("reverse", [False, True])
def test_bfloat16_is_computed_in_float32(reverse):
    """Against float64 results of the rounded inputs. The interpreter truncates bfloat16, a GPU rounds it."""
    tensors = arguments(1, 10, 33, 8)
    rounded = {n: x.bfloat16() if n in ("u", "delta", "B", "C") else x for n, x in tensors.items()}
    got = check(rounded, reverse, 1.2e-2, cut=(2, 8))
    dtypes = {name: x.dtype for name, x in got.items() if x.dtype != torch.float32}
    assert dtypes == dict.fromkeys(("y", "u", "delta"), torch.bfloat16)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_wanted_gradient_is_computed(name):
    check(arguments(1, 9, 8, 4), cut=(2, 8), wanted=tuple(n == name for n in NAMES))


@pytest.mark.parametrize("cut", [(1, 16), (2, 8)], ids=str)
def test_d_delta_bias_and_h0_are_optional(cut):
    tensors = arguments(2, 10, 8, 4)
    check({**tensors, "D": None, "delta_bias": None, "h0": None}, True, cut=cut)


def test_slices_of_wider_rows_are_read_in_place():
    """u and B, as the projections give them, C by itself; delta is turned, and so copied."""
    tensors = arguments(2, 5, 32, 16)
    tensors["B"] = torch.cat([torch.randn(2, 5, 36), tensors["B"], tensors["C"]], -1)[..., 36:52]
    tensors["u"] = torch.cat([tensors["u"], tensors["u"]], -1)[..., :32]
    tensors["delta"] = tensors["delta"].mT.contiguous().mT
    check(tensors)


def test_constants_of_the_channels_may_have_any_strides():
    tensors = arguments(2, 10, 4, 2)
    tensors["D"] = torch.stack([tensors["D"], torch.zeros(4)], -1)[:, 0]
    tensors["delta_bias"] = tensors["delta_bias"][:1].expand(4)
    tensors |= {name: tensors[name].mT.contiguous().mT for name in ("A", "h0")}
    check(tensors, cut=(2, 8))


@pytest.mark.parametrize(
    "layout",
    [lambda dy: torch.cat([dy, dy], -1)[..., : dy.shape[-1]], lambda dy: dy.mT.contiguous().mT],
    ids=["slice", "turned"],
)
def test_the_gradient_of_the_output_may_have_any_strides(layout):
    check(arguments(1, 10, 4, 2), cut=(2, 8), layout=layout)


@pytest.mark.parametrize("value", [-200.0, -20.0, 20.0, 200.0])
def test_extreme_steps(value):
    tensors = arguments(1, 9, 4, 4)
    check(tensors | {"delta": torch.full_like(tensors["delta"], value)}, cut=(2, 8))


def test_long_memory_has_float32_accuracy():
    """With a slow decay, errors of the exponential must not add up."""
    tensors = arguments(1, 200, 4, 4)
    tensors["delta"] = -6.0 + 0.1 * tensors["delta"]
    exact = scan_reference(**{name: x.double() for name, x in tensors.items()})
    y, _ = scan_triton.scan_forward(*tensors.values(), reverse=False, keep_states=False)
    close(y.double(), exact, 1e-6)


@pytest.mark.parametrize("name", ["u", "delta", "A", "B"])
def test_a_nan_in_the_input_reaches_the_output(name):
    tensors = arguments(1, 10, 3, 2)
    if name == "A":
        tensors["A"][2] = float("nan")
        y = forward(tensors)
        assert torch.isfinite(y[:, :, :2]).all() and torch.isnan(y[:, :, 2]).all()
        return
    tensors[name][:, 4] = float("nan")
    y = forward(tensors)
    assert torch.isfinite(y[:, :4]).all() and torch.isnan(y[:, 4:]).all()


def test_two_runs_give_the_same_bits():
    tensors = arguments(1, 3, 33, 4)
    first, second = (run(tensors)[0] for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_states_are_kept_only_for_a_backward():
    tensors = arguments(1, 9, 4, 2)
    _, states = scan_triton.scan_forward(*tensors.values(), reverse=False, keep_states=False)
    assert states.numel() == 0


def test_segments_cover_the_sequence_and_fill_the_gpu():
    cases = itertools.product((1, 8, 64), (1, 64, 65, 1593, 12545), (1, 12, 36), (1, 108, 132))
    for batch, length, blocks, processors in cases:
        count, each = scan_triton.segments(batch, length, blocks, processors, 64)
        assert each % 64 == 0 and (count - 1) * each < length <= count * each
        programs, most = batch * blocks * count, scan_triton.FILL * processors
        assert count == 1 or programs <= most
    assert scan_triton.segments(8, 1593, 36, 132, 64) == (7, 256)


def test_no_clips_are_scanned_without_an_error():
    assert forward(arguments(0, 10, 3, 2)).shape == (0, 10, 3)
