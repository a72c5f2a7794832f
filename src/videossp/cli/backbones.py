"""`videossp backbones`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from videossp.cli.arguments import Arguments
from videossp.cli.options import group_of
from videossp.cli.output import print_result

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def backbones(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """List the published checkpoints that --backbone knows by name."""
    from videossp.model.published_backbones import PUBLISHED_BACKBONES, WRONG_LINKS, nearest

    group_of(parser, "names").add_argument(
        "parts", type=str, nargs="*", metavar="PART", help="list only names that contain every PART"
    )

    def run(args: "Namespace") -> int:
        listed = [
            x for name, x in PUBLISHED_BACKBONES.items() if all(part.lower() in name for part in args.parts)
        ]
        if not listed:
            close = nearest(" ".join(args.parts))
            hint = f"; did you mean {close}?" if close else ""
            raise ValueError(f"no published name contains {' and '.join(args.parts)}{hint}")
        summary = [
            {
                **x._asdict(),
                "blocks": x.sizes.depth,
                "d_model": x.sizes.d_model,
                "file": x.hub_id,
                "wrong_link": WRONG_LINKS.get(x.name),
            }
            for x in listed
        ]
        return print_result(args, summary, _lines(summary))

    return run


def _lines(summary: list[dict[str, object]]) -> list[str]:
    from videossp.model.published_backbones import REPOSITORY

    header = ("name", "blocks", "width", "frames", "px", "trained on", "top-1", "crops x clips")
    cells = [header]
    for x in summary:
        numbers = (x["blocks"], x["d_model"], x["frames"], x["resolution"])
        name = f"{x['name']}{' *' if x['wrong_link'] else ''}"
        ends = (x["data"], x["top1"] or "-", str(x["views"] or "-").replace("x", " x "))
        cells.append((name, *map(str, numbers), *map(str, ends)))  # type: ignore[arg-type]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = {0, 5}
    table = [
        "  ".join(
            x.ljust(w) if i in left else x.rjust(w) for i, (x, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    wrong = "* MODEL_ZOO.md links the file of another backbone here; videossp asks for the file of this name"
    return [
        *table,
        "",
        f"file of each: NAME.pth in {REPOSITORY} on the Hugging Face Hub; --backbone NAME downloads it once",
        "top-1: per cent, as MODEL_ZOO.md of VideoMamba prints it; frames 1: trained on images",
        *[wrong] * any(x["wrong_link"] for x in summary),
        "videomamba_tiny, _small, _middle, _base are sizes (random weights); videomamba_nano is bundled",
    ]
