"""Convolution, gate and norm on a GPU as torch operators: nodes for autograd, torch.compile and fake tensors.

The fake implementations serve every device. On a CPU these operators compute only with Triton's interpreter;
`conv.py`, `gate.py` and `norm.py` have their own kernels there.
"""

from typing import Any

import torch
from torch import Tensor

from videossp.ops.dispatch import once_differentiable

DEVICES = ("cpu", "cuda")


@torch.library.custom_op("videossp::conv_silu", mutates_args=(), device_types=DEVICES)
def conv_silu_operator(
    x: Tensor, weight: Tensor, bias: Tensor, weight_b: Tensor, bias_b: Tensor
) -> tuple[Tensor, Tensor]:
    """Both directions of `conv_silu`."""
    from videossp.ops.conv_triton import conv_forward

    return conv_forward(x, weight, bias, weight_b, bias_b)


@conv_silu_operator.register_fake
def _(x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape)


@torch.library.custom_op("videossp::conv_silu_backward", mutates_args=(), device_types=DEVICES)
def _conv_silu_backward(
    du: Tensor,
    du_b: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    weight_b: Tensor,
    bias_b: Tensor,
    wanted: list[bool],
) -> list[Tensor]:
    """Gradients of x, of both weights (2, taps, width) and biases (2, width); empty where not wanted."""
    from videossp.ops.conv_triton import conv_backward

    for_x, for_weight, for_bias = wanted
    grads = conv_backward(du, du_b, x, weight, bias, weight_b, bias_b, (for_x, for_weight, for_bias))
    return [x.new_empty(0) if grad is None else grad for grad in grads]


@_conv_silu_backward.register_fake
def _(du: Tensor, du_b: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> list[Tensor]:
    shapes = [x.shape, (2, weight.shape[2], weight.shape[0]), (2, weight.shape[0])]
    dtypes = x.dtype, torch.float32, torch.float32
    return [
        x.new_empty(shape, dtype=dtype) if want else x.new_empty(0)
        for shape, dtype, want in zip(shapes, dtypes, rest[-1], strict=True)
    ]


def _keep_conv(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


@once_differentiable
def _differentiate_conv(ctx: Any, du: Tensor, du_b: Tensor) -> Any:
    saved = ctx.saved_tensors  # once: gradient checkpointing does not give them twice
    _, weight, _, weight_b, _ = saved
    for_x, *wanted = ctx.needs_input_grad
    want = [for_x, wanted[0] or wanted[2], wanted[1] or wanted[3]]
    dx, dweight, dbias = _conv_silu_backward(du, du_b, *saved, want)
    grads: list[Tensor | None] = [dx if for_x else None]
    for q, (taps, w) in enumerate(((weight, wanted[:2]), (weight_b, wanted[2:]))):
        grads.append(dweight[q].mT.reshape(taps.shape) if w[0] else None)
        grads.append(dbias[q] if w[1] else None)
    return tuple(grads)


conv_silu_operator.register_autograd(_differentiate_conv, setup_context=_keep_conv)


@torch.library.custom_op("videossp::gate", mutates_args=(), device_types=DEVICES)
def gate_operator(y: Tensor, y_b: Tensor, z: Tensor, keep_total: bool) -> tuple[Tensor, Tensor]:
    """`gate`, and y + y_b for the backward, or an empty tensor."""
    from videossp.ops.gate_triton import gate_forward

    return gate_forward(y, y_b, z, keep_total=keep_total)


@gate_operator.register_fake
def _(y: Tensor, y_b: Tensor, z: Tensor, keep_total: bool) -> tuple[Tensor, Tensor]:
    return y.new_empty(y.shape), y.new_empty(y.shape if keep_total else (0,))


@torch.library.custom_op("videossp::gate_backward", mutates_args=(), device_types=DEVICES)
def _gate_backward(dout: Tensor, total: Tensor, z: Tensor, wanted: list[bool]) -> list[Tensor]:
    """Gradients of y, also that of y_b, and of z; empty where not wanted."""
    from videossp.ops.gate_triton import gate_backward

    grads = gate_backward(dout, total, z, (wanted[0], wanted[1]))
    return [total.new_empty(0) if grad is None else grad for grad in grads]


@_gate_backward.register_fake
def _(dout: Tensor, total: Tensor, z: Tensor, wanted: list[bool]) -> list[Tensor]:
    likes = zip((total, z), wanted, strict=True)
    return [like.new_empty(total.shape) if want else total.new_empty(0) for like, want in likes]


def _keep_gate(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)  # no zeros for the gradient of the sum, which nothing uses
    ctx.save_for_backward(output[1], inputs[2])


@once_differentiable
def _differentiate_gate(ctx: Any, dout: Tensor, _: None) -> Any:
    for_y, for_y_b, for_z, _ = ctx.needs_input_grad
    dy, dz = _gate_backward(dout, *ctx.saved_tensors, [for_y or for_y_b, for_z])
    return dy if for_y else None, dy if for_y_b else None, dz if for_z else None, None


gate_operator.register_autograd(_differentiate_gate, setup_context=_keep_gate)


@torch.library.custom_op("videossp::add_norm", mutates_args=(), device_types=DEVICES)
def add_norm_operator(
    residual: Tensor, hidden: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`add_norm`, and 1 / sqrt(mean square + eps) of each row for the backward."""
    from videossp.ops.norm_triton import norm_forward

    return norm_forward(residual, hidden, weight, eps)


@add_norm_operator.register_fake
def _(residual: Tensor, hidden: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return (
        residual.new_empty(residual.shape),
        hidden.new_empty(hidden.shape),
        residual.new_empty(residual.shape[:2]),
    )


@torch.library.custom_op("videossp::add_norm_backward", mutates_args=(), device_types=DEVICES)
def _add_norm_backward(
    dtotal: Tensor | None, dx: Tensor, total: Tensor, scale: Tensor, weight: Tensor, for_weight: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of the sum, and of the weight, which is empty if not wanted."""
    from videossp.ops.norm_triton import norm_backward

    dsum, dweight = norm_backward(dtotal, dx, total, scale, weight, for_weight=for_weight)
    return dsum, total.new_empty(0) if dweight is None else dweight


@_add_norm_backward.register_fake
def _(
    dtotal: Tensor | None, dx: Tensor, total: Tensor, scale: Tensor, weight: Tensor, for_weight: bool
) -> tuple[Tensor, Tensor]:
    return total.new_empty(total.shape), total.new_empty(weight.shape if for_weight else (0,))


def _keep_norm(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    total, x, scale = output
    ctx.set_materialize_grads(False)
    ctx.hidden_dtype = x.dtype
    ctx.save_for_backward(total, scale, inputs[2])


@once_differentiable
def _differentiate_norm(ctx: Any, dtotal: Tensor | None, dx: Tensor | None, _: None) -> Any:
    total, scale, weight = ctx.saved_tensors
    for_weight = ctx.needs_input_grad[2]
    if dx is None:
        dsum, dweight = dtotal, torch.zeros_like(weight)
    else:
        dsum, dweight = _add_norm_backward(dtotal, dx, total, scale, weight, for_weight)
    for_hidden = None if dsum is None else dsum.to(ctx.hidden_dtype)
    return dsum, for_hidden, dweight if for_weight else None, None


add_norm_operator.register_autograd(_differentiate_norm, setup_context=_keep_norm)
