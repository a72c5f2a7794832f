"""Several processes that train or evaluate together: joining and leaving them, and their exchanges."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as distributed
from accelerate import Accelerator, PartialState
from torch import Tensor

from videossp.model.device import Device, choose_device, processes
from videossp.system.cpu_group import cpu_group


def join_processes(device: Device = "auto") -> torch.device:
    """Join the processes that torchrun or `accelerate launch` started, if any.

    Args:
        device: see `choose_device`.

    Returns:
        The device on which this process computes.

    Raises:
        ValueError: see `choose_device`.
        RuntimeError: several processes were started, but this one cannot join them.
    """
    chosen = choose_device(device)
    state = PartialState(cpu=chosen.type != "cuda")
    joined, started = state.num_processes, processes()
    if distributed.is_available() and distributed.is_initialized():
        started = max(started, distributed.get_world_size())
    if joined != started:
        raise RuntimeError(
            f"{started} processes were started, but accelerate is set up for {joined}; start them with "
            "torchrun, and create no Accelerator before, or one with cpu=True"
        )
    if joined > 1 and (state.device.type == "cuda") != (chosen.type == "cuda"):
        raise RuntimeError(f"accelerate is set up for {state.device.type}, but the device is {chosen.type}")
    return chosen


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
        self.rank, self.size = accelerator.process_index, accelerator.num_processes
        self._cpu = cpu_group() if self.size > 1 else None

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors with those of the first process."""
        if self.size > 1:
            for x in tensors:
                distributed.broadcast(x.data, 0)

    def sum(self, *values: float) -> list[float]:
        """Sums over the processes. No process waits for its GPU."""
        if self.size == 1:
            return list(values)
        mine = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(mine, group=self._cpu)
        summed: list[float] = mine.tolist()
        return summed

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier(self._cpu)

    def sum_in_place(self, x: Tensor) -> None:
        """Overwrite a tensor with its sum over the processes, on its device."""
        if self.size > 1:
            distributed.all_reduce(x)

    def sum_gradients(self, tensors: Sequence[Tensor]) -> None:
        """Sum the gradients of tensors over the processes; a missing gradient counts as zero."""
        if self.size == 1:
            return
        for x in tensors:
            x.grad = torch.zeros_like(x) if x.grad is None else x.grad
        gradients = [x.grad for x in tensors if x.grad is not None]
        flat = torch.cat([x.flatten() for x in gradients])
        distributed.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([x.numel() for x in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of the processes."""
        values = [value] * self.size
        if self.size > 1:
            distributed.all_gather_object(values, value, group=self._cpu)
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
