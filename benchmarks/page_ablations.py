"""What the pages say of what carries the first method: changes, parts switched off, backbones."""

import statistics
from collections.abc import Mapping
from typing import Any

from findings import by_row, gaps, holm, markdown
from page_methods import FIRST, accuracy, bold, gap, star
from records import RESULTS, read
from rows import ABLATED, ABLATIONS, BACKBONE, ROWS, base_of, rows_of

from videossp.comparison.intervals import over_videos


def ablations() -> str:
    """Rows with one thing changed, and their paired differences to those rows; bold: `holm`."""
    titles = [x for x in ABLATIONS if ABLATIONS[x].backbone == BACKBONE]
    changed = {x: base_of(x) for x in titles}
    known: dict[str, dict[str, dict[str, Any] | None]] = {name: {} for name in ABLATED}
    for name, rows in known.items():
        for title in (x for x in [*changed.values(), *titles] if x in rows_of(name)):
            pair = list(dict.fromkeys((changed.get(title, title), title)))
            rows[title] = by_row(name, pair).get(title)
    sure = {name: holm({x: rows[x] for x in titles if x in rows}) for name, rows in known.items()}
    lines = []
    for title in [*dict.fromkeys(changed.values()), *titles]:
        base, line = changed.get(title, title), []
        for name, rows in known.items():
            row, mark = rows.get(title), star(base, sets=[name])
            line += [accuracy(row, mark), bold(gap(row, mark=mark), title in sure[name])]
        weights = {f"{x[title]['method_parameters']:,}" for x in known.values() if x.get(title)}
        lines.append([title, base if title in changed else "", *line, "".join(weights)])
    header = [cell for name in ABLATED for cell in (name, "difference")]
    return markdown(["", "change of", *header, "weights of the method"], lines)


def lost(part: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, float]:
    """The difference between a run with a part switched off and the same run, over videos."""
    keys = "difference", "difference_low", "difference_high"
    return dict(zip(keys, over_videos(gaps([part], [whole])), strict=True))


def inside() -> str:
    """Trained runs of the first row: what a part that is switched off changes, and how large its parts are.

    The intervals are of the videos alone: it is the same run. Of the sizes that a run has by block, the
    median; of the unevenness of its weights the largest.
    """
    rows = read(RESULTS / "inside.json")
    parts = list(dict.fromkeys(x["off"] for x in rows))
    lines = []
    for name, lr, seed in dict.fromkeys((x["set"], x["lr"], x["seed"]) for x in rows):
        own = {x["off"]: x for x in rows if (x["set"], x["lr"], x["seed"]) == (name, lr, seed)}
        sizes = own["nothing"]["sizes"][1:]  # there are no slots at the first block
        found = [f"{100 * own['nothing']['top1']:.1f}"]
        for part in parts[1:]:
            found.append(gap(lost(own[part], own["nothing"]) if part in own else None))
        keys = "prompt", "slots", "in_clip", "in_all"
        prompt, slots, *alike = (statistics.median(x[key] for x in sizes) for key in keys)
        found += [f"{prompt:.2f}", f"{slots:.2g}" if slots < 10 else f"{slots:.0f}"]
        found += [f"{100 * x:.0f} %" for x in (*alike, max(x["weights"] for x in sizes))]
        lines.append([f"{name}, {lr:g}, {seed}", *found])
    return markdown(["set, rate, seed", *parts, "prompt", "slots", "in a clip", "in all", "weights"], lines)


def pretrained() -> str:
    """The first row, the head alone and their difference, by the weights of the backbone."""
    titles: dict[tuple[str, str], str] = {}
    for title, row in (ROWS | ABLATIONS).items():
        if row.method in (FIRST, "linear"):
            titles.setdefault((row.backbone, row.method), title)
    sets = [name for name in ABLATED if set(titles.values()) <= set(rows_of(name))]
    lines = []
    for weights in dict.fromkeys(x for x, _ in titles):
        head, first = (titles[weights, method] for method in ("linear", FIRST))
        line = [weights]
        for name in sets:
            rows = by_row(name, [head, first])
            line += [accuracy(rows.get(x), star(x, sets=[name])) for x in (first, head)]
            line.append(gap(rows.get(first), mark=star(head, first, sets=[name])))
        lines.append(line)
    header = [f"{name}, {x}" for name in sets for x in (FIRST, "linear", "difference")]
    return markdown(["weights", *header], lines)
