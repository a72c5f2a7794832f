"""`cpu_group`: the processes that compute together, for exchanges of values of the CPU."""

from typing import Any

import torch.distributed as distributed


def cpu_group() -> Any:
    """The group in which processes exchange values of the CPU; None, the default one, if that can.

    NCCL, the default one of GPUs, would take the values to the GPU, and ends a process that waits for the
    others for more than ten minutes. All processes must make the first call together.
    """
    if "gloo" in distributed.get_backend() or distributed.get_backend() == "mpi":
        return None
    world = distributed.group.WORLD
    if world not in _cpu_groups:
        _cpu_groups[world] = distributed.new_group(backend="gloo")
    return _cpu_groups[world]


_cpu_groups: dict[Any, Any] = {}  # by the default group: a second training uses that of the first
