"""A classifier as a model in the ONNX format."""

import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from videossp.classifier import Classifier
from videossp.errors import ExportError
from videossp.exporting import onnx_scan, onnx_split
from videossp.exporting.exported import INPUT, OUTPUT
from videossp.model.published import first_line
from videossp.system.quiet import quiet

TRANSLATIONS: dict[Any, Any] = onnx_scan.TRANSLATIONS | onnx_split.TRANSLATIONS


def traced(classifier: Classifier, batch: int | None) -> torch.export.ExportedProgram:
    """The forward pass of a classifier as a graph of torch.

    Args:
        classifier: in float32 and eval mode.
        batch: clips in a batch; None: any number.

    Raises:
        ExportError: torch cannot trace the method.
    """
    form = classifier.clip_format
    clips = torch.zeros(batch or 2, 3, form.frames, *form.size)
    shapes = None if batch else ({0: torch.export.Dim("batch", min=1)},)
    try:
        with torch.no_grad():
            return torch.export.export(classifier, (clips,), dynamic_shapes=shapes, strict=False)
    except Exception as error:
        raise ExportError(f"{classifier.method} cannot be exported: {first_line(root_of(error))}") from error


def onnx_model(
    program: torch.export.ExportedProgram,
    method: str,
    inputs: Sequence[str] = (INPUT,),
    *,
    custom_op: bool = False,
) -> onnx.ModelProto:
    """The ONNX model of a traced classifier: input `clip`, output `logits`.

    Args:
        program: of `traced`.
        method: for the message of an error.
        inputs: names of the inputs.
        custom_op: scan with the custom operator instead of `Scan`.

    Raises:
        ExportError: an operation of the method has no translation.
    """
    try:
        with warnings.catch_warnings(action="ignore"), quiet(""), quiet("torch"):  # about its own code
            converted = torch.onnx.export(
                program,
                dynamo=True,
                input_names=list(inputs),
                output_names=[OUTPUT],
                opset_version=onnx_scan.OPSET,
                custom_translation_table=TRANSLATIONS | (onnx_scan.CUSTOM_TRANSLATIONS if custom_op else {}),
                optimize=False,  # takes as long as all the rest, and makes the model no faster
                verbose=False,
            )
    except Exception as error:
        raise ExportError(f"{method} cannot be exported: {first_line(root_of(error))}") from error
    model = converted.model_proto  # type: ignore[union-attr]
    transpose_weights(model.graph)
    strip(model)
    return model


def quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the products of tokens and weights in int8; each output channel has its own scale.

    Weights have 7 bits: on processors without VNNI, sums of two products with 8 bits would be cut off, and a
    proof on one processor would not hold on another.
    """
    with tempfile.TemporaryDirectory(prefix="videossp-") as folder, quiet(""):
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(path)


def transpose_weights(graph: onnx.GraphProto) -> None:
    """Store transposed weights instead of transposing them: only such a weight can be quantised."""
    uses = Counter(name for part in graphs(graph) for node in part.node for name in node.input)
    weights = {x.name: x for x in graph.initializer}
    for node in [x for x in graph.node if x.op_type == "Transpose" and x.input[0] in weights]:
        weight = weights[node.input[0]]
        (order,) = (x.ints for x in node.attribute if x.name == "perm")
        array = np.ascontiguousarray(numpy_helper.to_array(weight).transpose(order))
        graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
        graph.node.remove(node)
        uses[weight.name] -= 1
        if not uses[weight.name]:
            graph.initializer.remove(weight)


def strip(model: onnx.ModelProto) -> None:
    """Remove names of nodes, and the source lines and modules that torch attaches to them; name the batch.

    They are a sixth of the file of videomamba_nano, and have paths of this machine. Types of values stay:
    onnxruntime needs those inside a Scan.
    """
    model.doc_string = ""
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    del model.metadata_props[:]
    for graph in graphs(model.graph):
        del graph.metadata_props[:]
        values = *graph.input, *graph.output, *graph.value_info
        for item in (graph, *graph.node, *graph.initializer, *values):
            del item.metadata_props[:]
            item.doc_string = ""
        for node in graph.node:
            node.name = ""
        for value in values:
            for dimension in value.type.tensor_type.shape.dim:
                if dimension.dim_param and dimension.dim_param == batch:
                    dimension.dim_param = "batch"
                elif dimension.dim_param:
                    dimension.Clear()  # a multiple of the batch: a size that is not told


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def root_of(error: Exception) -> Exception:
    """The first cause of an error."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error
