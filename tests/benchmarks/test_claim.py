"""benchmarks/claim.py: intervals and p-values of differences are those of the samples that it describes."""

import csv

import numpy as np
import pytest

SET = "fresh/motion"


@pytest.fixture
def claim(benchmarks, monkeypatch):
    module = benchmarks("claim")
    monkeypatch.setattr(module, "SAMPLES", 2000)
    return module


@pytest.fixture
def put(claim, benchmarks, monkeypatch):
    """put(runs, searched): the runs of the fresh set, and those that chose the rates."""

    def put(runs, searched=()):
        monkeypatch.setattr(claim, "load", lambda name: runs if name == SET else [])
        for module in (claim, benchmarks("findings")):
            monkeypatch.setattr(module, "load_search", lambda name: list(searched))

    return put


def run(claim, row, lr, seed, correct, name=SET, **more):
    hits = "".join(str(int(x)) for x in correct)
    figures = {"error": None, "hits": hits, "val_loss": 1.0, "val_top1": 0.5, **more}
    return claim.Cell(name, row, lr, seed).asked | figures


def searched(claim, *rows, lr=1e-2, **more):
    return [run(claim, x, lr, 0, [], name="design/motion", **more) for x in rows]


def random(p, count=200, seed=0):
    return np.random.default_rng(seed).random(count) < p


def test_a_large_difference_is_significant_and_none_is_not(claim, put, tmp_path, monkeypatch):
    first, rival = "gather_spread", "lora"
    monkeypatch.setattr(claim, "CLUSTERS", {})
    (tmp_path / "fresh" / "motion").mkdir(parents=True)
    with (tmp_path / "fresh" / "motion" / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path"], *([f"{i}"] for i in range(200))])
    good, bad = random(0.8), random(0.5, seed=1)
    runs = [run(claim, first, 1e-2, seed, good) for seed in range(3)]
    runs += [run(claim, rival, 1e-2, seed, bad) for seed in range(3)]
    runs += [run(claim, "svp", 1e-2, seed, good[::-1]) for seed in range(3)]
    put(runs, searched(claim, first, rival, "svp"))
    by_rival = {x["rival"]: x for x in claim.compared(tmp_path, first, ["motion"]) if x["set"] == "all"}
    assert by_rival["lora"]["difference"] == pytest.approx(good.mean() - bad.mean())
    assert by_rival["lora"]["low"] > 0 and by_rival["lora"]["significant"]
    assert by_rival["svp"]["difference"] == 0 and not by_rival["svp"]["significant"]


def test_the_interval_over_clips_is_that_of_paired_differences(claim, put):
    good, bad = random(0.8), random(0.5, seed=1)
    put([], searched(claim, "gather_spread", "lora"))
    runs = {"gather_spread": {(1e-2, 0): run(claim, "gather_spread", 1e-2, 0, good)}}
    runs["lora"] = {(1e-2, 0): run(claim, "lora", 1e-2, 0, bad)}
    clips = [np.arange(200)]
    _, samples = claim.differences(SET, "gather_spread", "lora", runs, clips)
    gap = good.astype(float) - bad
    assert samples.std() == pytest.approx(gap.std() / np.sqrt(200), rel=0.1)
    pairs = [np.arange(200) // 2]  # clips in twos, all alike in their cluster
    doubled = {
        x: {key: y | {"hits": "".join(2 * c for c in y["hits"][:100])} for key, y in z.items()}
        for x, z in runs.items()
    }
    _, alone = claim.differences(SET, "gather_spread", "lora", doubled, clips)
    _, together = claim.differences(SET, "gather_spread", "lora", doubled, pairs)
    assert together.std() == pytest.approx(np.sqrt(2) * alone.std(), rel=0.1)
    _, widest = claim.differences(SET, "gather_spread", "lora", doubled, clips + pairs)
    assert np.array_equal(widest, together)


def test_a_row_with_one_seed_gets_the_variance_over_seeds_of_the_others(claim, put):
    put([], searched(claim, "gather_spread", "lora"))
    half = np.arange(400) < 200
    seeds = [half, half, np.ones(400), np.zeros(400)]  # accuracies far apart, clip by clip the same
    runs = {
        "gather_spread": {(1e-2, i): run(claim, "gather_spread", 1e-2, i, x) for i, x in enumerate(seeds)}
    }
    runs["lora"] = {(1e-2, 0): run(claim, "lora", 1e-2, 0, half)}
    variance = claim.variance_over_seeds(runs, {"gather_spread": 1e-2, "lora": 1e-2})
    assert variance == pytest.approx(4 / 3 * (0.125 - 0.75 * 0.25 / 400))
    _, samples = claim.differences(SET, "gather_spread", "lora", runs, [np.arange(400)])
    # The mean of four drawn seeds of one row, and one seed of the other.
    assert samples.var() == pytest.approx(0.125 / 4 + variance, rel=0.15)


def test_the_second_rate_counts_as_often_as_drawn_validation_clips_choose_it(claim, put):
    first, rival = "gather_spread", "lora"
    assert first in claim.FINALISTS and rival not in claim.FINALISTS
    rng = np.random.default_rng(0)
    losses = rng.random(100)
    rates = [(1e-2, losses, 1.0), (3e-3, losses + rng.normal(0, 0.1, 100), 1.1)]
    runs_searched = [
        x for lr, loss, mean in rates for x in searched(claim, first, lr=lr, losses=list(loss), val_loss=mean)
    ]
    put([], [*runs_searched, *searched(claim, rival)])
    every, none = np.ones(50), np.zeros(50)
    runs = {
        first: {(1e-2, 0): run(claim, first, 1e-2, 0, every), (3e-3, 0): run(claim, first, 3e-3, 0, none)},
        rival: {(1e-2, 0): run(claim, rival, 1e-2, 0, none)},
    }
    share = claim.other_rate(SET, first, runs, np.random.default_rng(1)).mean()
    gap = np.subtract(rates[0][1], rates[1][1])
    expected = np.mean([gap[rng.integers(100, size=100)].mean() > 0 for _ in range(2000)])
    assert share == pytest.approx(expected, abs=0.05) and 0.01 < share < 0.99
    difference, samples = claim.differences(SET, first, rival, runs, [np.arange(50)])
    assert difference == 1.0 and set(samples) == {0.0, 1.0}
    assert (samples == 0).mean() == pytest.approx(share, abs=0.05)


def test_clips_of_recipes_are_clustered_by_each_of_their_takes(claim):
    rows = [{"takes": "a_1 b_1"}, {"takes": "b_2 a_1"}, {"takes": "a_2 b_2"}]
    first, second = claim.clusterings("recipes", rows)
    assert list(first) == [0, 0, 1] and list(second) == [0, 1, 1]
    assert [list(x) for x in claim.clusterings("tabletop", rows)] == [[0, 1, 2]]


def test_holm_stops_at_the_first_that_is_not_significant(claim):
    rows = [{"rival": str(p), "p": p} for p in (0.03, 0.001, 0.02)]
    claim.mark(rows)
    assert [x["significant"] for x in rows] == [True, True, True]
    rows = [{"rival": str(p), "p": p} for p in (0.04, 0.001, 0.03)]
    claim.mark(rows)
    assert [x["significant"] for x in rows] == [False, True, False]
