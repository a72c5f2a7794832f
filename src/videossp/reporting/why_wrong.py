"""Wrong predictions: maps of the true and the predicted class, nearest training clips, deciding frames."""

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
from videossp.reporting.explained import HOW_TO_READ
from videossp.reporting.figures import draw_strip
from videossp.reporting.heat_maps import (
    Row,
    draw_rows,
    frame_title,
    legend_of,
    percents_of,
    scale_of,
    texts_of,
)
from videossp.reporting.page import escape, picture
from videossp.system.progress import with_bar

if TYPE_CHECKING:
    from videossp.classifier import Classifier

WRONG = 50  # predictions that are explained by default
NEIGHBOURS = 2  # training clips that are shown of each class
TRAINING = 100  # training clips of each class that are compared


@dataclass(frozen=True)
class Wrong:
    """A video whose prediction is wrong.

    Attributes:
        sample: the video.
        true, predicted: explanations of the true class and of the predicted one.
        neighbours: by class, the nearest training clips with their cosine similarity, the true class first.
    """

    sample: Sample
    true: Explanation
    predicted: Explanation
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
    most: int = WRONG,
    settings: ExplainSettings | None = None,
    workers: int | None = None,
    timeout: float = 300.0,
    progress: bool = False,
) -> list[str]:
    """Parts of a page about the wrong predictions of an evaluation.

    Args:
        classifier: that was evaluated.
        evaluation: its result.
        training: the training videos with labels of `classifier.classes`; none if they were evaluated. At
            most `TRAINING` of each class are compared.
        most: most videos that are explained, the most confident ones first.
        settings: of the explanations.
        workers, timeout: of the processes that decode training videos, see `evaluate`.
        progress: show a bar on stderr if that is a terminal.
    """
    wrong = wrong_samples(evaluation)
    parts = ["<h2>Explanations of wrong predictions</h2>"]
    if not wrong:
        return [*parts, "<p>No prediction is wrong.</p>"]
    chosen = wrong[:most]
    text = f"{len(chosen)} of {len(wrong)} wrong predictions, the most confident first. "
    text += "Maps and curves are of one clip per video. " + (
        "The nearest training clips are those whose features, which the head reads, are most similar, among "
        f"up to {TRAINING} training videos of each class."
        if training
        else "Training clips are not shown: there is no training split beside the evaluated videos."
    )
    parts += [f"<p>{escape(text)}</p>", HOW_TO_READ]
    predicted = evaluation.scores.argmax(1).tolist()
    pairs = [(evaluation.samples[i], predicted[i]) for i in chosen]
    labels = sorted({label for sample, label in pairs} | {sample.label for sample, _ in pairs})
    compared = [x for label in labels for x in spread_out([y for y in training if y.label == label])]
    known = Neighbourhood(classifier, compared, workers=workers, timeout=timeout, progress=progress)

    def explained() -> Iterator[list[str]]:
        for sample, label in pairs:
            try:
                found = _explained(classifier, sample, label, known, settings or ExplainSettings())
                yield list(_parts(found, classifier.clip_format, evaluation.views))
            except DataError as error:
                yield [f"<p>{escape(f'{sample.name}: not explained: {error}')}</p>"]

    found = explained()
    for one in with_bar(found, "explaining", len(pairs)) if progress else found:
        parts += one
    return parts


def spread_out(samples: Sequence[Sample]) -> list[Sample]:
    """At most `TRAINING` samples, evenly spread."""
    step = max(1.0, len(samples) / TRAINING)
    return [samples[int(i * step)] for i in range(min(len(samples), TRAINING))]


def _explained(
    classifier: "Classifier", sample: Sample, predicted: int, known: Neighbourhood, settings: ExplainSettings
) -> Wrong:
    video = read_video(sample.path, sample.start, sample.end, frames=sample.frames)
    names = [classifier.classes[sample.label], classifier.classes[predicted]]
    true, other = explain_classes(classifier, video, names, settings)
    (vector,) = known.features([sample])
    near = {classifier.classes[k]: known.nearest(vector, k, NEIGHBOURS) for k in (sample.label, predicted)}
    return Wrong(sample, true, other, near)


def _parts(wrong: Wrong, form: ClipFormat, views: tuple[int, int]) -> Iterator[str]:
    """The part of a page for one video."""
    true, predicted, name = wrong.true, wrong.predicted, wrong.sample.name
    texts, shown = texts_of(true), percents_of(true)
    scale = scale_of(true.map, predicted.map)
    rows = [Row(f"for {texts[x.target]}", x.map, scale) for x in (true, predicted)]
    yield f"<h3>{escape(f'{name}: is {true.target}, predicted as {predicted.target}')}</h3>"
    if true.label != predicted.target:
        mean = f"the mean of {views[0]} x {views[1]} views is {predicted.target}"
        yield f"<p>{escape(f'This clip alone is predicted as {true.label}; {mean}.')}</p>"
    title = f"{shown[predicted.target]}; true class: {shown[true.target]}\n{true.text}"
    curves = [(f"{texts[x.target]}: ", x) for x in (true, predicted)]
    drawn = partial(
        draw_rows, explanation=true, rows=rows, title=title, legend=legend_of(true), curves=curves
    )
    yield picture(f"maps of {name}", drawn)
    yield f"<p>{escape(deciding(true))}</p>"
    for label, neighbours in wrong.neighbours.items():
        for sample, similarity in neighbours:
            text = f"training clip of {label}, similarity {similarity:.3f}: {sample.name}"
            try:
                video = read_video(sample.path, sample.start, sample.end, frames=sample.frames)
                clip = read_views(video, form)[0]
            except DataError as error:  # the file was removed or changed since
                yield f"<p>{escape(f'{text}: {error}')}</p>"
                continue
            image = picture(sample.name, partial(draw_strip, clip, form), "strip")
            yield f"<figure><figcaption>{escape(text)}</figcaption>{image}</figure>"


def deciding(x: Explanation) -> str:
    """The frames without which another class is predicted, as a sentence; x explains the true class."""
    decide = x.deciding_frames
    if not decide:
        return f"No single frame decides: without any one of them, the prediction stays {x.label}."
    texts = []
    for t in decide:
        correct = ", which is correct" if x.without_frame[t] == x.target else ""
        frame = frame_title(x, t) if x.seconds is None else f"the frame at {frame_title(x, t)}"
        texts.append(f"without {frame}: {x.without_frame[t]}{correct}")
    return f"Frames that decide ({x.label} with all frames): {'; '.join(texts)}."
