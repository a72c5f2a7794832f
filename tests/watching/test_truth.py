"""Average precision and F1 of segments: worked by hand, and against a naive implementation."""

import numpy as np
import pytest

from videossp.errors import DataError
from videossp.watching.segment import Segment
from videossp.watching.truth import agreement, overlap, read_truth


def segments(*rows):
    return [Segment(float(a), float(b), label, p) for a, b, label, p in rows]


TRUTH = segments((0, 2, "a", 1), (4, 6, "a", 1), (8, 10, "b", 1))


def test_an_exact_answer_is_perfect_and_an_empty_one_is_nothing():
    assert agreement(TRUTH, TRUTH).precision == {0.3: 1.0, 0.5: 1.0, 0.7: 1.0}
    assert agreement(TRUTH, TRUTH).f1 == 1.0
    empty = agreement([], TRUTH)
    assert empty.precision == {0.3: 0.0, 0.5: 0.0, 0.7: 0.0} and empty.f1 == 0.0


def test_a_case_worked_by_hand():
    found = segments(
        (0, 2, "a", 0.9),  # right
        (0, 2.1, "a", 0.8),  # the same again: wrong
        (4, 7, "a", 0.7),  # overlap 2/3: right at 0.3 and 0.5
        (8, 9, "b", 0.6),  # overlap 1/2: right at 0.3 and 0.5
        (4, 6, "c", 1.0),  # no class of the truth: counts in F1 only
    )
    result = agreement(found, TRUTH)
    # a: hit, miss, hit of 2: 1/2 * 1 + 1/2 * 2/3; at 0.7 only the first. b: 1, or 0 at 0.7.
    assert result.by_class["a"] == pytest.approx({0.3: 5 / 6, 0.5: 5 / 6, 0.7: 0.5})
    assert result.by_class["b"] == {0.3: 1.0, 0.5: 1.0, 0.7: 0.0}
    assert result.precision == pytest.approx({0.3: 11 / 12, 0.5: 11 / 12, 0.7: 0.25})
    assert result.f1 == pytest.approx(2 * 3 / (5 + 3))
    assert set(result.by_class) == {"a", "b"}


def naive_precision(found, truth, least):
    """ActivityNet's evaluation, written from its definition with arrays over ranks and recalls."""
    found = sorted(found, key=lambda x: x.probability, reverse=True)
    free, hit = set(range(len(truth))), np.zeros(len(found))
    for rank, x in enumerate(found):
        overlaps = np.array([overlap(x, y) for y in truth])
        for i in np.argsort(-overlaps, kind="stable"):
            if overlaps[i] < least:
                break
            if int(i) in free:
                free.discard(int(i))
                hit[rank] = 1
                break
    tp = np.cumsum(hit)
    precision = np.concatenate([[0], tp / np.arange(1, len(found) + 1), [0]])
    recall = np.concatenate([[0], tp / len(truth), [1]])
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    steps = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(((recall[steps] - recall[steps - 1]) * precision[steps]).sum())


def test_average_precision_is_that_of_the_definition_on_random_segments():
    rng = np.random.default_rng(0)
    for _ in range(60):

        def draw(count, rng=rng):
            starts, lengths = rng.uniform(0, 20, count), rng.uniform(0.5, 4, count)
            labels = rng.choice(["a", "b"], count)
            return [
                Segment(s, s + d, str(k), float(p))
                for s, d, k, p in zip(starts, lengths, labels, rng.random(count), strict=True)
            ]

        found, truth = draw(rng.integers(0, 25)), draw(rng.integers(1, 15))
        result = agreement(found, truth)
        for name, row in result.by_class.items():
            members, own = [x for x in truth if x.label == name], [x for x in found if x.label == name]
            for least, value in row.items():
                assert value == pytest.approx(naive_precision(own, members, least), abs=1e-12)


def test_overlap_is_intersection_over_union():
    a, b, c = segments((0, 4, "a", 1), (2, 6, "a", 1), (4, 5, "a", 1))
    assert overlap(a, b) == pytest.approx(2 / 6) and overlap(a, c) == 0 and overlap(a, a) == 1


def test_a_truth_file_has_seconds_or_clock_times(tmp_path):
    file = tmp_path / "truth.csv"
    file.write_text("label,end,start,note\na,2.5,0,x\nb,1:02:03.5,0:01:00,\n")
    assert read_truth(file, ["a", "b"]) == segments((0, 2.5, "a", 1), (60, 3723.5, "b", 1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("start,end,label\n", "no rows"),
        ("start,end\n0,1\n", "row 2: no label; the columns are start, end, label"),
        ("start,end,label\n0,1,a\n2,1,a\n", "row 3: end 1 is not after start 2"),
        ("start,end,label\n0,1,z\n", "row 2: 'z' is no class of the adapter: a, b"),
        ("start,end,label\n0,x,a\n", "end 'x' is not a time in seconds"),
    ],
    ids=["empty", "column", "order", "class", "time"],
)
def test_a_truth_file_that_cannot_be_right_is_one_line(tmp_path, text, words):
    file = tmp_path / "truth.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=words):
        read_truth(file, ["a", "b"])
    with pytest.raises(DataError, match="cannot be read"):
        read_truth(tmp_path / "none.csv", ["a"])
