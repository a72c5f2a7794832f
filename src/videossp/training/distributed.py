"""Several processes that train or evaluate together: joining and leaving them, and their exchanges."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as distributed
from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor


def join_processes() -> bool:
    """Join the processes that torchrun or `accelerate launch` started, if any.

    Returns:
        Whether they compute on a CPU. accelerate must be told this, otherwise each process assumes that it is
        the only one.

    Raises:
        RuntimeError: several processes were started, but this one cannot join them.
    """
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    joined = PartialState(cpu=cpu).num_processes
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if distributed.is_available() and distributed.is_initialized():
        started = max(started, distributed.get_world_size())
    if joined != started:
        raise RuntimeError(
            f"{started} processes were started, but accelerate is set up for {joined}; start them with "
            "torchrun, and create no Accelerator before, or one with cpu=True"
        )
    return cpu


def leave_processes() -> None:
    """Leave the other processes.

    Only for the end of a program: the process group cannot be used afterwards.
    """
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


class ProcessGroup:
    """The processes that compute a training together; often only one.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.rank, self.size = accelerator.process_index, accelerator.num_processes

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors with those of the first process."""
        if self.size > 1:
            for x in tensors:
                distributed.broadcast(x.data, 0)

    def sum(self, *values: float) -> list[float]:
        """Sums over the processes."""
        if self.size == 1:
            return list(values)
        mine = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        summed: list[float] = self.accelerator.reduce(mine, "sum").tolist()
        return summed

    def sum_gradients(self, tensors: Sequence[Tensor]) -> None:
        """Sum the gradients of tensors over the processes; a missing gradient counts as zero."""
        if self.size == 1:
            return
        for x in tensors:
            x.grad = torch.zeros_like(x) if x.grad is None else x.grad
        gradients = [x.grad for x in tensors if x.grad is not None]
        flat = self.accelerator.reduce(torch.cat([x.flatten() for x in gradients]), "sum")
        for gradient, part in zip(gradients, flat.split([x.numel() for x in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of the processes."""
        values = [value] * self.size
        if self.size > 1:
            distributed.all_gather_object(values, value)
        return values

    def check_agreement(self, settings: Mapping[str, Any]) -> None:
        """Refuse to train if a process has other settings than the first.

        Raises:
            ValueError: names the process and the settings that differ.
        """
        first, *others = self.gather(settings)
        for rank, other in enumerate(others, 1):
            names = [name for name, x in other.items() if x != first[name]]
            if names:
                raise ValueError(
                    f"process {rank} differs from process 0 in {', '.join(names)}: "
                    "all processes must see the same data and run folder"
                )
