"""`videossp info` and `videossp bench`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from videossp.cli.output import show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def info(parser: "ArgumentParser") -> "Callable[[Namespace], int]":
    """versions, methods, and which kernel scans on this machine"""
    import torch

    from videossp.methods import method_names
    from videossp.model.config import BACKBONES
    from videossp.ops.dispatch import scan_kernel
    from videossp.system.versions import versions

    def run(args: "Namespace") -> int:
        devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
        facts: dict[str, Any] = {
            **versions(),
            "threads": torch.get_num_threads(),
            **{f"scan on {x}": scan_kernel(torch.device(x), torch.float32) for x in devices},
            "backbones": ", ".join(BACKBONES),
            "methods": ", ".join(method_names()),
        }
        return show(args, facts, [f"{name:12} {value}" for name, value in facts.items()])

    return run


def bench(parser: "ArgumentParser") -> "Callable[[Namespace], int]":
    """how fast this machine is: the scan, a forward pass, a training step, on one clip with SSP"""
    import torch

    from videossp.bench import show as seconds
    from videossp.bench import summary
    from videossp.model.config import BACKBONES

    parser.add_argument(
        "--backbone", type=Literal[tuple(BACKBONES)], default="videomamba_tiny", help="its size"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is taken")

    def run(args: "Namespace") -> int:
        if args.rounds < 1:
            raise ValueError("--rounds must be at least 1")
        facts = summary(args.backbone, args.rounds)
        lines = [f"{args.backbone} + ssp, random weights, {torch.get_num_threads()} threads"]
        for name, value in facts.items():
            ratio = " over " in name or "GB" in name
            lines.append(f"{name:38}{value:9.2f}" if ratio else f"{name:38}{seconds(value):>12}")
        return show(args, {"backbone": args.backbone, "threads": torch.get_num_threads(), **facts}, lines)

    return run
