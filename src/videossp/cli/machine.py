"""`videossp info` and `videossp bench`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from videossp.cli.arguments import Arguments
from videossp.cli.flags import add_device, device_of
from videossp.cli.options import add_option, group_of
from videossp.cli.output import print_result

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def info(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Print versions, backbones, methods and the scan kernels of this machine."""
    import torch

    from videossp.methods import method_names
    from videossp.model.config import BACKBONES
    from videossp.ops.dispatch import scan_kernel
    from videossp.ops.triton_ready import triton_version, why_not_triton
    from videossp.system.versions import versions

    def run(args: "Namespace") -> int:
        gpu = torch.cuda.is_available()
        devices = ["cpu"] + ["cuda"] * gpu + ["mps"] * torch.backends.mps.is_available()
        summary: dict[str, Any] = {**versions(), "threads": torch.get_num_threads()}
        if number := triton_version():
            summary["triton"] = number
        summary |= {f"scan on {x}": scan_kernel(torch.device(x), torch.float32) for x in devices}
        if gpu and (reason := why_not_triton()):
            summary["no triton"] = reason
        summary |= {"backbones": ", ".join(BACKBONES), "methods": ", ".join(method_names())}
        return print_result(args, summary, [f"{name:12} {value}" for name, value in summary.items()])

    return run


def bench(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Time the scan, a forward pass and a training step of SSP on one clip."""
    import torch

    from videossp.bench import format_seconds, machine_of, run_benchmarks
    from videossp.model.config import BACKBONES
    from videossp.model.device import describe

    group = group_of(parser, "benchmark")
    add_option(group, "backbone", Literal[tuple(BACKBONES)], "size", default="videomamba_tiny")
    add_option(group, "rounds", int, "measurements, whose median is printed", default=3)
    add_device(group)

    def run(args: "Namespace") -> int:
        if args.rounds < 1:
            raise ValueError("--rounds must be at least 1")
        device = device_of(args)
        figures = run_benchmarks(args.backbone, args.rounds, device)
        lines = [f"{args.backbone} + ssp, random weights, {machine_of(device)}"]
        for name, value in figures.items():
            no_time = " over " in name or "GB" in name
            lines.append(f"{name:38}{value:9.2f}" if no_time else f"{name:38}{format_seconds(value):>12}")
        machine = {"backbone": args.backbone, "device": describe(device), "threads": torch.get_num_threads()}
        return print_result(args, {**machine, **figures}, lines)

    return run
