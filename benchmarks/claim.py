"""Is a row ahead of every other row on the fresh sets? Intervals by the bootstrap, corrected for many rivals.

    python benchmarks/claim.py FOLDER [--first gather_spread] [--out benchmarks/results/claim.json]

FOLDER contains fresh/SET, for the columns of test.csv that tell which clips belong together. A difference is
that of the share of correct clips, paired by clip. Each of the 10,000 samples draws, with replacement,

- clusters of test clips: takes of the capture, figures of sprites, clips of tabletop. A clip of recipes has
  four takes; of the four ways to cluster, the one with the widest interval counts;
- seeds, the same of both rows; a row with one seed gets the variance over seeds pooled over the finalists;
- validation clips of the design round, which choose the rate of each finalist between its two best rates. The
  other rate was run with the first seed; its difference to the chosen rate is added where it is drawn.

The mean takes the sets as independent. P-values are two-sided. Holm's correction is over all rivals.
"""

import argparse
import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from findings import pooled, search, significant
from records import RESULTS, load, load_search, write
from rows import FINALISTS, FRAMES, FRESH, NEW, ROWS, SEEDS, Cell, best_rate, search_of, second_rate

SAMPLES = 10_000
CLUSTERS = {"motion": "take", "recipes": "takes", "sprites": "figure"}  # columns of test.csv
Runs = dict[str, dict[tuple[float, int], dict[str, Any]]]  # by row, then rate and seed


def clusterings(set_name: str, rows: Sequence[Mapping[str, str]]) -> list[np.ndarray]:
    """The number of the cluster of each test clip, in one or more ways."""
    column = CLUSTERS.get(set_name)
    if column is None:
        return [np.arange(len(rows))]
    parts = [sorted(x[column].split()) if column == "takes" else [x[column]] for x in rows]
    return [np.unique([x[i] for x in parts], return_inverse=True)[1] for i in range(len(parts[0]))]


def hits(run: Mapping[str, Any]) -> np.ndarray:
    """1.0 for each video that the run classifies correctly, else 0.0."""
    return np.array([x == "1" for x in run["hits"]], float)


def runs_of(set_name: str) -> Runs:
    """The runs of a fresh set that did not fail."""
    found: Runs = {}
    for title in ROWS | NEW:
        for run in load(set_name):
            if run["error"] is None and Cell(set_name, title, run["lr"], run["seed"]).of(run):
                found.setdefault(title, {})[run["lr"], run["seed"]] = run
    return found


def variance_over_seeds(runs: Runs, rates: Mapping[str, float]) -> float:
    """Variance of the accuracy over seeds, pooled over the rows with several."""
    groups = ([run for (lr, _), run in runs[title].items() if lr == rate] for title, rate in rates.items())
    return pooled(group for group in groups if len(group) > 1)[1]


def other_rate(set_name: str, title: str, runs: Runs, rng: np.random.Generator) -> np.ndarray | None:
    """For each sample, whether drawn validation clips choose the second-best rate; None if it was not run."""
    tried = search(set_name, title)
    best, second = best_rate(tried), second_rate(tried)
    if second is None or (second, SEEDS[0]) not in runs[title]:
        return None
    searched = load_search(set_name)
    cells = [Cell(search_of(set_name), title, lr, SEEDS[0]) for lr in (best, second)]
    losses = [next((x.get("losses") for x in searched if cell.of(x)), None) for cell in cells]
    if None in losses:
        return None
    gap = np.subtract(*map(np.array, losses))  # positive where the second rate is better
    drawn = rng.multinomial(len(gap), np.full(len(gap), 1 / len(gap)), SAMPLES)
    return drawn @ gap > 0


def differences(
    set_name: str, first: str, rival: str, runs: Runs, clusters: Sequence[np.ndarray]
) -> tuple[float, np.ndarray]:
    """The difference between two rows on a set, and its bootstrap samples, as fractions of the clips."""
    rates = {title: best_rate(search(set_name, title)) for title in runs if search(set_name, title)}
    chosen = {
        title: {seed: hits(run) for (lr, seed), run in runs[title].items() if lr == rates[title]}
        for title in (first, rival)
    }
    several = len(chosen[rival]) > 1
    common = sorted(chosen[first].keys() & chosen[rival].keys()) if several else sorted(chosen[first])
    single = next(iter(chosen[rival].values()))
    gaps = np.array([chosen[first][x] - (chosen[rival][x] if several else single) for x in common])
    missing = variance_over_seeds(runs, rates) if not several else 0.0
    samples = []
    for numbers in clusters:
        rng = np.random.default_rng(0)
        count = numbers.max() + 1
        drawn = rng.multinomial(count, np.full(count, 1 / count), SAMPLES)  # how often each cluster
        sizes = drawn @ np.bincount(numbers)

        def weighted(values: np.ndarray, numbers=numbers, drawn=drawn, sizes=sizes) -> np.ndarray:
            return drawn @ np.bincount(numbers, values) / sizes

        by_seed = np.array([weighted(gap) for gap in gaps])
        seeds = rng.integers(len(gaps), size=(SAMPLES, len(gaps)))
        sample = by_seed[seeds.T, np.arange(SAMPLES)].mean(0) + rng.normal(0, missing**0.5, SAMPLES)
        for title, sign in ((first, 1), (rival, -1)):
            other = other_rate(set_name, title, runs, rng) if title in FINALISTS else None
            if other is not None:
                second = second_rate(search(set_name, title))
                change = hits(runs[title][second, SEEDS[0]]) - chosen[title][SEEDS[0]]
                sample += sign * other * weighted(change)
        samples.append(sample)
    return float(gaps.mean()), max(samples, key=np.std)


def row_of(difference: float, samples: np.ndarray) -> dict[str, float]:
    """The difference with its 95 % interval and two-sided p-value."""
    low, high = np.quantile(samples, (0.025, 0.975))
    tail = min((samples <= 0).mean(), (samples >= 0).mean())
    p = min(1.0, 2 * max(tail, 1 / len(samples)))
    return {"difference": difference, "low": float(low), "high": float(high), "p": float(p)}


def mark(rows: Sequence[dict[str, Any]]) -> None:
    """Write `significant` into the rows of a set, after Holm's correction over all its rivals."""
    names = significant({x["rival"]: x["p"] for x in rows}, len(rows))
    for row in rows:
        row["significant"] = row["rival"] in names


def compared(folder: Path, first: str, sets: Sequence[str]) -> list[dict[str, Any]]:
    """The differences of a row to every other row, on each set and in the mean (set "all")."""
    found: list[dict[str, Any]] = []
    samples: dict[str, list[np.ndarray]] = {}
    for name in sets:
        with (folder / FRESH / name / "test.csv").open(newline="", encoding="utf-8") as file:
            clusters = clusterings(name, list(csv.DictReader(file)))
        runs = runs_of(f"{FRESH}{name}")
        rivals = [x for x in runs if x != first] if first in runs else []
        rows = []
        for rival in rivals:
            difference, sample = differences(f"{FRESH}{name}", first, rival, runs, clusters)
            rows.append({"set": name, "rival": rival, **row_of(difference, sample)})
            samples.setdefault(rival, []).append(sample)
        mark(rows)
        found += rows
    means = []
    for rival, parts in samples.items():
        if len(parts) == len(sets):
            rng = np.random.default_rng(1)  # so that sets are independent
            mean = np.mean([rng.permutation(x) for x in parts], axis=0)
            difference = statistics.fmean(x["difference"] for x in found if x["rival"] == rival)
            means.append({"set": "all", "rival": rival, **row_of(difference, mean)})
    mark(means)
    return found + means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first", default=FINALISTS[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "claim.json")
    args = parser.parse_args()
    rows = compared(args.folder, args.first, list(FRAMES))
    write(args.out, [{"first": args.first, **x} for x in rows])
    for x in rows:
        interval = f"{100 * x['low']:+.1f} to {100 * x['high']:+.1f}"
        star = " *" if x["significant"] else ""
        print(f"{x['set']:9} {x['rival']:32} {100 * x['difference']:+.1f} ({interval}){star}")


if __name__ == "__main__":
    main()
