"""Wrong predictions: maps of the true and the called class, the nearest training clips, deciding frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from videossp.data.clips import read_views
from videossp.data.datasets import Sample
from videossp.data.sampling import ClipFormat
from videossp.data.video import read_video
from videossp.embedding.neighbourhood import Neighbourhood
from videossp.errors import DataError
from videossp.explanation.explain import ExplainSettings, explain_classes
from videossp.explanation.explanation import Explanation
from videossp.inference.evaluate import Evaluation
from videossp.reporting.figures import draw_strip
from videossp.reporting.heat_maps import Row, draw_rows, frame_title, legend_of, scale_of
from videossp.reporting.page import escape, picture
from videossp.system.progress import with_bar

if TYPE_CHECKING:
    from videossp.classifier import Classifier

WRONG = 50  # predictions that are explained by default
NEIGHBOURS = 2  # training clips of each class


@dataclass(frozen=True)
class Wrong:
    """A video whose prediction is wrong.

    Attributes:
        sample: the video.
        true, called: explanations of the true class and of the predicted one.
        neighbours: by class, the nearest training clips with their cosine similarity, the true class first.
    """

    sample: Sample
    true: Explanation
    called: Explanation
    neighbours: dict[str, list[tuple[Sample, float]]]


def wrong_samples(evaluation: Evaluation) -> list[int]:
    """The wrong predictions, most confident first; without videos that could not be decoded."""
    confidence = evaluation.scores.max(1).values
    order = confidence.argsort(descending=True, stable=True).tolist()
    decoded = [i for i in order if evaluation.samples[i].name not in evaluation.failures]
    return [i for i in decoded if not evaluation.hits[i]]


def explain_wrong(
    classifier: "Classifier",
    evaluation: Evaluation,
    training: Sequence[Sample],
    *,
    most: int,
    settings: ExplainSettings | None = None,
    progress: bool = False,
) -> list[str]:
    """Parts of a page about the wrong predictions of an evaluation.

    Args:
        classifier: that was evaluated.
        evaluation: its result.
        training: the training videos with labels of `classifier.classes`; may be empty.
        most: most videos that are explained, the most confident ones first.
        settings: of the explanations.
        progress: show a bar on stderr if that is a terminal.
    """
    wrong = wrong_samples(evaluation)
    parts = ["<h2>Why wrong</h2>"]
    if not wrong:
        return [*parts, "<p>No prediction is wrong.</p>"]
    chosen = wrong[:most]
    text = f"{len(chosen)} of {len(wrong)} wrong predictions, the most confident first. "
    text += "Maps and curves are of one clip per video. " + (
        "The nearest training clips are those whose features, which the head reads, are most similar."
        if training
        else "The data has no training split, so the nearest training clips are not shown."
    )
    parts.append(f"<p>{escape(text)}</p>")
    predicted = evaluation.scores.argmax(1).tolist()
    pairs = [(evaluation.samples[i], predicted[i]) for i in chosen]
    needed = {label for sample, label in pairs} | {sample.label for sample, _ in pairs}
    known = Neighbourhood(classifier, [x for x in training if x.label in needed], progress=progress)
    for sample, label in with_bar(pairs, "explaining", len(pairs)) if progress else pairs:
        try:
            found = _explained(classifier, sample, label, known, settings or ExplainSettings())
            parts += _parts(found, classifier.clip_format)
        except DataError:  # the file was removed or changed after the evaluation
            continue
    return parts


def _explained(
    classifier: "Classifier", sample: Sample, called: int, known: Neighbourhood, settings: ExplainSettings
) -> Wrong:
    video = read_video(sample.path, sample.start, sample.end, frames=sample.frames)
    names = [classifier.classes[sample.label], classifier.classes[called]]
    true, other = explain_classes(classifier, video, names, settings)
    (vector,) = known.features([sample])
    near = {classifier.classes[k]: known.nearest(vector, k, NEIGHBOURS) for k in (sample.label, called)}
    return Wrong(sample, true, other, near)


def _parts(wrong: Wrong, form: ClipFormat) -> Iterator[str]:
    """The part of a page for one video."""
    true, called, name = wrong.true, wrong.called, wrong.sample.name
    scale = scale_of(true.map, called.map)
    rows = [Row(f"for {x.target}", x.map, scale) for x in (true, called)]
    yield f"<h3>{escape(f'{name}: is {true.target}, called {called.target}')}</h3>"
    title = f"{called.target}: {_percent(called)}, {true.target}: {_percent(true)}; {true.text}"
    curves = [(f" of {x.target}", x) for x in (true, called)]
    drawn = partial(
        draw_rows, explanation=true, rows=rows, title=title, legend=legend_of(true), curves=curves
    )
    yield picture(f"maps of {name}", drawn)
    yield f"<p>{escape(deciding(true))}</p>"
    for label, neighbours in wrong.neighbours.items():
        for sample, similarity in neighbours:
            video = read_video(sample.path, sample.start, sample.end, frames=sample.frames)
            clip = read_views(video, form)[0]
            text = f"training clip of {label}, similarity {similarity:.3f}: {sample.name}"
            image = picture(sample.name, partial(draw_strip, clip, form), "strip")
            yield f"<figure><figcaption>{escape(text)}</figcaption>{image}</figure>"


def _percent(x: Explanation) -> str:
    return f"{100 * x.probabilities[x.target]:.1f} %"


def deciding(x: Explanation) -> str:
    """The frames without which another class is predicted, as a sentence; x explains the true class."""
    decide = x.deciding_frames
    if not decide:
        return f"No single frame decides: without any one of them, the prediction stays {x.label}."
    texts = []
    for t in decide:
        correct = ", which is correct" if x.without_frame[t] == x.target else ""
        texts.append(f"without {frame_title(x, t)}: {x.without_frame[t]}{correct}")
    return f"Frames that decide ({x.label} with all frames): {'; '.join(texts)}."
