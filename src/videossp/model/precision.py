"""The precision of matrix products: float32, or bfloat16 with float32 around them."""

from collections.abc import Container
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from videossp.ops.exact_float32 import exact_float32, may_use_tf32
from videossp.ops.matmul import Linear

Precision = Literal["float32", "bf16"]


def computing(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """A context in which matrix products take operands of this precision.

    "float32" is IEEE float32 on a GPU too, where torch's own default for convolutions is TF32. A backward
    that runs outside of the context takes torch's settings: enter `exact_float32` around it.
    """
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return exact_float32(device) if may_use_tf32(device) else nullcontext()


def check_float32(weight: Tensor) -> None:
    """Refuse a backbone that half(), double() or to(dtype) cast: the kernels compute with float32 weights.

    Args:
        weight: of the backbone, one that `round_frozen` leaves alone.

    Raises:
        ValueError: it is not float32.
    """
    if weight.dtype != torch.float32:
        raise ValueError(
            f"the weights are {weight.dtype}, but a classifier computes with float32 weights: load or make "
            "it again without half(), double() or to(dtype); to_precision('bf16') computes faster"
        )


def round_frozen(module: nn.Module, trained: Container[str]) -> None:
    """Round the frozen weights of a module's products to bfloat16, in place: half the memory.

    Args:
        module: the backbone.
        trained: names of its parameters that the method trains, which stay as they are.
    """
    for name, x in module.named_modules():
        if isinstance(x, Linear) and f"{name}.weight" not in trained:
            x.weight.data = x.weight.data.bfloat16()
