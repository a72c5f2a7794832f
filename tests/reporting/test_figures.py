"""Figures are written atomically, to files and streams; the figure of a comparison is readable."""

import io
import logging
import os
import warnings

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from matplotlib.image import imread

from videossp.data.datasets import Sample
from videossp.inference.evaluate import Evaluation
from videossp.methods import METHODS
from videossp.reporting.figures import draw_classes, draw_comparison, draw_confusion, draw_curves

HISTORY = [{"epoch": 1, "loss": 0.7, "val_top1": 0.5}, {"epoch": 2, "loss": 0.4, "val_top1": 0.75}]
EVALUATION = Evaluation(
    ("bright", "dark"),
    tuple(Sample(f"{i}.mp4", f"{i}.mp4", i % 2) for i in range(4)),
    torch.tensor([[[0.9, 0.1]], [[0.6, 0.4]], [[0.3, 0.7]], [[0.2, 0.8]]]),
    {},
    (1, 1),
)
ROWS = [
    {"method": "ssp", "parameters_m": 2.4, "top1": 0.9, "top1_low": 0.8, "top1_high": 0.95},
    {"method": "linear", "parameters_m": 0.1, "top1": None, "top1_low": None, "top1_high": None},
]
DRAWN = {
    "curves": lambda file: draw_curves({"ssp": HISTORY}, file),
    "classes": lambda file: draw_classes({"ssp": EVALUATION}, file),
    "confusion": lambda file: draw_confusion(EVALUATION, file),
    "comparison": lambda file: draw_comparison(ROWS, file),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_a_picture_replaces_a_link_and_spares_its_target(draw, tmp_path):
    target, link = tmp_path / "target", tmp_path / "picture.png"
    target.write_text("precious")
    link.symlink_to(target)
    draw(link)
    assert target.read_text() == "precious" and not link.is_symlink()
    assert link.read_bytes().startswith(b"\x89PNG") and sorted(tmp_path.iterdir()) == [link, target]


@pytest.mark.parametrize("name", ["curves", "classes", "confusion"])
def test_a_stream_takes_the_bytes_of_the_file(name, tmp_path):
    stream, file = io.BytesIO(), tmp_path / "picture.png"
    DRAWN[name](stream)
    DRAWN[name](file)
    assert stream.getvalue() == file.read_bytes()


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved."""
    saved, save = [], Figure.savefig

    def savefig(self, *args, **kwargs):
        saved.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


def evaluation_of(names):
    """Two videos of each class, both right."""
    count = len(names)
    samples = tuple(Sample(f"{i}.mp4", f"{i}.mp4", i % count) for i in range(2 * count))
    return Evaluation(tuple(names), samples, torch.eye(count).repeat(2, 1)[:, None], {}, (1, 1))


NAMES = {
    "long": [f"{i} {'wide name ' * 5}{i % 2}" for i in range(5)],
    "equal but for the middle": [f"{'start ' * 6}{i}{' the end' * 5}" for i in range(5)],
    "formulas": ["a_$x$", "$b$", r"\$c", "$", "a_b^c", r"$\frac{$"],
    "controls": ["two\nlines", "tab\there", "esc\x1b[31m", os.fsdecode(b"\xff"), "under_score"],
    "Arabic, Greek": ["كرة القدم", "الجري", "Ελληνικά"],
    "no font": ["跑步 fast", "太極拳", "バスケットボール", "농구", "दौड़ना", "🤷🏽 shrug"],
    "one": ["only"],
    "many": [f"class number {i}" for i in range(20)],
}


@pytest.fixture
def log_records():
    """The records that reach the root logger, such as matplotlib's on fonts."""
    records, handler = [], logging.Handler()
    handler.emit = records.append
    logging.getLogger().addHandler(handler)
    yield records
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("draw", [draw_classes, draw_confusion])
def test_labels_of_classes_lie_in_the_figure_apart_and_without_foreign_lines(
    figures, tmp_path, log_records, kind, draw
):
    evaluation = evaluation_of(NAMES[kind])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as: glyph missing from font, axes collapsed to zero
        draw({"ssp": evaluation} if draw is draw_classes else evaluation, tmp_path / "a.png")
    assert not log_records
    (figure,) = figures
    axes = figure.axes[0]
    texts = [x.get_text() for x in axes.get_yticklabels()]
    assert len(set(texts)) == len(NAMES[kind]) and not any("\n" in x for x in texts)
    boxes = [x.get_window_extent() for x in axes.get_yticklabels()]
    assert all(box.count_overlaps(boxes) == 1 for box in boxes)
    shown = [*boxes, *(x.get_window_extent() for x in axes.get_xticklabels())]
    notes = [x for x in figure.texts if x.get_text()]
    assert len(notes) == (kind == "no font" and not installed("跑太バ농द🏽"))
    shown += [x.get_window_extent() for x in notes]
    assert all(figure.bbox.contains(*corner) for box in shown for corner in (box.min, box.max))
    assert axes.bbox.width > 100


def installed(characters):
    """Whether some font has each of these characters."""
    fonts = {x.fname for x in fontManager.ttflist if "Last Resort" not in x.name}
    found = {chr(x) for path in fonts for x in get_font(path).get_charmap()}
    return set(characters) <= found


@pytest.mark.parametrize(("count", "named"), [(12, True), (13, False)])
def test_names_of_many_classes_are_shown_while_they_fit(figures, monkeypatch, count, named):
    monkeypatch.setattr("videossp.reporting.figures.MOST_LABELS", 12)
    draw_confusion(evaluation_of([f"class {i}" for i in range(count)]), io.BytesIO())
    axes = figures[0].axes[0]
    assert (axes.get_yticklabels()[-1].get_text() == f"class {count - 1}") == named
    assert ("number of the class" in axes.get_xlabel()) != named
    boxes = [x.get_window_extent() for x in axes.get_yticklabels()]
    assert all(box.count_overlaps(boxes) == 1 for box in boxes)


def rows(names):
    shared = {"top1": 0.9, "top1_low": 0.85, "top1_high": 0.92}
    return [{"method": name, "parameters_m": 2 + 0.01 * i, **shared} for i, name in enumerate(names)]


def test_methods_with_equal_results_have_labels_that_do_not_overlap(figures, tmp_path):
    draw_comparison([*rows(METHODS), {"method": "failed", "top1": None}], tmp_path / "a.png")
    axes = figures[0].axes[0]
    labels = axes.get_yticklabels()
    assert [x.get_text().split()[0] for x in labels] == list(METHODS)
    boxes = [x.get_window_extent() for x in labels]
    assert all(box.count_overlaps(boxes) == 1 for box in boxes)
    assert all(figures[0].bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))
    assert imread(tmp_path / "a.png").ndim == 3


def test_a_point_and_its_interval_are_at_the_accuracy_of_the_method(figures, tmp_path):
    (row,) = rows(["ssp"])
    draw_comparison([row | {"parameters_m": 1.23456}], tmp_path / "a.png")
    axes = figures[0].axes[0]
    assert axes.get_yticklabels()[0].get_text() == "ssp (1.23 M)"
    (container,) = axes.containers
    point, _, (interval,) = container
    assert point.get_xdata() == pytest.approx([90]) and point.get_ydata() == [0]
    assert interval.get_segments()[0][:, 0] == pytest.approx([85, 92])
