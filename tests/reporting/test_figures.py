"""The figure of a comparison is readable with many methods."""

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from videossp.methods import METHODS
from videossp.reporting.figures import draw_comparison


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved."""
    saved, save = [], Figure.savefig

    def savefig(self, *args, **kwargs):
        saved.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


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
