"""The selective scan in ONNX: operator `Scan`, one step per iteration, or a custom operator."""

from typing import Any

import torch
from onnx.defs import OpSchema
from onnxscript import FLOAT, graph, opset18, script
from onnxscript.values import Op, Opset

from videossp.system.quiet import quiet

OPSET = 18
DOMAIN = "videossp"  # of the custom operator
op: Any = opset18  # its annotations are those of eager values
T: Any = FLOAT[...]  # type: ignore[misc]  # a tensor of any shape
FORWARD, REVERSE = 0, 1  # of ONNX's scan directions
TINY = 1e-30  # in place of a divisor of zero


def _recurrence(domain: str, direction: int) -> Any:
    """The recurrence in one direction, as a function in a domain of its own: all have the same name."""
    inputs, outputs = [direction] * 4, [direction]

    def recurrence(h0: T, delta: T, x: T, B: T, C: T, A: T) -> T:
        @graph()
        def step(h: Any, delta_t: Any, x_t: Any, B_t: Any, C_t: Any) -> Any:
            h_t = op.Add(op.Mul(op.Exp(op.Mul(delta_t, A)), h), op.Mul(x_t, B_t))
            y_t = op.MatMul(C_t, h_t)
            return h_t, y_t

        _, y = op.Scan(
            h0,
            delta,
            x,
            B,
            C,
            body=step,
            num_scan_inputs=4,
            scan_input_directions=inputs,
            scan_output_directions=outputs,
        )
        return y

    return script(Opset(domain, 1), default_opset=op)(recurrence)


with quiet("onnxscript"):  # it warns of annotations that are no types of tensors
    RECURRENCES = _recurrence("videossp.forward", FORWARD), _recurrence("videossp.reverse", REVERSE)


def softplus(x: Any) -> Any:
    """log(1 + exp(x)), much faster than the Softplus of onnxruntime, which computes value by value.

    With e = exp(-|x|), the value is max(x, 0) + log(1 + e). For w = 1 + e as rounded, log(w) e / (w - 1) is
    log(1 + e) to the last digits (Higham 2002, section 1.14.1). Where w is 1, it is 0 instead of e < 1e-7.
    """
    e = op.Exp(op.Neg(op.Abs(x)))
    w = op.Add(e, 1.0)
    log = op.Mul(op.Log(w), op.Div(e, op.Add(op.Sub(w, 1.0), TINY)))
    return op.Add(op.Relu(x), log)


def selective_scan(
    u: Any,
    delta: Any,
    A: Any,
    B: Any,
    C: Any,
    D: Any,
    delta_bias: Any,
    h0: Any,
    reverse: bool,
    keep_states: bool,
) -> tuple[Any, Any]:
    """Translate the operator videossp::selective_scan, whose definition is `ops/reference.py`.

    The state is (batch, d_state, d_inner): with channels last, each step reads and writes memory in order.

    Args:
        as of the operator `selective_scan` of ops/scan.py.

    Returns:
        y, and in place of the states, which only a backward pass reads, any tensor.
    """
    delta = softplus(delta if delta_bias is None else op.Add(delta, delta_bias))
    A = op.Transpose(A, perm=[1, 0])
    if h0 is None:
        h0 = op.ConstantOfShape(op.Concat(op.Shape(u, start=0, end=1), op.Shape(A), axis=0))
    else:
        h0 = op.Transpose(h0, perm=[0, 2, 1])

    def steps(sequence: Any, axis: int) -> Any:
        """(batch, length, width) to (length, batch, 1, width), or with axis 3 (length, batch, width, 1)."""
        return op.Unsqueeze(op.Transpose(sequence, perm=[1, 0, 2]), op.Constant(value_ints=[axis]))

    sequences = steps(delta, 2), steps(op.Mul(delta, u), 2), steps(B, 3), steps(C, 2)
    y = RECURRENCES[reverse](h0, *sequences, A)
    y = op.Transpose(op.Squeeze(y, op.Constant(value_ints=[2])), perm=[1, 0, 2])
    return y if D is None else op.Add(y, op.Mul(D, u)), op.Identity(A)


def _schema() -> OpSchema:
    """The inputs and outputs of the custom operator, whose definition is bundled/selective_scan.c."""
    kind, optional = OpSchema.FormalParameter, OpSchema.FormalParameterOption.Optional
    return OpSchema(
        "SelectiveScan",
        DOMAIN,
        1,
        inputs=[
            *(kind(x, "tensor(float)") for x in ("u", "delta", "A", "B", "C")),
            *(kind(x, "tensor(float)", param_option=optional) for x in ("D", "delta_bias", "h0")),
        ],
        outputs=[kind("y", "tensor(float)")],
        attributes=[OpSchema.Attribute("reverse", OpSchema.AttrType.INT)],
    )


OPERATOR: Any = Op(Opset(DOMAIN, 1), "SelectiveScan", _schema())


def custom_selective_scan(*arguments: Any) -> tuple[Any, Any]:
    """Translate the operator as `selective_scan` does, to the custom operator."""
    *tensors, reverse, _ = arguments
    return OPERATOR(*tensors, reverse=int(reverse)), op.Identity(tensors[2])


TRANSLATIONS = {torch.ops.videossp.selective_scan.default: selective_scan}
CUSTOM_TRANSLATIONS = {torch.ops.videossp.selective_scan.default: custom_selective_scan}
