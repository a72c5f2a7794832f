"""How much wider intervals become if test clips of the same origin are not independent.

    python benchmarks/clusters.py FOLDER/motion --column take

A column of FOLDER/test.csv names the origin of each clip. For each row of benchmarks/results (first seed, at
the rate that validation chose) the script prints two ratios of standard errors, with origins as units over
clips as units: that of the accuracy, and that of the paired difference to the first row.
"""

import argparse
import csv
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from findings import chosen
from rows import ROWS, SEEDS

from videossp import DataError, read_data


def widening(values: Sequence[float], origins: Sequence[str]) -> float:
    """Standard error of a mean with origins as units, over that with single values (Liang & Zeger 1986)."""
    rest = np.asarray(values, float) - np.mean(values)
    sums: dict[str, float] = defaultdict(float)
    for x, origin in zip(rest, origins, strict=True):
        sums[origin] += x
    return float(np.sqrt(sum(x * x for x in sums.values()) / np.sum(rest**2)))


def main() -> None:
    """Exit code: 2 if the set is unusable or has no runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", type=Path)
    parser.add_argument("--column", default="take", help="column of test.csv (default: take)")
    args = parser.parse_args()
    try:
        test = read_data(args.set).splits.get("test", [])
    except (DataError, OSError) as error:
        parser.error(str(error))
    with (args.set / "test.csv").open(encoding="utf-8", newline="") as file:
        known = {x["path"]: x.get(args.column) for x in csv.DictReader(file)}
    origins = [known.get(x.name) or "" for x in test]
    if not all(origins):
        parser.error(f"{args.set / 'test.csv'}: no column {args.column!r}, or it has empty cells")
    runs = chosen(args.set.name, list(ROWS), SEEDS[:1]).runs
    hits = {x["method"]: np.array([hit == "1" for hit in x["hits"]], float) for x in runs if not x["error"]}
    if len(hits) < 2 or {len(x) for x in hits.values()} != {len(test)}:
        parser.error(f"{args.set}: benchmarks/results has no runs on these clips")
    first = next(iter(hits))
    print(f"{len(test)} clips of {len(set(origins))} origins")
    print(f"ratio of interval widths: accuracy, difference to {first}")
    ways = [
        {x: widening(own, origins) for x, own in hits.items()},
        {x: widening(own - hits[first], origins) for x, own in hits.items() if x != first},
    ]
    for name in hits:
        print(f"{name:26}{'  '.join(f'{way[name]:.2f}' for way in ways if name in way)}")
    print(f"{'median':26}{'  '.join(f'{statistics.median(way.values()):.2f}' for way in ways)}")


if __name__ == "__main__":
    main()
