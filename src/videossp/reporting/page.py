"""`write_report`: the results of a training or an evaluation as one self-contained HTML file."""

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
from videossp.reporting.figures import draw_classes, draw_confusion, draw_curves, draw_reliability, draw_strip
from videossp.system.files import atomic_write
from videossp.system.printable import printable

STRIPS = 6  # correct and wrong predictions shown
MOST_BARS = 60  # classes; the bars of more would be unreadable
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
th, td { text-align: left; padding: .1rem 2rem .1rem 0; vertical-align: top } th { font-weight: 600 }
img { max-width: 100%; display: block } figure { margin: 1rem 0 } figcaption { margin-bottom: .2rem }
.strip { width: 100%; image-rendering: auto } .correct { color: #176b2c } .wrong { color: #a3181d }
"""


def write_report(
    path: Path,
    title: str,
    summary: Mapping[str, Any] | Sequence[Sequence[Any]],
    evaluations: Mapping[str, Evaluation],
    clip_format: ClipFormat,
    histories: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    more: Sequence[str] = (),
) -> None:
    """Write a page that contains all its pictures.

    Without evaluations it has the table and the learning curves.

    Args:
        path: the .html file.
        title: heading of the page.
        summary: table at the top: names and values, or rows whose first is the header.
        evaluations: by name, of the same videos. The accuracy by class shows all of them; the confusion
            matrix and the film strips show the first.
        clip_format: the model's input, which the strips show.
        histories: by name, a row of figures per epoch.
        more: parts in HTML for the end of the page.
    """
    parts = [table(summary)]
    if histories:
        parts += ["<h2>Learning curves</h2>", picture("learning curves", lambda x: draw_curves(histories, x))]
    if evaluations:
        parts += results(evaluations, clip_format)
    write_page(path, title, [*parts, *more])


def write_page(path: Path, title: str, parts: Sequence[str]) -> None:
    """Write the HTML of a page, after its heading, atomically."""
    body = "\n".join([f"<h1>{escape(title)}</h1>", *parts])
    page = (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n{body}\n</html>\n"
    )
    atomic_write(path, page)


def results(evaluations: Mapping[str, Evaluation], clip_format: ClipFormat) -> list[str]:
    """Accuracy by class and reliability of all evaluations; confusion matrix and film strips of the first."""
    first = next(iter(evaluations.values()))
    parts = ["<h2>Confusion matrix</h2>", picture("confusion matrix", lambda x: draw_confusion(first, x))]
    if len(first.classes) <= MOST_BARS:
        bars = picture("accuracy", lambda x: draw_classes(evaluations, x))
        parts = ["<h2>Accuracy by class</h2>", bars, *parts]
    parts += [
        "<h2>Calibration</h2>",
        "<p>How often predictions are right, by their probability. Above the line they are right more often "
        "than the probability says, below it less often.</p>",
        picture("reliability", lambda x: draw_reliability(evaluations, x)),
    ]
    for correct, heading in ((True, "Correct"), (False, "Wrong")):
        parts += [
            f"<h2>{heading} predictions, most confident first</h2>",
            *strips(first, clip_format, correct),
        ]
    return parts


def escape(text: str) -> str:
    """A text as HTML; control characters as escapes."""
    return html.escape(printable(text))


def table(content: Mapping[str, Any] | Sequence[Sequence[Any]]) -> str:
    """An HTML table of names and values, or of rows of which the first is the header."""
    if isinstance(content, Mapping):
        rows = [cells("th", [name]) + cells("td", [value]) for name, value in content.items()]
    else:
        rows = [cells("td" if i else "th", row) for i, row in enumerate(content)]
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"


def cells(kind: str, values: Sequence[Any]) -> str:
    """The HTML cells of one row."""
    return "".join(f"<{kind}>{escape(str(value))}</{kind}>" for value in values)


def picture(name: str, draw: Callable[[BinaryIO], None], style: str = "", *, kind: str = "png") -> str:
    """The picture that a function writes, a PNG or another kind, as an inline image."""
    file = BytesIO()
    draw(file)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{escape(name)}" class="{style}" src="data:image/{kind};base64,{data}">'


def strips(evaluation: Evaluation, clip_format: ClipFormat, correct: bool) -> Iterator[str]:
    """Film strips of the most confident correct, or wrong, predictions, from as many classes as possible."""
    confidence, predicted = evaluation.scores.max(1)
    count: dict[int, int] = {}
    ranked: list[tuple[int, int, int]] = []
    for i in confidence.argsort(descending=True, stable=True).tolist():
        sample = evaluation.samples[i]
        if sample.name not in evaluation.failures and (predicted[i] == sample.label) == correct:
            count[sample.label] = count.get(sample.label, 0) + 1
            ranked.append((count[sample.label], len(ranked), i))  # the first of every class, then the second
    for _, _, i in sorted(ranked)[:STRIPS]:
        sample, scores = evaluation.samples[i], evaluation.scores[i]
        try:
            video = read_video(sample.path, sample.start, sample.end, frames=sample.frames)
            clip = read_views(video, clip_format)[0]
        except DataError:  # the file was removed or changed after the evaluation
            continue
        top = scores.topk(min(3, len(scores)))[1].tolist()
        predictions = [f"{evaluation.classes[k]} {100 * scores[k]:.1f} %" for k in top]
        mark = '<b class="correct">correct</b>' if correct else '<b class="wrong">wrong</b>'
        text = f"{evaluation.classes[sample.label]} ({sample.name}), predicted {', '.join(predictions)}"
        image = picture(sample.name, partial(draw_strip, clip, clip_format), "strip")
        yield f"<figure><figcaption>{mark}: {escape(text)}</figcaption>{image}</figure>"
    if not ranked:
        yield "<p>None.</p>"
