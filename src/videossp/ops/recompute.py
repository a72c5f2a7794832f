"""`recompute_in_backward`: autograd saves a function in place of a large tensor that is cheap to compute."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor


def recompute_in_backward(
    *recomputable: tuple[Tensor, Callable[[], Tensor]],
) -> AbstractContextManager[Any]:
    """Within this context, autograd does not save the given tensors: the backward computes them again.

    Args:
        recomputable: tensors, each with the function that computes it. A tensor that was written to in
            place after its computation is saved as usual.

    Raises:
        RuntimeError: in the backward, if a saved tensor was written to after the forward.
    """
    unchanged = (x for x in recomputable if not x[0].is_inference() and x[0]._version == 0)
    functions = {(x.data_ptr(), x.shape): compute for x, compute in unchanged}
    device = recomputable[0][0].device.type
    autocast, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def pack(tensor: Tensor) -> Any:
        # Detached: an output that its own graph saved would keep that graph alive forever.
        return functions.get((tensor.data_ptr(), tensor.shape), (tensor.detach(), tensor._version))

    def unpack(saved: Any) -> Tensor:
        if isinstance(saved, tuple):
            tensor, version = saved
            if tensor._version != version:
                raise RuntimeError("a tensor that the backward needs was written to after the forward")
            return tensor  # type: ignore[no-any-return]
        with torch.no_grad(), torch.autocast(device, dtype, autocast):  # the backward runs outside autocast
            return saved()  # type: ignore[no-any-return]

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)
