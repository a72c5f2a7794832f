"""The mini benchmark: every method on every set, in processes of one core each; resumable.

    python benchmarks/table.py --sets FOLDER --work WORK [--only tabletop,motion] [--minutes 60]

FOLDER contains the sets that `benchmarks/minibench` generates, in subfolders with their names. Every run is a
run of `videossp compare`; all runs on a set have the same budget.

Learning rates are chosen on validation, by loss and then accuracy, by one rule for all methods. The first
seed runs at 1e-3 and 3e-3, then at the next rates of the grid as long as the best rate is at an end of those
tried. Other seeds run at the best rate. Ablations run at the best rate of the row that they change. Ablations
of the pretraining need `--backbones`, a folder of NAME.safetensors.

Finished runs are added to benchmarks/results/SET.json, one line per run, and do not run again;
`benchmarks/page.py` generates the tables of docs/benchmarks.md from them. A failed run is recorded as the
failure of its rate; remove its line to run it again. Runs with other clips, weights or settings are replaced.
The script may be interrupted at any time: only unfinished runs are lost.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from records import RESULTS, load, load_search, write
from rows import (
    ABLATIONS,
    BACKBONE,
    BUDGET,
    DESIGN,
    FINALISTS,
    FIRST,
    FRAMES,
    FRESH,
    GRID,
    NEW,
    REAL_FRAMES,
    ROWS,
    SEEDS,
    TRIED,
    Cell,
    base_of,
    best_rate,
    kind_of,
    rates,
    round_of,
    rows_of,
    search_of,
    second_rate,
    seeds_of,
    tried_of,
)

from videossp import Classifier, TrainConfig, read_data
from videossp.comparison.compare import compare
from videossp.system.files import exclusive_lock


def store(set_name: str, runs: list[dict[str, Any]]) -> None:
    """Write the runs of a set, one per line, in the order of the rows."""
    order = {name: i for i, name in enumerate(rows_of(set_name))}
    runs = sorted(runs, key=lambda x: (order.get(x["row"], len(order)), x["row"], x["lr"], x["seed"]))
    (RESULTS / set_name).parent.mkdir(parents=True, exist_ok=True)
    write(RESULTS / f"{set_name}.json", runs)


def cells(
    done: Mapping[str, Sequence[Mapping[str, Any]]], running: Collection[Cell], only: Collection[str] = ()
) -> list[Cell]:
    """Runs that can start now, by priority: first the starting rates of all rows, then the refinements.

    Args:
        done: the finished runs of each set.
        running: the unfinished runs.
        only: rows to run; empty: all.
    """
    ready: list[tuple[int, Cell]] = []
    for name, runs in done.items():
        for title in [x for x in rows_of(name) if not only or x in only]:
            searched = search_of(name)
            others = load_search(name) if round_of(name) != FIRST else []
            tried = tried_of(searched, base_of(title), [*runs, *others], running)
            wanted = rates(searched, tried)
            searches = base_of(title) == title and searched == name
            if searches:
                ready += [(i, Cell(name, title, lr, SEEDS[0])) for i, lr in enumerate(wanted, len(tried))]
            if wanted or not tried or None in tried.values() or round_of(name) == DESIGN:
                continue
            missing = [Cell(name, title, best_rate(tried), seed) for seed in seeds_of(name, title)]
            if round_of(name) == FRESH and title in FINALISTS and (second := second_rate(tried)):
                missing.append(Cell(name, title, second, SEEDS[0]))  # for the interval, see claim.py
            ready += [(len(GRID), x) for x in missing if x not in running and not any(map(x.of, runs))]
    return [cell for _, cell in sorted(ready, key=lambda x: x[0])]


def available(backbone: str, backbones: Path | None) -> bool:
    """Whether the weights of a row are available."""
    known = backbone in (BACKBONE, "random")
    return known or (backbones is not None and (backbones / f"{backbone}.safetensors").is_file())


def pin(cores: SimpleQueue[int]) -> None:
    """Pin this thread, and the processes it starts, to one core."""
    os.sched_setaffinity(0, {cores.get()})


def weights_of(backbone: str, backbones: Path | None) -> dict[str, str]:
    """The arguments of `Classifier.create` for the weights of a row."""
    if backbone == BACKBONE:
        return {"backbone": BACKBONE}
    if backbone == "random":
        return {"backbone": BACKBONE, "weights": "random"}
    return {"backbone": f"{backbones}/{backbone}.safetensors"}


def run(
    cell: Cell, stamp: Mapping[str, str], folder: Path, work: Path, backbones: Path | None
) -> dict[str, Any]:
    """Run one cell. Returns its settings, the stamp of its data and weights, and its figures."""
    row, settings = rows_of(cell.set)[cell.row], cell.asked | stamp
    budget = BUDGET | {"calibrate": False}  # so that losses can be compared with those of older runs
    config = TrainConfig(**budget, epochs=settings["epochs"], lr=cell.lr, seed=cell.seed)
    mark = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]
    comparison = compare(
        folder / cell.set,
        [row.method],
        [cell.seed],
        config,
        out=work
        / f"{cell.set}-{cell.row}-{cell.lr:g}-{cell.seed}-{mark}".replace(" ", "_").replace("/", "-"),
        **weights_of(row.backbone, backbones),
        options={row.method: row.options},
        frames=cell.asked["frames"],
        drop_path=row.drop_path,
    )
    result = settings | comparison.runs[0]
    if kind_of(cell.set) == "recipes" and not result["error"]:
        data = read_data(folder / cell.set)
        samples = data.splits.get("test") or data.splits["val"]
        result |= orders(data.classes, [x.label for x in samples], result["predicted"])
    return result


def orders(classes: Sequence[str], labels: Sequence[int], predicted: Sequence[int]) -> dict[str, float]:
    """Accuracies for orders of four parts, "first-second-third-last", whose classes come in pairs.

    Both classes of a pair have the same first and last part, and the middle two in either order.

    Returns:
        pair_top1: the pair is right. middle_top1: the order of the middle two, of the videos whose pair is
        right; 0.5 is chance.
    """
    ends = [tuple(x.split("-")[:: len(x.split("-")) - 1]) for x in classes]
    right = [a for a, b in zip(labels, predicted, strict=True) if ends[a] == ends[b]]
    whole = sum(a == b for a, b in zip(labels, predicted, strict=True))
    return {"pair_top1": len(right) / len(labels), "middle_top1": whole / max(1, len(right))}


def stamp_of(folder: Path, weights: Mapping[str, str]) -> dict[str, str]:
    """Hashes of a run's inputs: the annotation of its set and the weights of its backbone."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.csv")):
        digest.update(file.read_bytes())
    sha = Classifier.create(**weights, num_classes=2, method="linear").sha256
    return {"annotation": digest.hexdigest(), "backbone_sha256": sha}


def is_current(
    name: str, run: Mapping[str, Any], stamps: Mapping[tuple[str, str], Mapping[str, str]]
) -> bool:
    """Whether a run belongs to the table and has these clips, and these weights if they are available."""
    if run["row"] not in rows_of(name) or not Cell(name, run["row"], run["lr"], run["seed"]).of(run):
        return False
    stamp = stamps.get((name, run["backbone"]), {"annotation": stamps[name, BACKBONE]["annotation"]})
    return stamp.items() <= run.items()


def run_all(args: argparse.Namespace, sets: Sequence[str]) -> int:
    """Run everything that is missing, until the time is over. Returns the number of failures."""
    cores: SimpleQueue[int] = SimpleQueue()
    for core in sorted(os.sched_getaffinity(0))[: args.processes]:
        cores.put(core)
    only = args.rows.split(",") if args.rows else [*ROWS, *NEW, *TRIED, *ABLATIONS]
    missing = [x for x in only if not available((ROWS | NEW | TRIED | ABLATIONS)[x].backbone, args.backbones)]
    if missing:
        print(f"skipped, weights not in --backbones: {', '.join(missing)}", flush=True)
        only = [x for x in only if x not in missing]
    if waits := [x for x in only if base_of(x) not in only]:
        print(f"skipped unless the rate of their base row is known: {', '.join(waits)}", flush=True)
    stamps = {
        (name, weights): stamp_of(args.sets / name, weights_of(weights, args.backbones))
        for name in sets
        for weights in {x.backbone for x in rows_of(name).values() if available(x.backbone, args.backbones)}
    }
    done = {name: [x for x in load(name) if is_current(name, x, stamps)] for name in sets}
    end, failures = time.monotonic() + 60 * args.minutes, 0
    pool = ThreadPoolExecutor(args.processes, initializer=pin, initargs=(cores,))
    running: dict[Future[dict[str, Any]], Cell] = {}
    while True:
        while (
            len(running) < args.processes
            and time.monotonic() < end
            and (ready := cells(done, running.values(), only))
        ):
            cell = ready[0]
            stamp = stamps[cell.set, cell.asked["backbone"]]
            running[pool.submit(run, cell, stamp, args.sets, args.work, args.backbones)] = cell
        if not running:
            return failures
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            cell, result = running.pop(future), future.result()
            done[cell.set].append(result)
            store(cell.set, done[cell.set])
            failures += bool(result["error"])
            text = (
                result["error"] or f"val {100 * result['val_top1']:.1f} %, test {100 * result['top1']:.1f} %"
            )
            print(f"{cell.set}, {cell.row}, rate {cell.lr:g}, seed {cell.seed}: {text}", flush=True)


def main() -> None:
    """Exit code: 1 if a run failed, 2 if a set is missing, 130 if stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=Path, required=True, help="folder that contains the sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--backbones", type=Path, help="folder of NAME.safetensors, for the ablations")
    parser.add_argument(
        "--only", default=",".join(FRAMES), help="comma-separated names of sets (default: all)"
    )
    parser.add_argument("--rows", help="comma-separated names of rows (default: all)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after this time")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    sets = args.only.split(",")
    if unknown := [x for x in sets if kind_of(x) not in FRAMES | REAL_FRAMES or not (args.sets / x).is_dir()]:
        parser.error(
            f"no set {unknown[0]!r} in {args.sets}; generate it with benchmarks/minibench, or change --only"
        )
    known = {x: None for name in sets for x in rows_of(name)}
    if unknown := [x for x in (args.rows or "ssp").split(",") if x not in known]:
        parser.error(f"no row {unknown[0]!r} of {args.only}; the rows are {', '.join(known)}")
    for folder in (args.work, RESULTS):
        folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with exclusive_lock(RESULTS / ".lock", f"{RESULTS}: another process writes there"):
            code = min(1, run_all(args, sets))
    except KeyboardInterrupt:
        print("stopped; run the same command to resume", file=sys.stderr)
        code = 130
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    os._exit(code)  # threads may still wait for runs; these end with this process


if __name__ == "__main__":
    main()
