"""The precision of matrix products: float32, or bfloat16 with float32 around them."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import nn

from videossp.ops.matmul import Linear

Precision = Literal["float32", "bf16"]


def computing(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """A context in which matrix products take operands of this precision."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def round_frozen(module: nn.Module) -> None:
    """Round the frozen weights of a module's products to bfloat16, in place: half the memory."""
    for x in module.modules():
        if isinstance(x, Linear) and not x.weight.requires_grad:
            x.weight.data = x.weight.data.bfloat16()
