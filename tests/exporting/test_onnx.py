"""Operations in ONNX, also the custom operator, against their definitions, computed by onnxruntime."""

import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from conftest import scan_arguments
from videossp.exporting.onnx_model import onnx_model
from videossp.exporting.scan_library import compiled_library
from videossp.ops.reference import scan_reference
from videossp.ops.scan import Scan, selective_scan

COMPILER = shutil.which("cc")


def needs_compiler(*values):
    """A case that is skipped where there is no C compiler."""
    return pytest.param(*values, marks=pytest.mark.skipif(COMPILER is None, reason="no C compiler"))


class Layer(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The compiled custom operator."""
    return compiled_library(tmp_path_factory.mktemp("library"))


def computed(function, *inputs, library=None, threads=1):
    """The results of a function of tensors, translated and run by onnxruntime."""
    with torch.no_grad():
        program = torch.export.export(Layer(function), inputs, strict=False)
    names = [f"x{i}" for i in range(len(inputs))]
    model = onnx_model(program, "layer", names, custom_op=library is not None)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if library is not None:
        options.register_custom_ops_library(str(library))
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    return session.run(None, {f"x{i}": x.numpy() for i, x in enumerate(inputs)})[0]


@pytest.mark.parametrize("custom_op", [False, needs_compiler(True)])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("leave_out", [(), ("D",), ("delta_bias",), ("h0",), ("D", "delta_bias", "h0")])
def test_a_scan_is_the_recurrence(reverse, leave_out, custom_op, request):
    library = request.getfixturevalue("library") if custom_op else None
    tensors = {x: y for x, y in scan_arguments(2, 7, 6, 3).items() if x not in leave_out}

    def scan(*inputs):
        return selective_scan(Scan(**dict(zip(tensors, inputs, strict=True)), reverse=reverse))

    wanted = scan_reference(**{x: y.double() for x, y in tensors.items()}, reverse=reverse)
    np.testing.assert_allclose(
        computed(scan, *tensors.values(), library=library), wanted, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("custom_op", [False, needs_compiler(True)])
def test_step_sizes_are_exact_for_small_and_large_values(custom_op, request):
    library = request.getfixturevalue("library") if custom_op else None
    delta = torch.linspace(-30, 30, 2001)[None, :, None]
    one = torch.ones_like(delta)

    def first_output(delta):  # u = B = C = 1: y is the step size, where all decays are zero
        return selective_scan(Scan(one, delta, torch.tensor([[-1e30]]), one, one))

    found, wanted = (
        computed(first_output, delta, library=library),
        torch.nn.functional.softplus(delta.double()),
    )
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


# Widths: below, at and above a block of 96 channels, and several blocks; one state and many.
@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (3, 40, 95, 2), (2, 9, 96, 16), (1, 33, 97, 5), (2, 12, 300, 64)]
)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_custom_operator_is_the_recurrence_in_every_shape(shape, threads, library):
    tensors = scan_arguments(*shape)
    inputs = tensors.values()
    for reverse in (False, True):

        def scan(*inputs, reverse=reverse):
            return selective_scan(Scan(*inputs, reverse=reverse))

        wanted = scan_reference(**{x: y.double() for x, y in tensors.items()}, reverse=reverse)
        found = computed(scan, *inputs, library=library, threads=threads)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
def test_the_custom_operator_keeps_what_is_not_a_number(library):
    u = torch.ones(1, 5, 3)
    u[0, 2, 1] = torch.nan
    A, ones = -torch.ones(3, 2), torch.ones(1, 5, 2)
    found = computed(
        lambda u: selective_scan(Scan(u, torch.ones(1, 5, 3), A, ones, ones)), u, library=library
    )
    assert np.argwhere(np.isnan(found)).tolist() == [[0, t, 1] for t in (2, 3, 4)]


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("u", (7, 6)),
        ("delta", (2, 7, 5)),
        ("A", (5, 3)),
        ("B", (2, 7, 4)),
        ("C", (2, 8, 3)),
        ("h0", (2, 3, 6)),
    ],
)
def test_the_custom_operator_refuses_shapes_that_do_not_fit(name, shape, library):
    tensors = scan_arguments(2, 7, 6, 3) | {name: torch.zeros(shape)}
    names = list(tensors)
    node = onnx.helper.make_node("SelectiveScan", names, ["y"], domain="videossp", reverse=0)
    kinds = [onnx.helper.make_tensor_value_info(x, onnx.TensorProto.FLOAT, None) for x in [*names, "y"]]
    graph = onnx.helper.make_graph([node], "scan", kinds[:-1], kinds[-1:])
    imports = [onnx.helper.make_opsetid("videossp", 1)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    with pytest.raises(Exception, match="SelectiveScan: an input does not fit the shape of u"):
        session.run(None, {x: y.numpy() for x, y in tensors.items()})
