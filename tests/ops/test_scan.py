"""The Numba kernels against the reference loop: outputs and every gradient."""

import multiprocessing
import sys
import threading
import types

import pytest
import torch

from conftest import scan_arguments as arguments
from videossp.ops import dispatch, scan_cpu
from videossp.ops.dispatch import scan_kernel
from videossp.ops.reference import conv_reference, scan_reference
from videossp.ops.scan import Scan, selective_scan
from videossp.ops.scan_chunked import scan_chunked

NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias", "h0")


def close(actual, expected, tolerance):
    scale = expected.abs().max().clamp_min(1e-3)
    assert torch.isfinite(actual).all()
    assert (actual - expected).abs().max() <= tolerance * scale


def outputs_and_gradients(run, tensors, reverse, dtype):
    tensors = {name: x.to(dtype).requires_grad_() for name, x in tensors.items()}
    y = run(tensors, reverse)
    weights = torch.linspace(-1, 1, y.numel(), dtype=dtype).reshape(y.shape)
    return [y, *torch.autograd.grad((y * weights).sum(), list(tensors.values()))]


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("d_state", [1, 16, 22])
@pytest.mark.parametrize("d_inner", [1, 4, 48])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 63, 257])
def test_kernel_equals_reference(nan_filled_empty, length, d_inner, d_state, reverse):
    tensors = arguments(2, length, d_inner, d_state)
    fast = outputs_and_gradients(
        lambda t, reverse: selective_scan(Scan(**t, reverse=reverse)), tensors, reverse, torch.float32
    )
    slow = outputs_and_gradients(
        lambda t, reverse: scan_reference(**t, reverse=reverse), tensors, reverse, torch.float64
    )
    for actual, expected in zip(fast, slow, strict=True):
        close(actual.double(), expected, 1e-5)


@pytest.mark.parametrize("d_state", [scan_cpu.MOST_STATES, scan_cpu.MOST_STATES + 1])
def test_any_number_of_states(d_state):
    """The kernel has MOST_STATES on the stack, of any thread; more are computed by plain torch."""
    tensors, results = arguments(1, 3, 100, d_state), []

    def run(t, reverse):
        return selective_scan(Scan(**t, reverse=reverse))

    def work():
        results.append(outputs_and_gradients(run, tensors, False, torch.float32))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    slow = outputs_and_gradients(lambda t, _: scan_reference(**t), tensors, False, torch.float64)
    for x, y in zip(results[0], slow, strict=True):
        close(x, y, 2e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_kernel_crosses_blocks_of_channels_and_chunks_of_steps(nan_filled_empty, reverse):
    tensors = arguments(3, 2 * scan_cpu.CHUNK + 1, scan_cpu.BLOCK + 7, 5)
    runs = [
        outputs_and_gradients(run, tensors, reverse, dtype)
        for run, dtype in (
            (lambda t, reverse: selective_scan(Scan(**t, reverse=reverse)), torch.float32),
            (lambda t, reverse: scan_reference(**t, reverse=reverse), torch.float64),
        )
    ]
    for actual, expected in zip(*runs, strict=True):
        close(actual.double(), expected, 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_wanted_gradient_is_computed(name, monkeypatch):
    tensors = arguments(1, 9, 6, 3)
    tensors[name].requires_grad_()
    calls = []
    backward = scan_cpu.scan_backward

    def spy(*args, wanted, **kwargs):
        calls.append(wanted)
        grads = backward(*args, wanted=wanted, **kwargs)
        assert [grad is not None for grad in grads] == list(wanted)
        return grads

    monkeypatch.setattr(scan_cpu, "scan_backward", spy)
    y = selective_scan(Scan(**tensors))
    (grad,) = torch.autograd.grad(y.sum(), [tensors[name]])
    assert [[n for n, want in zip(NAMES, wanted, strict=True) if want] for wanted in calls] == [[name]]
    tensors = {n: x.detach().double().requires_grad_() for n, x in tensors.items()}
    (expected,) = torch.autograd.grad(scan_reference(**tensors).sum(), [tensors[name]])
    close(grad.double(), expected, 1e-5)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("length", [1, 31, 32, 33, 100])
def test_chunked_equals_reference(length, reverse):
    tensors = arguments(2, length, 5, 3)
    tensors["delta"] *= 20  # decays from 1 to 0 within a step
    runs = [
        outputs_and_gradients(lambda t, r, run=run: run(**t, reverse=r), tensors, reverse, torch.float64)
        for run in (scan_chunked, scan_reference)
    ]
    for actual, expected in zip(*runs, strict=True):
        close(actual, expected, 1e-10)


def test_autocast_does_not_round_the_state_of_the_chunked_scan():
    """Its tensors are float32 whatever autocast makes of matrix products."""
    tensors = {name: x.requires_grad_() for name, x in arguments(2, 40, 5, 3).items()}
    runs = []
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, autocast):
            y = scan_chunked(**tensors)
        runs.append([y, *torch.autograd.grad(y.sum(), list(tensors.values()))])
    for plain, under_autocast in zip(*runs, strict=True):
        assert torch.equal(plain, under_autocast)


def test_chunked_gradients_equal_finite_differences():
    tensors = arguments(1, 5, 2, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(scan_chunked, [x.requires_grad_() for x in tensors.values()])


@pytest.mark.parametrize("reverse", [False, True])
def test_a_gpu_scans_with_mamba_ssm(monkeypatch, reverse):
    """Against a stand-in with the published signature and layout; the real kernel needs a GPU."""
    seen = {}

    def selective_scan_fn(
        u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
    ):
        assert delta_softplus and z is None and not return_last_state
        seen["shapes"] = [tuple(x.shape) for x in (u, delta, A, B, C)]
        return scan_reference(u.mT, delta.mT, A, B.mT, C.mT, D, delta_bias).mT

    interface = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = selective_scan_fn
    monkeypatch.setitem(sys.modules, "mamba_ssm", types.ModuleType("mamba_ssm"))
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops", types.ModuleType("mamba_ssm.ops"))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    monkeypatch.setattr("videossp.ops.scan.scan_kernel", lambda device, dtype: "mamba_ssm")
    tensors = arguments(2, 9, 4, 3)
    expected = scan_reference(**tensors, reverse=reverse)
    torch.testing.assert_close(selective_scan(Scan(**tensors, reverse=reverse)), expected)
    assert not seen  # that kernel takes no h0
    del tensors["h0"]
    expected = scan_reference(**tensors, reverse=reverse)
    torch.testing.assert_close(selective_scan(Scan(**tensors, reverse=reverse)), expected)
    assert seen["shapes"] == [(2, 4, 9), (2, 4, 9), (4, 3), (2, 3, 9), (2, 3, 9)]


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_other_devices_scan_in_plain_torch(monkeypatch, device):
    monkeypatch.setattr(dispatch, "triton_is_usable", lambda: False)
    monkeypatch.setattr(dispatch, "mamba_ssm_is_built", lambda: False)
    assert scan_kernel(torch.device(device), torch.float32) == "chunked"


def test_states_are_kept_only_for_a_backward():
    tensors = arguments(1, 100, 6, 3)
    _, states = scan_cpu.scan_forward(*tensors.values(), reverse=False, keep_states=False)
    assert states.numel() == 0


def test_non_contiguous_inputs():
    tensors = arguments(2, 33, 12, 4)
    expected = selective_scan(Scan(**tensors))
    strided = {name: torch.stack([x, x], -1).flatten(-2)[..., ::2] for name, x in tensors.items()}
    assert not strided["u"].is_contiguous()
    assert torch.equal(selective_scan(Scan(**strided)), expected)
    turned = dict(tensors, u=tensors["u"].mT.contiguous().mT)
    assert torch.equal(selective_scan(Scan(**turned)), expected)


def test_optional_arguments_are_zero_or_absent():
    tensors = arguments(1, 20, 5, 3)
    zero = dict(tensors, D=torch.zeros(5), delta_bias=torch.zeros(5), h0=torch.zeros(1, 5, 3))
    absent = {name: tensors[name] for name in NAMES[:5]}
    assert torch.equal(selective_scan(Scan(**absent)), selective_scan(Scan(**zero)))


def test_reverse_is_a_flip():
    tensors = arguments(2, 70, 6, 3)
    flipped = {n: x.flip(1) if n in ("u", "delta", "B", "C") else x for n, x in tensors.items()}
    expected = selective_scan(Scan(**flipped)).flip(1)
    assert torch.equal(selective_scan(Scan(**tensors, reverse=True)), expected)


def test_h0_continues_a_scan():
    tensors = arguments(1, 40, 6, 3)
    expected = selective_scan(Scan(**tensors))
    parts = {n: x for n, x in tensors.items() if n in ("A", "D", "delta_bias")}
    first, second = (
        {n: tensors[n][:, span] for n in ("u", "delta", "B", "C")} for span in (slice(0, 25), slice(25, 40))
    )
    h, A = tensors["h0"], tensors["A"]
    dt = torch.nn.functional.softplus(first["delta"] + tensors["delta_bias"])
    for t in range(25):
        h = (
            torch.exp(dt[:, t, :, None] * A) * h
            + (dt[:, t] * first["u"][:, t])[..., None] * first["B"][:, t, None]
        )
    y = selective_scan(Scan(**parts, **second, h0=h))
    torch.testing.assert_close(y, expected[:, 25:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("log_step", [-7.0, -5.0, -3.0])
def test_long_memory_has_float32_accuracy(log_step):
    """With a slow decay over thousands of steps, errors of the exponential must not add up."""
    tensors = arguments(1, 5000, 16, 4)
    tensors["delta"] = log_step + 0.1 * tensors["delta"]
    exact = scan_reference(**{n: x.double() for n, x in tensors.items()})
    error = (selective_scan(Scan(**tensors)) - exact).abs().max()
    assert error <= 2 * (scan_reference(**tensors) - exact).abs().max()


@pytest.mark.parametrize("value", [-200.0, -20.0, 0.0, 20.0, 200.0])
def test_extreme_steps(value):
    tensors = arguments(1, 5, 3, 2)
    tensors["delta"] = torch.full((1, 5, 3), value)
    expected = scan_reference(**{n: x.double() for n, x in tensors.items()})
    close(selective_scan(Scan(**tensors)).double(), expected, 1e-5)


def test_decays_from_almost_one_to_zero():
    """Uses both ways to compute a decay: without a clamp, and clamped at the smallest float32."""
    tensors = arguments(1, 60, 100, 16)
    tensors["delta"] = torch.linspace(-5, 40, 60)[None, :, None] + tensors["delta"]
    tensors["A"] = -torch.logspace(-3, 2, 16) * torch.linspace(0.5, 1.5, 100)[:, None]
    run = lambda t, reverse: selective_scan(Scan(**t, reverse=reverse))  # noqa: E731
    fast = outputs_and_gradients(run, tensors, False, torch.float32)
    slow = outputs_and_gradients(lambda t, _: scan_reference(**t), tensors, False, torch.float64)
    for x, y in zip(fast, slow, strict=True):
        close(x, y, 2e-5)


@pytest.mark.parametrize("name", ["u", "delta", "A", "B"])
def test_a_nan_in_the_input_reaches_the_output(name):
    tensors = arguments(1, 10, 3, 2)
    if name == "A":
        tensors["A"][2] = float("nan")
        y = selective_scan(Scan(**tensors))
        assert torch.isfinite(y[:, :, :2]).all() and torch.isnan(y[:, :, 2]).all()
        return
    tensors[name][:, 4] = float("nan")
    y = selective_scan(Scan(**tensors))
    assert torch.isfinite(y[:, :4]).all() and torch.isnan(y[:, 4:]).all()


def test_reference_gradients_equal_finite_differences():
    tensors = arguments(1, 4, 2, 2, dtype=torch.float64)
    inputs = [x.requires_grad_() for x in tensors.values()]
    for reverse in (False, True):
        assert torch.autograd.gradcheck(lambda *xs, r=reverse: scan_reference(*xs, reverse=r), inputs)


def test_float64_is_not_narrowed():
    tensors = arguments(1, 6, 3, 2, dtype=torch.float64)
    assert scan_kernel(torch.device("cpu"), torch.float64) == "chunked"
    torch.testing.assert_close(selective_scan(Scan(**tensors)), scan_reference(**tensors), rtol=1e-12, atol=0)


def test_bfloat16_keeps_a_float32_state():
    tensors = {name: x.bfloat16() for name, x in arguments(1, 300, 4, 3).items()}
    y = selective_scan(Scan(**tensors))
    assert y.dtype == torch.bfloat16
    wide = selective_scan(Scan(**{name: x.float() for name, x in tensors.items()}))
    assert torch.equal(y, wide.bfloat16())


@pytest.mark.parametrize(
    "change",
    [{"B": torch.zeros(1, 6, 3)}, {"D": torch.zeros(4)}, {"u": torch.zeros(1, 0, 3)}, {"h0": torch.zeros(1)}],
)
def test_an_argument_of_the_wrong_shape_is_named(change):
    with pytest.raises(ValueError, match=rf"^{next(iter(change))} must be"):
        Scan(**(arguments(1, 5, 3, 2) | change))


@pytest.mark.parametrize("threads", [1, 2])
def test_kernel_threads_flush_denormals_and_the_caller_does_not(threads):
    """On Intel's processors an operation on a denormal takes as long as a hundred others."""
    torch.set_num_threads(threads)
    tensors = arguments(1, 40, 300, 4)
    tensors |= {"u": torch.zeros(1, 40, 300), "h0": torch.full((1, 300, 4), 1e-39), "delta": tensors["u"] - 9}
    assert (scan_reference(**tensors) != 0).any()
    assert (selective_scan(Scan(**tensors)) == 0).all()
    assert 1e-40 * torch.ones(1) != 0
    torch.set_flush_denormal(True)
    try:
        selective_scan(Scan(**tensors))
        assert 1e-40 * torch.ones(1) == 0
    finally:
        torch.set_flush_denormal(False)


def test_several_threads_may_scan_at_once():
    tensors = arguments(2, 200, 300, 4)
    expected, results = selective_scan(Scan(**tensors)), {}

    def work(i):
        for _ in range(5):
            results[i] = selective_scan(Scan(**tensors))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6 and all(torch.equal(y, expected) for y in results.values())


def _scan_in_child(tensors, queue):
    torch.set_num_threads(2)
    queue.put(selective_scan(Scan(**tensors)).double().sum().item())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_scans_after_first_use():
    tensors = arguments(2, 50, 300, 4)
    expected = selective_scan(Scan(**tensors)).double().sum().item()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_scan_in_child, args=(tensors, queue))
    child.start()
    assert queue.get(timeout=300) == expected
    child.join(timeout=300)
    assert child.exitcode == 0


def test_thread_count_does_not_change_the_numbers():
    tensors = arguments(2, 50, 300, 4)
    ys = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        ys.append(selective_scan(Scan(**tensors)))
    assert torch.equal(*ys)


@pytest.mark.parametrize("reverse", [False, True])
def test_convolution_is_causal(reverse):
    x, weight, bias = torch.randn(2, 9, 3), torch.randn(3, 1, 4), torch.randn(3)
    y = conv_reference(x, weight, bias, reverse)
    for t in range(9):
        total = bias.clone()
        for back in range(4):
            source = t + back if reverse else t - back
            if 0 <= source < 9:
                total = total + weight[:, 0, 3 - back] * x[:, source]
        torch.testing.assert_close(y[:, t], total * torch.sigmoid(total))
