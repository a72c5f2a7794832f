"""The figures of a comparison: rows, differences between methods, selected learning rates, table."""

import math

import pytest

from videossp.comparison.intervals import wilson
from videossp.comparison.results import Comparison, difference


def test_a_row_has_the_mean_time_and_the_largest_memory():
    shared = {"method": "x", "lr": 0.01, "error": None, "videos": 20, "parameters": 50, "all_parameters": 200}
    shared |= {"method_parameters": 40, "adapter_mb": 1.5, "val_top1": 0.5, "val_loss": 1.0}
    runs = [
        {**shared, "seed": 0, "top1": 0.59, "seconds_per_clip": 1.0, "memory_gb": 3.0},
        {**shared, "seed": 1, "top1": 0.61, "seconds_per_clip": 2.0, "memory_gb": 2.0},
        {"method": "x", "lr": 0.01, "seed": 2, "error": "RuntimeError: no"},
    ]
    result = Comparison(("x",), (0, 1, 2), {"evaluated_on": "test"}, runs)
    assert result.rows == [
        {
            "method": "x",
            "seeds": 2,
            "failed": 1,
            "lr": 0.01,
            "parameters": 50,
            "parameters_m": 5e-5,
            "parameters_percent": 25.0,
            "method_parameters": 40,
            "top1": pytest.approx(0.6),
            # Of 0.59 and 0.61 the standard deviation is 0.01414: 12.706 x 0.01. Wilson's, of 12 in 20, is
            # 0.38658 to 0.78119.
            "top1_low": pytest.approx(0.6 - math.hypot(0.12706, 0.6 - 0.38658), abs=1e-5),
            "top1_high": pytest.approx(0.6 + math.hypot(0.12706, 0.78119 - 0.6), abs=1e-5),
            "interval": "Wilson, 20 videos + Student t, 2 seeds",
            "difference": None,
            "difference_low": None,
            "difference_high": None,
            "seconds_per_clip": 1.5,
            "memory_gb": 3.0,
            "adapter_mb": 1.5,
        }
    ]
    text = " ".join(result.table()[1].split())
    assert text == "x 0.01 2 of 3 0.0001 25.000 60.0 (35.2 to 82.1) 1.500 3.00 1.500"


def test_a_difference_is_paired_by_seed_and_video():
    def run(seed, hits):
        return {"seed": seed, "hits": hits}

    ours, theirs = [run(0, "1110"), run(1, "1100"), run(7, "0000")], [run(1, "0100"), run(0, "1001")]
    mean, low, high = difference(ours, theirs)
    # By video 0.5, 0.5, 0.5, -0.5, and of the two added 1, 0, 0, -1, half of each: of 6 the mean is 1/6, that
    # of the squares 2/6. By seed 0.25 and 0.25: no spread.
    half = 1.96 * math.sqrt((2 / 6 - 1 / 36) / 6)
    assert (mean, low, high) == pytest.approx((0.25, 1 / 6 - half, 1 / 6 + half))
    # Seeds that disagree, 0.5 and 0: 12.706 x 0.3536 / root of 2; by video 0, 0.5, 0.5, 0.
    _, _, high = difference([run(0, "1110"), run(1, "1100")], [run(0, "1000"), run(1, "1100")])
    over_videos = 1 / 6 + 1.96 * math.sqrt((1.5 / 6 - 1 / 36) / 6)
    assert high == pytest.approx(0.25 + math.hypot(12.706 * 0.25, over_videos - 0.25))
    assert difference([run(0, "1")], [run(1, "1")]) is None
    assert difference([{"seed": 0}], theirs) is None


def test_the_difference_of_equal_methods_has_an_interval():
    hits = [{"seed": 0, "hits": "1" * 20}]
    # Of 20 videos none speaks for either: 1.96 x the root of 1/22 over the root of 22.
    assert difference(hits, hits) == pytest.approx((0.0, -1.96 / 22, 1.96 / 22))
    worse = [{"seed": 0, "hits": "0" * 20}]
    mean, low, high = difference(hits, worse)
    assert mean == 1 and low < 0.8 and high > 1


def one_of(method, lr, seed, val_top1, val_loss, hits="1100"):
    """A run as far as a row needs it."""
    figures = dict.fromkeys(("parameters", "all_parameters", "method_parameters"), 1)
    figures |= dict.fromkeys(("seconds_per_clip", "memory_gb", "adapter_mb"), 1.0)
    top1 = hits.count("1") / len(hits)
    run = {"method": method, "lr": lr, "seed": seed, "error": None, "videos": len(hits), "hits": hits}
    return run | figures | {"top1": top1, "val_top1": val_top1, "val_loss": val_loss}


def test_the_rate_is_selected_on_validation_with_the_first_seed():
    runs = [
        one_of("x", 0.001, 0, 0.7, 0.5, hits="1111"),  # best on test, which must not matter
        one_of("x", 0.003, 0, 0.7, 0.4),
        one_of("x", 0.01, 0, 0.8, 0.4, hits="0001"),  # the same loss, more accurate
        one_of("x", 0.03, 0, 0.8, 0.4, hits="1111"),  # the same: the smaller rate
        one_of("x", 0.1, 0, 0.9, 0.6),  # most accurate, but not by the loss
        one_of("x", 0.001, 1, 1.0, 0.0, hits="1111"),  # of another seed
        one_of("x", 0.01, 1, 0.1, 2.0, hits="0011"),
        one_of("y", 0.001, 0, 0.2, 0.5, hits="1111"),
        {"method": "y", "lr": 0.003, "seed": 0, "error": "FloatingPointError: no"},
    ]
    result = Comparison(("x", "y"), (0, 1), {"evaluated_on": "test"}, runs)
    x, y = result.rows
    assert (x["lr"], x["seeds"], x["top1"]) == (0.01, 2, pytest.approx(3 / 8))
    assert (y["lr"], y["seeds"], y["failed"], y["top1"]) == (0.001, 1, 0, 1.0)
    assert y["difference"] == 0.75  # to seed 0 of x at 0.01
    text = result.table()
    for row, line in zip(result.rows, text[1:], strict=False):
        low, high = (100 * row[f"top1_{end}"] for end in ("low", "high"))
        assert f" ({low:.1f} to {high:.1f})" in line
    low, high = (100 * y[f"difference_{end}"] for end in ("low", "high"))
    assert f"+75.0 ({low:+.1f} to {high:+.1f})" in text[2]
    assert [line.split()[1] for line in text[1:3]] == ["0.01", "0.001"]
    assert "FAILED y, lr 0.003, seed 0: FloatingPointError: no" in text
    assert text[-1] == (
        "lr: lowest loss of 0.001, 0.003, 0.01, 0.03, 0.1 on the split that selected the epoch, with seed 0; "
        "at an end of these: y; try further rates"
    )
    assert (
        "the same for all methods"
        in Comparison(("y",), (0,), {"evaluated_on": "test"}, runs[7:8]).table()[-1]
    )
    none_good = Comparison(("y",), (0,), {"evaluated_on": "test"}, runs[8:])
    assert none_good.rows[0]["lr"] == 0.003 and none_good.rows[0]["failed"] == 1


def test_equal_seeds_leave_the_interval_over_videos():
    shared = {
        "method": "x",
        "lr": 0.01,
        "error": None,
        "videos": 20,
        "parameters": 50,
        "all_parameters": 200,
        "top1": 0.8,
        "val_top1": 0.5,
        "val_loss": 1.0,
    }
    shared |= {"method_parameters": 40, "adapter_mb": 1.5, "seconds_per_clip": 1.0, "memory_gb": 3.0}
    result = Comparison(("x",), (0, 1), {"evaluated_on": "test"}, [{**shared, "seed": x} for x in (0, 1)])
    (row,) = result.rows
    assert (row["top1_low"], row["top1_high"]) == pytest.approx(wilson(0.8, 20))
    assert "80.0 (58.4 to 91.9)" in result.table()[1]
