"""`videossp export`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from videossp.cli.arguments import Arguments
from videossp.cli.options import add_option, group_of
from videossp.cli.output import print_message, print_result

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from videossp.exporting.export import Export


def export(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Write an adapter with its backbone as one file that runs without videossp, and compare the two."""
    group = group_of(parser, "adapter")
    group.add_argument("adapter", type=str, metavar="ADAPTER", help="adapter folder or run folder")
    add_option(group, "backbone", str, "weights of the backbone, if they have moved")
    group = group_of(parser, "model")
    add_option(group, "to", Literal["onnx", "torch"], "format of the file", default="onnx")
    group.add_argument("--int8", action="store_true", help="matrix products in int8, weights a quarter")
    group.add_argument(
        "--custom_op", action="store_true", help="scans in C, half the time; needs a C compiler"
    )
    add_option(group, "batch", int | Literal["dynamic"], "clips in a batch", default="dynamic")
    group = group_of(parser, "proof")
    add_option(group, "clips", str, "folder of videos to compare on", shown="random clips")
    group.add_argument("--allow", action="store_true", help="write the file although the comparison failed")
    group = group_of(parser, "output")
    add_option(group, "out", str, "the file", shown="model.onnx or model.pt2")

    def run(args: "Namespace") -> int:
        try:
            import videossp.exporting.onnx_model  # noqa: F401
        except ImportError as error:
            raise ValueError(
                f"videossp export needs its extra: pip install 'videossp[export]' ({error})"
            ) from None
        from videossp.exporting.export import SUFFIXES, export

        if args.allow:
            print_message("--allow: the file is written even if it is not the same model")
        made = export(
            args.adapter,
            args.out or f"model{SUFFIXES[args.to]}",
            to=args.to,
            int8=args.int8,
            custom_op=args.custom_op,
            batch=None if args.batch == "dynamic" else args.batch,
            clips=args.clips,
            backbone=args.backbone,
            allow=args.allow,
        )
        summary = {
            "files": [str(x) for x in made.files],
            "bytes": made.file_bytes,
            "weight_bytes": made.weight_bytes,
            "proof": made.proof.summary(),
        }
        return print_result(args, summary, lines_of(made))

    return run


def lines_of(made: "Export") -> list[str]:
    """An export for people."""
    proof = made.proof
    files = ", ".join(map(str, made.files))
    lines = [
        files,
        f"{made.file_bytes / 1e6:.1f} MB (weights in float32: {made.weight_bytes / 1e6:.1f} MB), loaded in "
        f"{proof.load_seconds:.1f} s",
        f"compared on {proof.clips} {'clips of videos' if proof.real else 'random clips'}:",
        f"{'batch':>5}  largest difference: logits  probabilities  same class",
    ]
    for x in proof.comparisons:
        ties = f" and {x.ties} ties" if x.ties else ""
        lines.append(
            f"{x.batch_size:5}  {x.logits:26.1e}  {x.probabilities:13.1e}  {x.same} of {proof.clips}{ties}"
        )
    for size, times in proof.times.items():
        lines.append(
            f"ms per clip, batch {size}, {proof.threads} threads: {times['file_wall']:.0f} (CPU time "
            f"{times['file_cpu']:.0f}); videossp {times['videossp_wall']:.0f} ({times['videossp_cpu']:.0f})"
        )
    return [*lines, f"{proof.verdict}{': ' * bool(proof.faults)}{'; '.join(proof.faults)}"]
