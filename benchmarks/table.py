"""The mini benchmark: every method on every set, in processes of one core each; resumable.

    python benchmarks/table.py --sets FOLDER --work WORK [--only tabletop,motion] [--minutes 60]

FOLDER holds the sets that `benchmarks/minibench` makes, each by its name. Every run is one of `videossp
compare`, all on a set with the same budget. Learning rates are chosen on validation, by loss and then
accuracy, by one rule for all methods: the first seed is run at 1e-3 and 3e-3, then further out on the grid
for as long as the best rate is the outermost that was tried. Other seeds run at the best one; so do the
ablations, at that of the row that they change. Those of the pretraining need `--backbones`, a folder of
NAME.safetensors. Whatever is finished is added to benchmarks/results/SET.json, a line a run, and is not run
again; `benchmarks/page.py` makes docs/benchmarks.md of it. A run that fails is kept too, as the failure of
that rate; remove its line to run it again. Runs on other clips, weights or settings than these are replaced.
It may be stopped at any time: only the runs under way are lost.
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

from records import RESULTS, load, write
from rows import (
    ABLATIONS,
    BACKBONE,
    BUDGET,
    FRAMES,
    GRID,
    ROWS,
    SEEDS,
    SEVERAL,
    Cell,
    base_of,
    best_rate,
    rates,
    rows_of,
    tried_of,
)

from videossp import Classifier, TrainConfig
from videossp.comparison.compare import compare
from videossp.system.files import exclusive_lock


def store(set_name: str, runs: list[dict[str, Any]]) -> None:
    """Write the runs of a set, one a line."""
    order = {name: i for i, name in enumerate(rows_of(set_name))}
    runs = sorted(runs, key=lambda x: (order.get(x["row"], len(order)), x["row"], x["lr"], x["seed"]))
    write(RESULTS / f"{set_name}.json", runs)


def cells(
    done: Mapping[str, Sequence[Mapping[str, Any]]], running: Collection[Cell], only: Collection[str] = ()
) -> list[Cell]:
    """What can be started now, the most wanted first: a first picture of all, then what refines it.

    Args:
        done: the finished runs of each set.
        running: what is under way.
        only: rows to run; none: all.
    """
    found: list[tuple[int, Cell]] = []
    for name, runs in done.items():
        for title in [x for x in rows_of(name) if not only or x in only]:
            tried = tried_of(name, base_of(title), runs, running)
            wanted = rates(tried)
            own = base_of(title) == title
            if own:
                found += [(i, Cell(name, title, lr, SEEDS[0])) for i, lr in enumerate(wanted, len(tried))]
            if wanted or None in tried.values():
                continue
            first = 1 if own else 0  # the search has run the first seed
            seeds = SEEDS[first:] if title in SEVERAL.get(name, ()) else SEEDS[first:1]
            others = (Cell(name, title, best_rate(tried), seed) for seed in seeds)
            found += [(len(GRID), x) for x in others if x not in running and not any(map(x.of, runs))]
    return [cell for _, cell in sorted(found, key=lambda x: x[0])]


def there(backbone: str, backbones: Path | None) -> bool:
    """Whether the weights of a row can be had."""
    known = backbone in (BACKBONE, "random")
    return known or (backbones is not None and (backbones / f"{backbone}.safetensors").is_file())


def pin(cores: SimpleQueue[int]) -> None:
    """Keep this thread, and the processes it starts, on a core of its own."""
    os.sched_setaffinity(0, {cores.get()})


def made_of(backbone: str, backbones: Path | None) -> dict[str, str]:
    """The arguments of `Classifier.create` for the weights of a row."""
    if backbone == BACKBONE:
        return {"backbone": BACKBONE}
    if backbone == "random":
        return {"backbone": BACKBONE, "weights": "random"}
    return {"backbone": f"{backbones}/{backbone}.safetensors"}


def run(
    cell: Cell, stamp: Mapping[str, str], folder: Path, work: Path, backbones: Path | None
) -> dict[str, Any]:
    """One run: what was asked for, on what, and its figures."""
    asked, facts = rows_of(cell.set)[cell.row], cell.asked | stamp
    config = TrainConfig(**BUDGET, epochs=facts["epochs"], lr=cell.lr, seed=cell.seed)
    mark = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
    comparison = compare(
        folder / cell.set,
        [asked.method],
        [cell.seed],
        config,
        out=work / f"{cell.set}-{cell.row}-{cell.lr:g}-{cell.seed}-{mark}".replace(" ", "_"),
        **made_of(asked.backbone, backbones),
        options={asked.method: asked.options},
        frames=FRAMES[cell.set],
        drop_path=asked.drop_path,
    )
    return facts | comparison.runs[0]


def stamp_of(folder: Path, weights: Mapping[str, str]) -> dict[str, str]:
    """What runs depend on: the annotation of their set and the weights of the backbone."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.csv")):
        digest.update(file.read_bytes())
    sha = Classifier.create(**weights, num_classes=2, method="linear").sha256
    return {"annotation": digest.hexdigest(), "backbone_sha256": sha}


def holds(name: str, run: Mapping[str, Any], stamps: Mapping[tuple[str, str], Mapping[str, str]]) -> bool:
    """Whether a run is one of the table, on these clips, and on these weights if they are at hand."""
    if run["row"] not in rows_of(name) or not Cell(name, run["row"], run["lr"], run["seed"]).of(run):
        return False
    stamp = stamps.get((name, run["backbone"]), {"annotation": stamps[name, BACKBONE]["annotation"]})
    return stamp.items() <= run.items()


def work_off(args: argparse.Namespace, sets: Sequence[str]) -> int:
    """Run what is wanted until there is nothing, or the time is over; the number of failures."""
    cores: SimpleQueue[int] = SimpleQueue()
    for core in sorted(os.sched_getaffinity(0))[: args.processes]:
        cores.put(core)
    only = args.rows.split(",") if args.rows else [*ROWS, *ABLATIONS]
    lacking = [x for x in only if not there((ROWS | ABLATIONS)[x].backbone, args.backbones)]
    if lacking:
        print(f"not run, for the weights are not in --backbones: {', '.join(lacking)}", flush=True)
        only = [x for x in only if x not in lacking]
    if waits := [x for x in only if base_of(x) not in only]:
        print(f"run only if their rate is known, from what is left out: {', '.join(waits)}", flush=True)
    stamps = {
        (name, weights): stamp_of(args.sets / name, made_of(weights, args.backbones))
        for name in sets
        for weights in {x.backbone for x in rows_of(name).values() if there(x.backbone, args.backbones)}
    }
    done = {name: [x for x in load(name) if holds(name, x, stamps)] for name in sets}
    end, failures = time.monotonic() + 60 * args.minutes, 0
    pool = ThreadPoolExecutor(args.processes, initializer=pin, initargs=(cores,))
    running: dict[Future[dict[str, Any]], Cell] = {}
    while True:
        while (
            len(running) < args.processes
            and time.monotonic() < end
            and (free := cells(done, running.values(), only))
        ):
            cell = free[0]
            stamp = stamps[cell.set, cell.asked["backbone"]]
            running[pool.submit(run, cell, stamp, args.sets, args.work, args.backbones)] = cell
        if not running:
            return failures
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            cell, found = running.pop(future), future.result()
            done[cell.set].append(found)
            store(cell.set, done[cell.set])
            failures += bool(found["error"])
            said = found["error"] or f"val {100 * found['val_top1']:.1f} %, test {100 * found['top1']:.1f} %"
            print(f"{cell.set}, {cell.row}, rate {cell.lr:g}, seed {cell.seed}: {said}", flush=True)


def main() -> None:
    """Exit code: 1 if a run failed, 2 if a set is not there, 130 if stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=Path, required=True, help="folder with a folder of each set")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--backbones", type=Path, help="folder of NAME.safetensors, for the ablations")
    parser.add_argument("--only", default=",".join(FRAMES), help="sets, by name, joined by commas")
    parser.add_argument("--rows", help="rows, by name, joined by commas; all")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after so many")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    sets = args.only.split(",")
    if odd := [x for x in sets if x not in FRAMES or not (args.sets / x).is_dir()]:
        parser.error(
            f"no set {odd[0]!r} in {args.sets}; make it with benchmarks/minibench, or name others: --only"
        )
    known = {x: None for name in sets for x in rows_of(name)}
    if odd := [x for x in (args.rows or "ssp").split(",") if x not in known]:
        parser.error(f"no row {odd[0]!r} of {args.only}; there are {', '.join(known)}")
    for folder in (args.work, RESULTS):
        folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with exclusive_lock(RESULTS / ".lock", f"{RESULTS}: another process adds to it"):
            code = min(1, work_off(args, sets))
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        code = 130
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    os._exit(code)  # threads may still wait for runs, which end when this process does


if __name__ == "__main__":
    main()
