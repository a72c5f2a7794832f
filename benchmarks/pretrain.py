"""Pretrain videomamba_nano from random weights on `minibench source` and `people`, on the cores of one CPU.

    python benchmarks/pretrain.py train --source DIR DIR --run RUN    # starts, or goes on where it was killed
    python benchmarks/pretrain.py train --source DIR DIR --run RUN --finish 3000   # last steps, rates to zero
    python benchmarks/pretrain.py export --run RUN --file nano.safetensors

A run may be killed at any time: a checkpoint is written every two minutes, RUN/state.jsonl has a line every
hundred steps. The rates stay constant after a warm-up, and what is evaluated and exported is a moving average
of the weights: there is a usable model at every moment, and no end that must be known beforehand. `--finish`
branches off into RUN/finish.pt, which export then prefers; the run itself can still go on.

A clip is 8 of 16 frames, in time or reversed. What is learned from it (`pretrain_model.losses`): which task
it shows, and in which direction of time, read off cls and off the mean of the patches; where gripper, object
and goal, or head, hands and feet, are in every frame and how they move on, read off the patches; and their
whole course, read off cls, which is all that a head will see later. The first stages show 1, 2 and 4 of the 8
frames: for the time that a clip takes, eight single frames of other clips in other colours teach more to see.
`--recipe` takes something away, `--minutes` stops a run: what each part is worth, in equal time.
"""

import argparse
import json
import math
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from videossp import prepare_process

prepare_process()  # before torch is loaded

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from pretrain_clips import CACHE, POINTS, Clips, stack  # noqa: E402
from pretrain_model import Pretrainer, losses  # noqa: E402
from pretrain_run import RECIPES, Run, accuracy, batch_of, stage  # noqa: E402
from safetensors.torch import save  # noqa: E402
from torch import Tensor  # noqa: E402

from videossp.system.files import atomic_write, exclusive_lock  # noqa: E402

WARMUP = 100  # steps
AVERAGE, FINISH_AVERAGE = 0.999, 0.99  # memory of the average of the weights, per step; in the last stretch
SAVE = 120  # seconds between checkpoints


def train(rank: int, port: int, args: argparse.Namespace) -> None:
    """One process of the training; the first writes the checkpoints and the log."""
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=args.processes)
    recipe, clips = RECIPES[args.recipe], Clips([x / CACHE for x in args.source])
    run, trunk = Run(args.recipe, clips, args.processes), args.run / "state.pt"
    file = args.run / "finish.pt" if args.finish else trunk
    if file.exists():
        run.load(file)
    elif args.finish:
        run.load(trunk)
        run.first, run.finish = run.step, args.finish
    if run.finish != args.finish:
        raise ValueError(f"{file}: a last stretch of {run.finish} steps; remove it to branch off again")
    last = run.first + args.finish if args.finish else 10**9
    if rank == 0:
        cut_log(file.with_suffix(".jsonl"), run.step)

    facts, spent, saved, told = [], 0.0, time.monotonic(), time.monotonic()
    over = torch.tensor(run.seconds > 60 * args.minutes)
    while run.step < last and not over:
        began = time.monotonic()
        fall = (last - run.step) / args.finish if args.finish else 1.0
        batch = batch_of(recipe, clips, run.step, rank, args.processes)
        rate = fall * min(1.0, (run.step + 1) / WARMUP)
        facts.append(run.learn(batch, rate, FINISH_AVERAGE if args.finish else AVERAGE))
        spent += time.monotonic() - began
        if run.step % 100 and run.step < last:
            continue
        shown, size, _ = stage(recipe, run.step - 1)
        record = {"step": run.step, "clips": stage(recipe, run.step)[2], "frames": shown}
        record |= {key: float(np.mean([x[key] for x in facts])) for key in facts[0]}
        record["clips_per_s"] = len(facts) * size / spent
        over.fill_(run.seconds + time.monotonic() - told > 60 * args.minutes)
        dist.broadcast(over, 0)
        if run.step % 500 == 0 or run.step == last or over:
            record["held_out"] = evaluate(run.average, clips, rank, args.processes)
        run.seconds += time.monotonic() - told
        facts, spent, told = [], 0.0, time.monotonic()
        if rank == 0:
            with file.with_suffix(".jsonl").open("a") as log:
                log.write(json.dumps(rounded(record | {"seconds": run.seconds})) + "\n")
            if told - saved > SAVE or run.step == last or over:
                run.save(file)
                saved = told


def cut_log(file: Path, step: int) -> None:
    """Leave the lines up to the checkpoint that a run goes on from."""
    lines = file.read_text().splitlines() if file.exists() else []
    kept = [x for x in lines if x.endswith("}") and json.loads(x)["step"] <= step]
    atomic_write(file, "".join(f"{x}\n" for x in kept))


def rounded(x: object) -> object:
    """Numbers of four digits, in dictionaries and lists."""
    if isinstance(x, dict):
        return {key: rounded(y) for key, y in x.items()}
    if isinstance(x, list):
        return [rounded(y) for y in x]
    return float(f"{x:.4g}") if isinstance(x, float) else x


@torch.no_grad()
def evaluate(model: Pretrainer, clips: Clips, rank: int, processes: int) -> dict[str, Any]:
    """On the held-out clips, each in time and reversed; the processes share the work.

    `sets` is the accuracy of `label` on the clips of each set, in the order of --source.
    """
    items = [(i, back) for i in clips.held_out for back in (False, True)][rank::processes]
    found = []
    for at in range(0, len(items), 16):
        batch = stack([clips.test_view(*x) for x in items[at : at + 16]])
        parts, said = losses(model, batch)
        found.append(({key: x * len(batch["label"]) for key, x in parts.items()}, batch["label"], said))
    shares = [None] * processes
    dist.all_gather_object(shares, found)
    found = [x for share in shares for x in share]
    label = torch.cat([x for _, x, _ in found])
    keys = ("logits", "course", "target")
    logits, course, target = (torch.cat([x[key] for *_, x in found]) for key in keys)
    pairs = logits.unflatten(1, (-1, 2))
    own = pairs[torch.arange(len(label)), label // 2]
    way = slice(-3 - 3 * len(POINTS), -3)  # in the room
    by_set = np.array([clips.sets[i][0] for i in clips.held_out for _ in range(2)])
    by_set = torch.from_numpy(np.concatenate([by_set[x::processes] for x in range(processes)]))
    return {
        **{key: float(sum(x[key] for x, *_ in found)) / len(label) for key in found[0][0]},
        "label": accuracy(logits, label),
        "task": accuracy(pairs.logsumexp(2), label // 2),
        "direction": accuracy(own, label % 2),
        "sets": [accuracy(logits[by_set == x], label[by_set == x]) for x in range(len(clips.frames))],
        "way": explained(course[:, way], target[:, way]),
    }


def explained(said: Tensor, target: Tensor) -> float:
    """Share of the variance of the known targets, over all columns, that is explained."""
    rest = (said - target).square().nansum()
    return 1 - (rest / (target - target.nanmean(0)).square().nansum()).item()


def newest(run: Path) -> dict[str, Any]:
    """The checkpoint of a run, of its last stretch if there is one.

    Raises:
        ValueError: there is none, or the last stretch is not at its end.
    """
    file = next((x for x in (run / "finish.pt", run / "state.pt") if x.exists()), None)
    if not file:
        raise ValueError(f"{run}: no checkpoint; train first")
    state = torch.load(file, weights_only=True)
    if state["finish"] and state["step"] < state["first"] + state["finish"]:
        raise ValueError(f"{file}: step {state['step']}, not at its end; let --finish go on, or remove it")
    return state


def export(args: argparse.Namespace) -> None:
    """Write the backbone and the final norm of the average in float16, by their published names."""
    state = newest(args.run)
    weights = {"norm_f.weight": state["average"]["norm_f.weight"]}
    for key, x in state["average"].items():
        if key.startswith("backbone."):
            weights[key.removeprefix("backbone.")] = x
    atomic_write(args.file, save({name: x.half().contiguous() for name, x in weights.items()}))
    print(f"{args.file}: after step {state['step']}")


def start(args: argparse.Namespace) -> None:
    """Decode what is new, then train in several processes; this one is the first.

    Raises:
        ValueError: another process is there, or the clips or the run are not what is needed.
    """
    for source in args.source:
        if not sorted(source.glob("*/*/*.npz")):
            raise ValueError(
                f"{source}: no clips with targets; make them: benchmarks/minibench source, people"
            )
    if args.finish and not (args.run / "state.pt").exists():
        raise ValueError(f"{args.run}: no run to finish")
    if odd := [size for _, _, size in RECIPES[args.recipe].stages if size % args.processes]:
        raise ValueError(f"--processes {args.processes} does not divide a step of {odd[0]} clips")
    args.run.mkdir(parents=True, exist_ok=True)
    with (
        exclusive_lock(args.run / "lock", f"{args.run}: another process trains there"),
        socket.socket() as free,
    ):
        for source in args.source:
            with exclusive_lock(source / ".lock", f"{source}: another process writes there"):
                Clips.of(source)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        context = torch.multiprocessing.get_context("spawn")
        for rank in range(1, args.processes):
            context.Process(target=train, args=(rank, port, args), daemon=True).start()
        train(0, port, args)


def main() -> int:
    """Exit code: 1 for what cannot be done, 130 if stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("train", help="start, or go on")
    verb.add_argument("--source", type=Path, required=True, nargs="+", help="folders of clips")
    verb.add_argument("--run", type=Path, required=True, help="folder of the run")
    verb.add_argument("--recipe", choices=RECIPES, default="nano")
    end = verb.add_mutually_exclusive_group()
    end.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many in all")
    end.add_argument("--finish", type=int, default=0, help="a last stretch of so many steps, rates to zero")
    several = math.gcd(*(size for x in RECIPES.values() for _, _, size in x.stages))
    several = max(n for n in range(1, len(os.sched_getaffinity(0)) + 1) if several % n == 0)
    verb.add_argument("--processes", type=int, default=several)
    verb.set_defaults(function=start)
    verb = verbs.add_parser("export", help="write the backbone as safetensors")
    verb.add_argument("--run", type=Path, required=True)
    verb.add_argument("--file", type=Path, required=True)
    verb.set_defaults(function=export)
    args = parser.parse_args()
    try:
        args.function(args)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
