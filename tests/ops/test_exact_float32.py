"""float32 on a GPU is IEEE float32, forward and backward, and the user's settings return."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from videossp.methods.layers.depthwise import Depthwise
from videossp.model.precision import computing
from videossp.ops import exact_float32 as module
from videossp.ops.exact_float32 import exact_float32
from videossp.ops.float32_conv import Float32Conv3d

CUDA = torch.device("cuda")


def settings():
    backends = torch.backends
    return [
        x.fp32_precision
        for x in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul)
    ]


def older_settings():
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def fast_matmul():
    torch.backends.cuda.matmul.fp32_precision = "tf32"


CHOICES = {
    "defaults": lambda: None,
    "older": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "newer": fast_matmul,
}


@pytest.fixture(autouse=True)
def restored():
    """The settings of torch before the test, by both interfaces."""
    older, newer = older_settings(), settings()
    yield
    torch.set_float32_matmul_precision(older[0])
    torch.backends.cudnn.allow_tf32 = older[1]
    names = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    for setting, value in zip((*names, torch.backends.mkldnn.matmul), newer, strict=True):
        setting.fp32_precision = value


@pytest.mark.parametrize("choice", CHOICES)
def test_tf32_is_forbidden_within_and_the_users_settings_return(choice):
    CHOICES[choice]()
    before = settings()
    with exact_float32(CUDA):
        assert settings()[:3] == ["ieee"] * 3
    assert settings() == before
    assert before[1] == "tf32", "torch's default, without which this test shows nothing"


@pytest.mark.parametrize("choice", ["defaults", "older", "medium"])
def test_the_older_settings_can_be_read_within_and_return(choice):
    CHOICES[choice]()
    before = older_settings()
    with exact_float32(CUDA):
        assert older_settings() == ("highest", False)
    assert older_settings() == before


def test_contexts_of_several_threads_end_in_any_order():
    entered, leave = threading.Event(), threading.Event()

    def work():
        with exact_float32(CUDA):
            entered.set()
            leave.wait(60)

    before, thread = settings(), threading.Thread(target=work)
    with exact_float32(CUDA):
        thread.start()
        assert entered.wait(60)
    assert settings()[1] == "ieee", "the other thread still computes"
    leave.set()
    thread.join()
    assert settings() == before


def test_an_error_within_leaves_the_users_settings():
    before = settings()
    with pytest.raises(KeyError), exact_float32(CUDA):
        raise KeyError
    assert settings() == before


def test_float32_computing_on_a_gpu_forbids_tf32_and_a_cpu_changes_nothing():
    before = settings()
    with computing("float32", CUDA):
        assert settings()[:2] == ["ieee", "ieee"]
    with computing("float32", torch.device("cpu")):
        assert settings() == before


class Convolutions(TorchDispatchMode):
    """Notes cuDNN's setting at every convolution and backward of one."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        if "convolution" in name:
            self.seen.append((name, torch.backends.cudnn.conv.fp32_precision))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("autocast", [False, True])
def test_float32_conv3d_uses_no_tf32_forward_and_backward(monkeypatch, autocast):
    """Also outside of `computing`, and in the backward, which runs outside of every context."""
    monkeypatch.setattr(module, "TF32_DEVICES", ("cpu",))
    layer = Float32Conv3d(2, 3, (1, 3, 3), padding=(0, 1, 1))
    x = torch.randn(1, 2, 2, 4, 4, requires_grad=True)
    with Convolutions() as mode, torch.autocast("cpu", torch.bfloat16, autocast):
        layer(x).sum().backward()
    assert mode.seen == [("convolution", "ieee"), ("convolution_backward", "ieee")]
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"


@pytest.mark.parametrize("wanted", [(0, 1, 2), (0,), (1,)], ids=str)
@pytest.mark.parametrize("depthwise", [False, True])
def test_float32_conv3d_on_a_gpu_has_the_gradients_of_torchs_layer(monkeypatch, depthwise, wanted):
    """The branch of a GPU, computed on a CPU, also the second derivative."""
    monkeypatch.setattr(module, "TF32_DEVICES", ("cpu",))
    groups, padding = (4, "same") if depthwise else (1, 0)
    layer = Float32Conv3d(4, 4, (3, 1, 3), padding=padding, groups=groups, dilation=(1, 1, 2))
    inputs = [torch.randn(2, 4, 3, 5, 6), layer.weight.detach(), layer.bias.detach()]
    for i in wanted:
        inputs[i].requires_grad_()
    learned = [inputs[i] for i in wanted]

    def ours(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    def torchs(x, weight, bias):
        return F.conv3d(x, weight, bias, 1, padding, (1, 1, 2), groups)

    def results(function):
        y = function(*inputs)
        first = torch.autograd.grad(y.square().sum(), learned, create_graph=True)
        return [y, *first, *torch.autograd.grad(first[0].square().sum(), learned)]

    for actual, expected in zip(results(ours), results(torchs), strict=True):
        torch.testing.assert_close(actual, expected)


def test_an_even_kernel_of_a_depthwise_layer_works_on_a_gpu(monkeypatch):
    layer = Depthwise(5, (2, 1, 2))
    for weight in layer.parameters():
        torch.nn.init.normal_(weight)
    x = torch.randn(2, 4, 6, 5)
    expected = layer(x, (2, 3))
    monkeypatch.setattr(module, "TF32_DEVICES", ("cpu",))
    torch.testing.assert_close(layer(x, (2, 3)), expected)
