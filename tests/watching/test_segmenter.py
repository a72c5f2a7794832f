"""The best cut into windows: the best of all cuts, the same on-line, and never late on a live source."""

import math

import numpy as np
import pytest

from videossp.watching.grid import Grid
from videossp.watching.segmenter import Piece, Segmenter, log_probability

GRID = Grid.of([1.0, 2.0], 0.5)  # two and four hops


def random_windows(rng, points, missing=0.2, classes=3):
    """Windows by their ends, as (first, stop, probabilities); some are missing."""
    return [
        (stop - length, stop, rng.dirichlet(np.full(classes, 0.4)).tolist())
        for stop in range(1, points + 1)
        for length in GRID.lengths
        if length <= stop and rng.random() > missing
    ]


def all_cuts(windows, points, start=0):
    """Every cut of the points from `start` on, as lists of windows; the rest is nothing."""
    if start == points:
        yield []
        return
    yield from all_cuts(windows, points, start + 1)
    for window in windows:
        if window[0] == start:
            for rest in all_cuts(windows, points, window[1]):
                yield [window, *rest]


def score(cut, points, nothing, gain=log_probability):
    covered = sum(stop - first for first, stop, _ in cut)
    pieces = sum(gain(p, (stop - first) * GRID.hop_seconds) for first, stop, p in cut)
    return pieces - nothing * (points - covered) * GRID.hop_seconds


def run(windows, points, **settings):
    """(pieces, the point at which each was given out), not joined by default."""
    segmenter = Segmenter(GRID, **{"join": False, **settings})
    found = []
    for first, stop, probabilities in windows:
        found += [(x, stop) for x in segmenter.add(first, stop, probabilities)]
    found += [(x, points) for x in segmenter.finish(points)]
    return found


@pytest.mark.parametrize("nothing", [0.2, 0.8, 3.0])
def test_the_cut_is_the_best_of_all_cuts(nothing):
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = int(rng.integers(4, 9))
        windows = random_windows(rng, points)
        best = max(all_cuts(windows, points), key=lambda cut: score(cut, points, nothing))
        found = [x for x, _ in run(windows, points, nothing=nothing)]
        assert [(x.first, x.stop) for x in found] == [x[:2] for x in best]
        assert [x.label for x in found] == [int(np.argmax(p)) for *_, p in best]
        assert [x.probability for x in found] == [max(p) for *_, p in best]


def test_pieces_come_before_the_end_and_the_cut_is_that_of_the_whole_recording():
    rng = np.random.default_rng(1)
    windows = random_windows(rng, 400)
    found = run(windows, 400, nothing=1.0)
    # Independent: the same recursion over the whole recording, traced back once from its end.
    best, back = [0.0], [None]
    for point in range(1, 401):
        options = [(best[point - 1] - 0.5, point - 1, None)]
        options += [(best[a] + log_probability(p, (b - a) / 2), a, p) for a, b, p in windows if b == point]
        value, before, p = max(options, key=lambda x: x[0])
        best.append(value)
        back.append((before, p))
    expected, place = [], 400
    while place:
        before, p = back[place]
        if p:
            expected.append(Piece(before, place, int(np.argmax(p)), max(p)))
        place = before
    assert [x for x, _ in found] == expected[::-1]
    early = [seen - x.stop for x, seen in found if seen < 400]
    assert len(early) > 0.9 * len(found) and np.median(early) <= 2 * GRID.longest


def stubborn(points):
    """Windows whose cuts at odd points are better, but by less than the hop of nothing before them costs."""
    return [(stop - 2, stop, [p, 1 - p]) for stop in range(2, points + 1) for p in [0.9 + 0.001 * (stop % 2)]]


def test_without_patience_a_decision_may_take_until_the_end_and_with_it_it_does_not():
    grid = Grid.of([1.0], 0.5)
    for patience in (None, 8):
        segmenter = Segmenter(grid, 5.0, join=False, patience=patience)
        waits, found = [], []
        for window in stubborn(201):
            for piece in segmenter.add(*window):
                found.append(piece)
                waits.append(window[1] - piece.stop)
        last = segmenter.finish(201)
        if patience is None:
            assert len(last) >= 99
        else:
            assert len(last) <= 5 and max(waits) <= 8
        everything = [*found, *last]
        assert all(a.stop <= b.first for a, b in zip(everything, everything[1:], strict=False))


def test_patience_never_repeats_or_overlaps_pieces_and_the_state_stays_small():
    rng = np.random.default_rng(2)
    windows = random_windows(rng, 1000, missing=0.3)
    segmenter, found = Segmenter(GRID, 0.7, join=False, patience=6), []
    for window in windows:
        found += segmenter.add(*window)
        assert len(segmenter._nodes) <= 10 and len(segmenter._ending) <= 1
    found += segmenter.finish(1000)
    assert all(a.stop <= b.first for a, b in zip(found, found[1:], strict=False))
    assert {(x.first, x.stop) for x in found} <= {(a, b) for a, b, _ in windows}


def test_neighbours_of_one_class_are_joined_only_if_asked_and_only_if_they_touch():
    probabilities = {"a": [0.9, 0.1], "A": [0.7, 0.3], "b": [0.2, 0.8]}
    windows = [
        (stop - 2, stop, probabilities[name]) for stop, name in ((2, "a"), (4, "A"), (6, "b"), (9, "b"))
    ]
    apart = [x for x, _ in run(windows, 10, nothing=3.0)]
    assert [(x.first, x.stop, x.label) for x in apart] == [(0, 2, 0), (2, 4, 0), (4, 6, 1), (7, 9, 1)]
    joined = [x for x, _ in run(windows, 10, nothing=3.0, join=True)]
    assert [(x.first, x.stop, x.label) for x in joined] == [(0, 4, 0), (4, 6, 1), (7, 9, 1)]
    assert joined[0].probability == pytest.approx(0.8)


def test_with_patience_joined_pieces_come_out_too_and_without_it_at_the_end():
    windows = [(stop - 2, stop, [0.9, 0.1]) for stop in range(2, 401)]
    (whole,) = [x for x, _ in run(windows, 400, nothing=3.0, join=True)]
    assert (whole.first, whole.stop) == (0, 400) and whole.probability == pytest.approx(0.9)
    parts = run(windows, 400, nothing=3.0, join=True, patience=8)
    assert all(seen - x.first <= 17 for x, seen in parts) and 400 / 17 <= len(parts) < 50
    assert parts[0][0].first == 0 and parts[-1][0].stop == 400
    for (a, _), (b, _) in zip(parts, parts[1:], strict=False):
        assert a.stop <= b.first <= a.stop + 1


def test_nothing_is_where_no_class_is_worth_its_cost():
    windows = [(0, 2, [0.5, 0.5]), (2, 4, [0.99, 0.01])]
    assert [x.first for x, _ in run(windows, 4, nothing=-math.log(0.6))] == [2]
    assert [x.first for x, _ in run(windows, 4, nothing=-math.log(0.4))] == [0, 2]
    with pytest.raises(ValueError, match="nothing must be at least 0"):
        Segmenter(GRID, -1.0)
