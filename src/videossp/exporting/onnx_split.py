"""Parts of a tensor in ONNX by operators of every runtime; torch's exporter uses sequences of tensors."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from onnxscript import opset18

op: Any = opset18


def equal_parts(x: Any, count: int, dim: int) -> Sequence[Any]:
    """`count` parts of the same size."""
    return [x] if count == 1 else op.Split(x, axis=dim, num_outputs=count)


def split_with_sizes(x: Any, split_sizes: Sequence[int], dim: int = 0) -> Sequence[Any]:
    """Translate aten.split_with_sizes."""
    if len(set(split_sizes)) == 1:
        return equal_parts(x, len(split_sizes), dim)
    ends = [op.Constant(value_ints=[end]) for end in accumulate(split_sizes, initial=0)]
    axis = op.Constant(value_ints=[dim])
    return [op.Slice(x, first, last, axis) for first, last in pairwise(ends)]


def split(x: Any, split_size: int, dim: int = 0) -> Sequence[Any]:
    """Translate aten.split, whose last part may be smaller; also torch.chunk."""
    whole, rest = divmod(x.shape[dim], split_size)
    return split_with_sizes(x, [split_size] * whole + [rest] * (rest > 0), dim)


def unbind(x: Any, dim: int = 0) -> Sequence[Any]:
    """Translate aten.unbind."""
    axis = op.Constant(value_ints=[dim])
    return [op.Squeeze(part, axis) for part in equal_parts(x, x.shape[dim], dim)]


TRANSLATIONS = {
    torch.ops.aten.split.Tensor: split,
    torch.ops.aten.split_with_sizes.default: split_with_sizes,
    torch.ops.aten.unbind.int: unbind,
}
