"""The mini benchmark: every method on every set, in processes of one core each; resumable.

    python benchmarks/table.py --sets FOLDER --work WORK [--only tabletop,motion] [--minutes 60]

FOLDER holds the sets that `benchmarks/minibench` makes, each by its name. Every run is one of `videossp
compare`, all on a set with the same budget. Learning rates are chosen on validation, by loss and then
accuracy, by one rule for all methods: the first seed is run at 1e-3 and 3e-3, then further out on the grid
for as long as the best rate is the outermost that was tried. Other seeds run at the best one. So do the
ablations, at that of the row that they change; and `recipes`, whose actions are those of `motion`, at what
was best there. Those of the pretraining need `--backbones`, a folder of NAME.safetensors. Whatever is
finished is added to benchmarks/results/SET.json, a line a run, and is not run again; `benchmarks/page.py`
makes docs/benchmarks.md of it. A run that fails is kept too, as the failure of that rate; remove its line to
run it again. Runs on other clips, weights or settings than these are replaced. It may be stopped at any
time: only the runs under way are lost.
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
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from videossp import Classifier, TrainConfig
from videossp.compare import compare, resolved
from videossp.comparison import merit
from videossp.files import held, replace_file

RESULTS = Path(__file__).parent / "results"
BACKBONE = "videomamba_nano"
FRAMES = {"tabletop": 8, "motion": 8, "recipes": 32, "sprites": 8}  # of a clip, by set
GRID = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)  # learning rates
START = (1e-3, 3e-3)
SEEDS = (0, 1, 2)
EPOCHS = {
    "tabletop": 4,
    "motion": 6,
    "recipes": 4,
    "sprites": 6,
}  # so a run of a set takes about ten minutes at most
CHOSEN_ON = {"recipes": "motion"}  # where the rates of a set are chosen, if not on itself
SEVERAL = {  # rows of these sets that are run with all seeds
    "tabletop": ("ssp", "linear", "lora", "vpt", "svp", "adapter", "full"),
    "motion": ("ssp", "linear", "lora", "vpt", "svp", "adapter", "full"),
}
BUDGET = {
    "batch_size": 8,
    "precision": "bf16",
    "flip": "off",  # left and right, open and close are classes
}


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        method: as `Classifier.create` takes it.
        options: of the method.
        times: as many epochs as others have.
        drop_path: stochastic depth of the frozen backbone.
        backbone: its weights: those that come along, "random" ones, or a file of `--backbones`.
    """

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    times: int = 1
    drop_path: float = 0.0
    backbone: str = BACKBONE


# Sizes are the published ones for VideoMamba-M, scaled to this backbone, which is a third as wide and has
# half the states. Shares of weights are not those at VideoMamba-M: that of ssp is 11 % here, 3 % there.
SSP = {"gather_width": 128, "spread_width": 88}
LORA = {"rank": 5}
SVP = {"width": 22}
ST_ADAPTER = {"width": 128, "layers": 2}
ROWS: dict[str, Row] = {
    "ssp": Row("ssp", SSP),
    "linear": Row("linear"),
    "linear for 4 x the epochs": Row("linear", times=4),
    "mean": Row("mean"),
    "attentive": Row("attentive"),
    "full": Row("full"),
    "partial": Row("partial"),
    "adapter": Row("adapter", {"width": 22}),
    "st_adapter": Row("st_adapter", ST_ADAPTER),
    "lora": Row("lora", LORA),
    "vpt": Row("vpt", {"length": 27}),
    "vfpt": Row("vfpt", {"length": 27, "share": 0.52}),  # 14 of them are transformed
    "svp": Row("svp", SVP),
    "additional_scan": Row("additional_scan", {"states": 3}),
    "affix": Row("affix"),
    "state_offset": Row("state_offset"),
    "stop": Row("stop", {"pixel_kernel": 5, "token_kernel": (3, 9)}),
}
CONTROL = "linear for 4 x the epochs"  # what a head alone gains from going on
# What carries SSP: one thing is changed at a time; also what others do with its spreading, or without time.
ABLATIONS: dict[str, Row] = {
    "gathering alone": Row("ssp", SSP | {"prompts": 0}),
    "spreading alone": Row("ssp", SSP | {"gathering": False}),
    "gathering in 1 x 3 x 3": Row("ssp", SSP | {"gather_kernel": (1, 3, 3)}),
    "gathering in 3 x 1 x 1": Row("ssp", SSP | {"gather_kernel": (3, 1, 1)}),
    "gathering from the residual": Row("ssp", SSP | {"reads": "residual"}),
    "1 prompt a frame": Row("ssp", SSP | {"prompts": 1}),
    "8 prompts a frame": Row("ssp", SSP | {"prompts": 8}),
    "entropy of the batch": Row("ssp", SSP | {"importance": "batch"}),
    "widths 384 and 256": Row("ssp"),
    "widths 32 and 24": Row("ssp", {"gather_width": 32, "spread_width": 24}),
    "drop path 0.4": Row("ssp", SSP, drop_path=0.4),
    "twice the epochs": Row("ssp", SSP, times=2),
    "cls and mean": Row("ssp+mean", {"ssp": SSP}),
    "with LoRA": Row("ssp+lora", {"ssp": SSP, "lora": LORA}),
    "svp for twice the epochs": Row("svp", SVP, times=2),
    "st_adapter for twice the epochs": Row("st_adapter", ST_ADAPTER, times=2),
    "svp with the spreading of ssp": Row("svp+ssp", {"svp": SVP, "ssp": SSP | {"gathering": False}}),
    "st_adapter in 1 x 1 x 1": Row("st_adapter", ST_ADAPTER | {"kernel": (1, 1, 1)}),
    "st_adapter from the branch": Row("st_adapter", ST_ADAPTER | {"residual": False}),
    "st_adapter in every block": Row("st_adapter", {"width": 32, "layers": 8}),
    "pretrained for 6 minutes": Row("ssp", SSP, backbone="short"),
    "pretrained without the last stretch": Row("ssp", SSP, backbone="trunk"),
    "random weights": Row("ssp", SSP, backbone="random"),
    "linear, pretrained for 6 minutes": Row("linear", backbone="short"),
    "linear, pretrained without the last stretch": Row("linear", backbone="trunk"),
    "linear, random weights": Row("linear", backbone="random"),
}
# The ablations of a set: all where a head alone is far from most; on motion those that ask what st_adapter
# has, which is far ahead there.
TEMPORAL = (
    "gathering alone",
    "gathering in 3 x 1 x 1",
    "gathering from the residual",
    "st_adapter in 1 x 1 x 1",
    "st_adapter from the branch",
    "st_adapter in every block",
)
ABLATED: dict[str, Collection[str]] = {"tabletop": ABLATIONS, "motion": TEMPORAL, "sprites": ABLATIONS}


@dataclass(frozen=True)
class Cell:
    """One run."""

    set: str
    row: str
    lr: float
    seed: int

    @property
    def asked(self) -> dict[str, Any]:
        """What is written down of a run, as it comes out of a file."""
        asked = rows(self.set)[self.row]
        training = BUDGET | {"epochs": EPOCHS[self.set] * asked.times, "frames": FRAMES[self.set]}
        wanted = {"row": self.row, "lr": self.lr, "seed": self.seed, **training}
        wanted |= {"drop_path": asked.drop_path, "backbone": asked.backbone}
        return json.loads(json.dumps(wanted | {"options": resolved(asked.method, asked.options)}))

    def of(self, run: Mapping[str, Any]) -> bool:
        """Whether a run is this one, done in the way that is asked for now."""
        named = (run["row"], run["lr"], run["seed"]) == (self.row, self.lr, self.seed)  # a quick no
        return named and self.asked.items() <= run.items()


def rows(set_name: str) -> dict[str, Row]:
    """The rows of a set."""
    own = ABLATED.get(set_name, ())
    return ROWS | {title: row for title, row in ABLATIONS.items() if title in own}


def load(set_name: str) -> list[dict[str, Any]]:
    """The runs of a set that are known."""
    file = RESULTS / f"{set_name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def store(set_name: str, runs: list[dict[str, Any]]) -> None:
    """Write the runs of a set, one a line."""
    order = {name: i for i, name in enumerate(rows(set_name))}
    runs = sorted(runs, key=lambda x: (order.get(x["row"], len(order)), x["row"], x["lr"], x["seed"]))
    replace_file(RESULTS / f"{set_name}.json", "[\n" + ",\n".join(map(json.dumps, runs)) + "\n]\n")


# How good a rate is, see `merit`. None: it runs.
Merit = tuple[float, float] | None


def rates(tried: Mapping[float, Merit]) -> list[float]:
    """Learning rates that must still be tried, given those that have been.

    Empty if the best of them has neighbours on both sides, or stands at an end of the grid.
    """
    if missing := [lr for lr in START if lr not in tried]:
        return missing
    if None in tried.values():
        return []
    best = best_rate(tried)
    at = GRID.index(best)
    around = GRID[max(0, at - 1) : at + 2]
    return [lr for lr in around if lr not in tried]


def best_rate(tried: Mapping[float, Merit]) -> float:
    """The best rate on validation; of equals the smallest."""
    known = {lr: merit for lr, merit in sorted(tried.items()) if merit is not None}
    return max(known, key=known.__getitem__)


def with_choosers(sets: Sequence[str]) -> list[str]:
    """Sets, and those that choose the rates of some of them."""
    return list(dict.fromkeys([*sets, *(CHOSEN_ON[x] for x in sets if x in CHOSEN_ON)]))


def chosen_on(name: str, title: str) -> tuple[str, str]:
    """The set and the row whose validation accuracy chooses the rate of a row of a set."""
    row = title if title in ROWS else ABLATIONS[title].method.split("+")[0]
    return CHOSEN_ON.get(name, name), row


def tried_of(
    name: str, title: str, runs: Sequence[Mapping[str, Any]], running: Collection[Cell] = ()
) -> dict[float, Merit]:
    """By rate, how good the first seed of a row is; -inf if it failed."""
    tried: dict[float, Merit] = {}
    for lr in GRID:
        cell = Cell(name, title, lr, SEEDS[0])
        for run in filter(cell.of, runs):
            tried[lr] = merit(run)
        if cell in running:
            tried[lr] = None
    return tried


def cells(
    done: Mapping[str, Sequence[Mapping[str, Any]]], running: Collection[Cell], only: Collection[str] = ()
) -> list[Cell]:
    """What can be started now, the most wanted first: a first picture of all, then what refines it.

    Args:
        done: the finished runs of each set; of all that choose rates of others too.
        running: what is under way.
        only: rows to run; none: all.
    """
    found: list[tuple[int, Cell]] = []
    for name, runs in done.items():
        for title in [x for x in rows(name) if not only or x in only]:
            where, row = chosen_on(name, title)
            tried = tried_of(where, row, done[where], running)
            wanted = rates(tried)
            own = (where, row) == (name, title)
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
    asked, facts = rows(cell.set)[cell.row], cell.asked | stamp
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
    if run["row"] not in rows(name) or not Cell(name, run["row"], run["lr"], run["seed"]).of(run):
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
    wanted = [(name, x) for name in sets for x in rows(name) if x in only]
    waits = [x for name, x in wanted if chosen_on(name, x) not in wanted]
    if waits:
        print(f"run only if their rate is known, from what is left out: {', '.join(waits)}", flush=True)
    loaded = with_choosers(sets)
    stamps = {
        (name, weights): stamp_of(args.sets / name, made_of(weights, args.backbones))
        for name in loaded
        for weights in {x.backbone for x in rows(name).values() if there(x.backbone, args.backbones)}
    }
    done = {name: [x for x in load(name) if holds(name, x, stamps)] for name in loaded}
    end, failures = time.monotonic() + 60 * args.minutes, 0
    pool = ThreadPoolExecutor(args.processes, initializer=pin, initargs=(cores,))
    running: dict[Future[dict[str, Any]], Cell] = {}
    while True:
        while (
            len(running) < args.processes
            and time.monotonic() < end
            and (free := [x for x in cells(done, running.values(), only) if x.set in sets])
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
    if odd := [x for x in with_choosers(sets) if x not in FRAMES or not (args.sets / x).is_dir()]:
        parser.error(
            f"no set {odd[0]!r} in {args.sets}; make it with benchmarks/minibench, or name others: --only"
        )
    known = {x: None for name in sets for x in rows(name)}
    if odd := [x for x in (args.rows or "ssp").split(",") if x not in known]:
        parser.error(f"no row {odd[0]!r} of {args.only}; there are {', '.join(known)}")
    for folder in (args.work, RESULTS):
        folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with held(RESULTS / ".lock", f"{RESULTS}: another process adds to it"):
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
