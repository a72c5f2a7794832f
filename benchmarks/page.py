"""Update the tables and plots of the `PAGES` of docs/ from benchmarks/results/.

    python benchmarks/page.py

The text between `<!-- NAME -->` and `<!-- end -->` in these pages is generated here: do not edit it there.
"""

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import page_ablations as ablations
import page_backbone as backbone
import page_design as design
import page_explain as explain
import page_fresh as fresh
import page_methods as methods
import page_serve as serve
from matplotlib.figure import Figure
from records import RESULTS
from rows import CONTROL, FRAMES, FRESH

from videossp.system.files import atomic_write

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("benchmark-notes.md", "benchmarks.md", "explain.md", "serve.md", "weights.md")
BLOCK = re.compile(r"<!-- ([a-z -]+) -->\n.*?<!-- end -->", re.DOTALL)

# The function that generates each block.
BLOCKS: dict[str, Callable[[], str]] = {
    "seeds": methods.seeds,
    "table": methods.main_table,
    "differences": partial(methods.differences, methods.FIRST),
    "control": partial(methods.differences, CONTROL),
    "paper": methods.paper,
    "reported": methods.reported,
    "reach": design.reach,
    "design": design.design,
    "tried": design.tried,
    "fresh": fresh.table,
    "claim": fresh.claim,
    "orders": fresh.orders,
    "footage": fresh.footage,
    "fresh costs": partial(methods.costs, f"{FRESH}{methods.MAIN}", fresh.TITLES),
    "costs": methods.costs,
    "ablations": ablations.ablations,
    "inside": ablations.inside,
    "pretrained": ablations.pretrained,
    "by rate": methods.by_rate,
    "rules": methods.rules,
    "losses": methods.losses,
    "rising": methods.rising,
    "probes": backbone.probes,
    "views": backbone.views,
    "sources": backbone.sources,
    "pretraining": backbone.pretraining,
    "maps": explain.chosen,
    "maps by patches": explain.confirmed("patches"),
    "maps by frames": explain.confirmed("frames"),
    "agreement": explain.agreement,
    "sanity": explain.sanity,
    "gaps": explain.gaps,
    "serving": serve.serving,
    "batching": serve.batching,
}


def updated(text: str) -> str:
    """A page with its blocks generated again."""
    return BLOCK.sub(lambda x: f"<!-- {x[1]} -->\n{BLOCKS[x[1]]()}\n<!-- end -->", text)


# The plots of the pages, and the results files that they show.
PLOTS: dict[str, tuple[Callable[[], Figure], tuple[str, ...]]] = {
    "pretraining.png": (backbone.draw_pretraining, ("pretrain.jsonl", "finish.jsonl")),
    "benchmarks.png": (methods.draw_table, tuple(f"{name}.json" for name in FRAMES)),
}
MARK = "Source"  # PNG text with the sha256 of the results that a plot shows


def digest(names: Sequence[str]) -> str:
    """The sha256 of those of the named results files that exist."""
    files = (RESULTS / name for name in names)
    return hashlib.sha256(b"".join(x.read_bytes() for x in files if x.exists())).hexdigest()


def main() -> None:
    for name in PAGES:
        atomic_write(DOCS / name, updated((DOCS / name).read_text(encoding="utf-8")))
    for name, (draw, sources) in PLOTS.items():
        picture = io.BytesIO()
        draw().savefig(picture, format="png", metadata={MARK: digest(sources)})
        atomic_write(DOCS / name, picture.getvalue())


if __name__ == "__main__":
    main()
