"""Explanations of the same clips under the methods of a comparison, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videossp.comparison.results import Comparison
from videossp.data.datasets import Sample
from videossp.data.video import read_video
from videossp.errors import DataError
from videossp.explanation.explain import ExplainSettings, explain_classes
from videossp.explanation.explanation import Explanation
from videossp.load_adapter import load
from videossp.reporting.explained import HOW_TO_READ
from videossp.reporting.heat_maps import Row, draw_rows, scale_of
from videossp.reporting.page import escape, picture, table, write_page
from videossp.system.progress import with_bar

if TYPE_CHECKING:
    from videossp.classifier import Classifier

PAGE = "explain.html"
LEGEND = "contribution of a patch to the logit, relative to the strongest of the row"


def explain_runs(
    folder: Path,
    comparison: Comparison,
    samples: Sequence[Sample],
    count: int,
    device: str,
    *,
    progress: bool = False,
) -> Path | None:
    """Write a page with the maps of some videos for the true class, under each method.

    Each method has its run with the first seed. Videos on which the methods disagree most come first.

    Args:
        folder: of the comparison.
        comparison: its results.
        samples: the videos that were evaluated.
        count: videos to explain.
        device: that computes.
        progress: show a bar on stderr if that is a terminal.

    Returns:
        The page; None if no run was finished.
    """
    runs = first_runs(comparison)
    if not runs:
        return None
    classifiers = {
        method: load(folder / "{method}-lr{lr}-seed{seed}".format(**run) / "adapter").to(device)
        for method, run in runs.items()
    }
    chosen = disputed([run["hits"] for run in runs.values() if "hits" in run], len(samples))[:count]
    text = (
        f"{len(chosen)} of {len(samples)} videos; those on which the methods disagree most come first. "
        f"One clip per video, maps for its true class, runs of seed {comparison.seeds[0]}."
    )
    if missing := [x for x in comparison.methods if x not in runs]:
        text += f" Not shown, because this run is not finished: {', '.join(missing)}."
    parts = [f"<p>{escape(text)}</p>", HOW_TO_READ]

    def explained() -> Iterator[list[str]]:
        for i in chosen:
            try:
                yield list(_parts(samples[i], _explain(samples[i], classifiers)))
            except DataError as error:
                yield [f"<p>{escape(f'{samples[i].name}: not explained: {error}')}</p>"]

    found = explained()
    for one in with_bar(found, "explaining", len(chosen)) if progress else found:
        parts += one
    write_page(folder / PAGE, "The same clips under several methods", parts)
    return folder / PAGE


def _explain(sample: Sample, classifiers: "Mapping[str, Classifier]") -> dict[str, Explanation]:
    """By method, the explanation of the true class of a video."""
    video = read_video(sample.path, sample.start, sample.end, frames=sample.frames)
    settings = ExplainSettings()
    return {
        method: explain_classes(x, video, [x.classes[sample.label]], settings)[0]
        for method, x in classifiers.items()
    }


def first_runs(comparison: Comparison) -> dict[str, Mapping[str, Any]]:
    """By method, its finished run with the first seed, at the rate that counts."""
    found: dict[str, Mapping[str, Any]] = {}
    for method in comparison.methods:
        key = method, comparison.lr_of(method), comparison.seeds[0]
        for run in comparison.runs:
            if (run["method"], run["lr"], run["seed"]) == key and run["error"] is None:
                found[method] = run
    return found


def disputed(hits: Sequence[str], videos: int) -> list[int]:
    """The videos in order, those first of which half of the methods are wrong.

    Args:
        hits: of each method, 0 or 1 for each video; results of older versions have none.
        videos: their number.
    """
    shares = [sum(int(x[i]) for x in hits) / len(hits) if hits else 0.5 for i in range(videos)]
    return sorted(range(videos), key=lambda i: (abs(shares[i] - 0.5), i))


def _parts(sample: Sample, found: Mapping[str, Explanation]) -> Iterator[str]:
    """The part of a page for one video."""
    first = next(iter(found.values()))
    yield f"<h2>{escape(f'{sample.name}: is {first.target}')}</h2>"
    # Each row has its own scale: the logits of the methods differ in size.
    rows = [Row(method, x.map / scale_of(x.map), 1.0) for method, x in found.items()]
    curves = [(f"{method}: ", x) for method, x in found.items()]
    drawn = partial(draw_rows, explanation=first, rows=rows, title=first.text, legend=LEGEND, curves=curves)
    yield picture(f"maps of {sample.name}", drawn)
    header = ["method", "predicted", "true class", "sum of the map"]
    lines = [
        [
            method,
            f"{x.label} {100 * x.probabilities[x.label]:.1f} %",
            f"{100 * x.probabilities[x.target]:.1f} %",
            f"{x.map.sum():.2f} of {x.change:.2f}",
        ]
        for method, x in found.items()
    ]
    yield table([header, *lines])
