"""Operations in ONNX against their definitions, computed by onnxruntime."""

import numpy as np
import onnxruntime
import pytest
import torch

from conftest import scan_arguments
from videossp.exporting.onnx_model import onnx_model
from videossp.ops.reference import scan_reference
from videossp.ops.scan import Scan, selective_scan


class Layer(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def computed(function, *inputs):
    """The results of a function of tensors, translated and run by onnxruntime."""
    with torch.no_grad():
        program = torch.export.export(Layer(function), inputs, strict=False)
    model = onnx_model(program, "layer", [f"x{i}" for i in range(len(inputs))])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {f"x{i}": x.numpy() for i, x in enumerate(inputs)})[0]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("leave_out", [(), ("D",), ("delta_bias",), ("h0",), ("D", "delta_bias", "h0")])
def test_a_scan_is_the_recurrence(reverse, leave_out):
    tensors = {x: y for x, y in scan_arguments(2, 7, 6, 3).items() if x not in leave_out}

    def scan(*inputs):
        return selective_scan(Scan(**dict(zip(tensors, inputs, strict=True)), reverse=reverse))

    wanted = scan_reference(**{x: y.double() for x, y in tensors.items()}, reverse=reverse)
    np.testing.assert_allclose(computed(scan, *tensors.values()), wanted, rtol=1e-4, atol=1e-5)


def test_step_sizes_are_exact_for_small_and_large_values():
    delta = torch.linspace(-30, 30, 2001)[None, :, None]
    one = torch.ones_like(delta)

    def first_output(delta):  # u = B = C = 1: y is the step size, where all decays are zero
        return selective_scan(Scan(one, delta, torch.tensor([[-1e30]]), one, one))

    found, wanted = computed(first_output, delta), torch.nn.functional.softplus(delta.double())
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.split(2, dim=1)[2],
        lambda x: x.split([1, 4, 2], dim=1)[1],
        lambda x: torch.cat(x.split([1, 6], dim=1)[::-1], dim=1),
        lambda x: x.chunk(2, dim=2)[1],
        lambda x: x.split([7], dim=1)[0] + 1,
        lambda x: x.unbind(1)[3],
        lambda x: x.transpose(0, 1).unbind(1)[0],
    ],
)
def test_parts_of_a_tensor_are_those_of_torch(function):
    x = torch.rand(1, 7, 4)
    np.testing.assert_array_equal(computed(function, x), function(x))
