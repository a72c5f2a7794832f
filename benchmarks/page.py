"""Write the tables and plots of docs/benchmarks.md and docs/weights.md anew, from benchmarks/results/.

    python benchmarks/page.py

What stands between `<!-- NAME -->` and `<!-- end -->` in these pages is made here and nowhere else.
"""

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import page_ablations as carries
import page_backbone as backbone
import page_methods as methods
from matplotlib.figure import Figure
from records import RESULTS
from rows import CONTROL, FRAMES

from videossp.system.files import atomic_write

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"<!-- ([a-z -]+) -->\n.*?<!-- end -->", re.DOTALL)

# What a block is made by.
BLOCKS: dict[str, Callable[[], str]] = {
    "seeds": methods.seeds,
    "table": methods.main_table,
    "differences": partial(methods.differences, methods.FIRST),
    "control": partial(methods.differences, CONTROL),
    "paper": methods.paper,
    "costs": methods.costs,
    "ablations": carries.ablations,
    "inside": carries.inside,
    "pretrained": carries.pretrained,
    "by rate": methods.by_rate,
    "rules": methods.rules,
    "losses": methods.losses,
    "rising": methods.rising,
    "probes": backbone.probes,
    "views": backbone.views,
    "sources": backbone.sources,
    "pretraining": backbone.pretraining,
}


def renewed(text: str) -> str:
    """A page with its blocks made anew."""
    return BLOCK.sub(lambda x: f"<!-- {x[1]} -->\n{BLOCKS[x[1]]()}\n<!-- end -->", text)


# The plots of the pages, and the results that they show.
PLOTS: dict[str, tuple[Callable[[], Figure], tuple[str, ...]]] = {
    "pretraining.png": (backbone.draw_pretraining, ("pretrain.jsonl", "finish.jsonl")),
    "benchmarks.png": (methods.draw_table, tuple(f"{name}.json" for name in FRAMES)),
}
MARK = "Source"  # of a PNG: the sha256 of the results that it was made of


def digest(names: Sequence[str]) -> str:
    """The sha256 of some files of results, those that are there."""
    files = (RESULTS / name for name in names)
    return hashlib.sha256(b"".join(x.read_bytes() for x in files if x.exists())).hexdigest()


def main() -> None:
    for name in ("benchmarks.md", "weights.md"):
        atomic_write(DOCS / name, renewed((DOCS / name).read_text(encoding="utf-8")))
    for name, (draw, sources) in PLOTS.items():
        picture = io.BytesIO()
        draw().savefig(picture, format="png", metadata={MARK: digest(sources)})
        atomic_write(DOCS / name, picture.getvalue())


if __name__ == "__main__":
    main()
