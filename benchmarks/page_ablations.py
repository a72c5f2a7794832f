"""Tables about the first method: ablations, parts switched off after training, other backbone weights."""

import statistics
from collections.abc import Mapping
from typing import Any

from findings import by_row, gaps, holm, markdown
from page_methods import FIRST, accuracy, bold, gap, star
from records import RESULTS, read
from rows import ABLATED, ABLATIONS, BACKBONE, ROWS, base_of, rows_of

from videossp.comparison.intervals import over_videos


def ablations() -> str:
    """Rows with one thing changed, and their paired differences to the base rows; bold: `holm`."""
    titles = [x for x in ABLATIONS if ABLATIONS[x].backbone == BACKBONE]
    changed = {x: base_of(x) for x in titles}
    known: dict[str, dict[str, dict[str, Any] | None]] = {name: {} for name in ABLATED}
    for name, rows in known.items():
        for title in (x for x in [*changed.values(), *titles] if x in rows_of(name)):
            pair = list(dict.fromkeys((changed.get(title, title), title)))
            rows[title] = by_row(name, pair).get(title)
    significant = {name: holm({x: rows[x] for x in titles if x in rows}) for name, rows in known.items()}
    lines = []
    for title in [*dict.fromkeys(changed.values()), *titles]:
        base, line = changed.get(title, title), []
        for name, rows in known.items():
            row, mark = rows.get(title), star(base, sets=[name])
            line += [accuracy(row, mark), bold(gap(row, mark=mark), title in significant[name])]
        weights = {f"{x[title]['method_parameters']:,}" for x in known.values() if x.get(title)}
        lines.append([title, base if title in changed else "", *line, "".join(weights)])
    header = [cell for name in ABLATED for cell in (name, "difference")]
    return markdown(["", "base row", *header, "parameters of the method"], lines)


def change(part: Mapping[str, Any], full: Mapping[str, Any]) -> dict[str, float]:
    """Difference of a run with a part switched off to the same run with all parts, over videos."""
    keys = "difference", "difference_low", "difference_high"
    return dict(zip(keys, over_videos(gaps([part], [full])), strict=True))


def inside() -> str:
    """Trained runs of the first row: effect of switching a part off, and sizes of the parts.

    The intervals are over videos only, because it is the same run. A size is the median over the blocks, the
    unevenness of the frame weights is the maximum.
    """
    rows = read(RESULTS / "inside.json")
    parts = list(dict.fromkeys(x["off"] for x in rows))
    lines = []
    for name, lr, seed in dict.fromkeys((x["set"], x["lr"], x["seed"]) for x in rows):
        by_part = {x["off"]: x for x in rows if (x["set"], x["lr"], x["seed"]) == (name, lr, seed)}
        full = by_part["nothing"]
        sizes = full["sizes"][1:]  # there are no slots at the first block
        cells = [f"{100 * full['top1']:.1f}"]
        for part in parts[1:]:
            cells.append(gap(change(by_part[part], full) if part in by_part else None))
        keys = "prompt", "slots", "in_clip", "in_all"
        prompt, slots, *alike = (statistics.median(x[key] for x in sizes) for key in keys)
        cells += [f"{prompt:.2f}", f"{slots:.2g}" if slots < 10 else f"{slots:.0f}"]
        cells += [f"{100 * x:.0f} %" for x in (*alike, max(x["weights"] for x in sizes))]
        lines.append([f"{name}, {lr:g}, {seed}", *cells])
    shown = {"nothing": "accuracy", "places": "positions"}
    header = ["set, rate, seed", *(shown.get(x, x) for x in parts)]
    return markdown([*header, "prompt", "slots", "in a clip", "in all", "weights"], lines)


def pretrained() -> str:
    """The first row, the head alone and their difference, by backbone weights."""
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
