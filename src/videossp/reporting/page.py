"""`write_report`: the results of a training or an evaluation as one HTML file, with all pictures inside."""

import base64
import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from videossp.data.clips import read_views
from videossp.data.sampling import ClipFormat
from videossp.data.video import read_video
from videossp.errors import DataError
from videossp.inference.evaluate import Evaluation
from videossp.reporting.figures import draw_classes, draw_confusion, draw_curves, draw_strip
from videossp.system.files import atomic_write

STRIPS = 6  # film strips of right predictions, and of wrong ones
MOST_CLASSES = 60  # with more, bars of accuracy by class are too thin to read
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
th, td { text-align: left; padding: .1rem 2rem .1rem 0; vertical-align: top } th { font-weight: 600 }
img { max-width: 100%; display: block } figure { margin: 1rem 0 } figcaption { margin-bottom: .2rem }
.strip { width: 100%; image-rendering: auto } .right { color: #176b2c } .wrong { color: #a3181d }
"""


def write_report(
    path: Path,
    title: str,
    summary: Mapping[str, Any] | Sequence[Sequence[Any]],
    evaluations: Mapping[str, Evaluation],
    clip_format: ClipFormat,
    histories: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> None:
    """Write the report of a training, an evaluation or a comparison.

    Args:
        path: the .html file.
        title: heading of the page.
        summary: the first table: names with values, or rows with a header row first.
        evaluations: of the same videos, by name. The accuracy by class shows all of them; the confusion
            matrix and the film strips show the first.
        clip_format: how the model's input is sampled, for the film strips.
        histories: by name, one row of metrics per epoch.
    """
    first = next(iter(evaluations.values()))
    parts = [f"<h1>{html.escape(title)}</h1>", html_table(summary)]
    if histories:
        parts += ["<h2>Learning curves</h2>", picture("learning curves", lambda x: draw_curves(histories, x))]
    if len(first.classes) <= MOST_CLASSES:
        parts += ["<h2>Accuracy by class</h2>", picture("accuracy", lambda x: draw_classes(evaluations, x))]
    parts += ["<h2>Confusion matrix</h2>", picture("confusion matrix", lambda x: draw_confusion(first, x))]
    for right, heading in ((True, "Right"), (False, "Wrong")):
        parts += [f"<h2>{heading} predictions, the surest first</h2>", *strips(first, clip_format, right)]
    body = "\n".join(parts)
    page = (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n{body}\n</html>\n"
    )
    atomic_write(path, page)


def html_table(summary: Mapping[str, Any] | Sequence[Sequence[Any]]) -> str:
    """An HTML table of names with values, or of rows below a header row."""
    if isinstance(summary, Mapping):
        rows = [cells("th", [name]) + cells("td", [value]) for name, value in summary.items()]
    else:
        rows = [cells("td" if i else "th", row) for i, row in enumerate(summary)]
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"


def cells(kind: str, values: Sequence[Any]) -> str:
    """The cells of one table row as HTML; kind is th or td."""
    return "".join(f"<{kind}>{html.escape(str(value))}</{kind}>" for value in values)


def picture(name: str, draw: Callable[[BinaryIO], None], style: str = "") -> str:
    """An HTML image with the PNG that `draw` writes."""
    file = BytesIO()
    draw(file)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{html.escape(name)}" class="{style}" src="data:image/png;base64,{data}">'


def strips(evaluation: Evaluation, clip_format: ClipFormat, right: bool) -> Iterator[str]:
    """Film strips of the most confident right (or wrong) predictions, spread over classes."""
    confidence, predicted = evaluation.scores.max(1)
    seen: dict[int, int] = {}
    ranked: list[tuple[int, int, int]] = []
    for i in confidence.argsort(descending=True, stable=True).tolist():
        sample = evaluation.samples[i]
        if sample.name not in evaluation.failures and (predicted[i] == sample.label) == right:
            seen[sample.label] = seen.get(sample.label, 0) + 1
            # The first of each class, then the second, ...
            ranked.append((seen[sample.label], len(ranked), i))
    for _, _, i in sorted(ranked)[:STRIPS]:
        sample, scores = evaluation.samples[i], evaluation.scores[i]
        try:
            clip = read_views(read_video(sample.path, sample.start, sample.end), clip_format)[0]
        except DataError:  # the file changed since the evaluation
            continue
        most = scores.topk(min(3, len(scores)))[1].tolist()
        best = [f"{evaluation.classes[k]} {100 * scores[k]:.1f} %" for k in most]
        mark = '<b class="right">right</b>' if right else '<b class="wrong">wrong</b>'
        words = f"{evaluation.classes[sample.label]} ({sample.name}) called {', '.join(best)}"
        image = picture(sample.name, partial(draw_strip, clip, clip_format), "strip")
        yield f"<figure><figcaption>{mark}: {html.escape(words)}</figcaption>{image}</figure>"
    if not ranked:
        yield "<p>None.</p>"
