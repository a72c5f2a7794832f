"""Pretrain videomamba_nano from random weights on `minibench source` and `people`, on the cores of one CPU.

    python benchmarks/pretrain.py train --source DIR DIR --run RUN                 # start or resume python
    benchmarks/pretrain.py train --source DIR DIR --run RUN --finish 3000   # decay phase, rates to zero
    python benchmarks/pretrain.py export --run RUN --file nano.safetensors

A run may be killed at any time: it writes a checkpoint every two minutes, and a line of RUN/state.jsonl every
hundred steps. The learning rates are constant after a warm-up. A moving average of the weights is evaluated
and exported, so there is a usable model at any time, and the number of steps need not be known in advance.
`--finish` branches off into RUN/finish.pt, which export then prefers; the run itself can still continue.

A clip is 8 of 16 frames, forward or reversed. Its targets (`pretrain_model.losses`) are: the task and the
direction of time, predicted from cls and from the mean of the patches; the positions of gripper, object and
goal, or head, hands and feet, in every frame and their movement, predicted from the patches; and their
trajectory, predicted from cls, which is all that a head will read later. The first stages show 1, 2 and 4 of
the 8 frames: in the time of one clip, eight single frames of several clips in different colours teach more.

`--settings` removes a part, `--minutes` limits a run: together they measure the worth of each part in equal
time.
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
from pretrain_run import SETTINGS, Run, accuracy, batch_of, stage  # noqa: E402
from safetensors.torch import save  # noqa: E402
from torch import Tensor  # noqa: E402

from videossp.system.files import atomic_write, exclusive_lock  # noqa: E402

WARMUP = 100  # steps
AVERAGE, FINISH_AVERAGE = 0.999, 0.99  # decay of the moving average per step; in the decay phase
SAVE = 120  # seconds between checkpoints


def train(rank: int, port: int, args: argparse.Namespace) -> None:
    """One process of the training; process 0 writes the checkpoints and the log."""
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=args.processes)
    settings, clips = SETTINGS[args.settings], Clips([x / CACHE for x in args.source])
    run, trunk = Run(args.settings, clips, args.processes), args.run / "state.pt"
    file = args.run / "finish.pt" if args.finish else trunk
    if file.exists():
        run.load(file)
    elif args.finish:
        run.load(trunk)
        run.first, run.finish = run.step, args.finish
    if run.finish != args.finish:
        raise ValueError(f"{file}: it is a decay phase of {run.finish} steps; remove it to branch off again")
    last = run.first + args.finish if args.finish else 10**9
    if rank == 0:
        cut_log(file.with_suffix(".jsonl"), run.step)

    figures, spent, saved, logged = [], 0.0, time.monotonic(), time.monotonic()
    over = torch.tensor(run.seconds > 60 * args.minutes)
    while run.step < last and not over:
        began = time.monotonic()
        decay = (last - run.step) / args.finish if args.finish else 1.0
        batch = batch_of(settings, clips, run.step, rank, args.processes)
        rate = decay * min(1.0, (run.step + 1) / WARMUP)
        figures.append(run.learn(batch, rate, FINISH_AVERAGE if args.finish else AVERAGE))
        spent += time.monotonic() - began
        if run.step % 100 and run.step < last:
            continue
        shown, size, _ = stage(settings, run.step - 1)
        record = {"step": run.step, "clips": stage(settings, run.step)[2], "frames": shown}
        record |= {key: float(np.mean([x[key] for x in figures])) for key in figures[0]}
        record["clips_per_s"] = len(figures) * size / spent
        over.fill_(run.seconds + time.monotonic() - logged > 60 * args.minutes)
        dist.broadcast(over, 0)
        if run.step % 500 == 0 or run.step == last or over:
            record["held_out"] = evaluate(run.average, clips, rank, args.processes)
        run.seconds += time.monotonic() - logged
        figures, spent, logged = [], 0.0, time.monotonic()
        if rank == 0:
            with file.with_suffix(".jsonl").open("a") as log:
                log.write(json.dumps(rounded(record | {"seconds": run.seconds})) + "\n")
            if logged - saved > SAVE or run.step == last or over:
                run.save(file)
                saved = logged


def cut_log(file: Path, step: int) -> None:
    """Remove the lines after the step of the checkpoint from which the run resumes."""
    lines = file.read_text().splitlines() if file.exists() else []
    kept = [x for x in lines if x.endswith("}") and json.loads(x)["step"] <= step]
    atomic_write(file, "".join(f"{x}\n" for x in kept))


def rounded(x: object) -> object:
    """Round the numbers in dictionaries and lists to four digits."""
    if isinstance(x, dict):
        return {key: rounded(y) for key, y in x.items()}
    if isinstance(x, list):
        return [rounded(y) for y in x]
    return float(f"{x:.4g}") if isinstance(x, float) else x


@torch.no_grad()
def evaluate(model: Pretrainer, clips: Clips, rank: int, processes: int) -> dict[str, Any]:
    """Evaluate on the held-out clips, each forward and reversed; the processes share the work.

    `sets` is the accuracy of `label` on the clips of each set, in the order of --source.
    """
    items = [(i, back) for i in clips.held_out for back in (False, True)][rank::processes]
    results = []
    for at in range(0, len(items), 16):
        batch = stack([clips.test_view(*x) for x in items[at : at + 16]])
        parts, outputs = losses(model, batch)
        sums = {key: x * len(batch["label"]) for key, x in parts.items()}
        results.append((sums, batch["label"], outputs))
    shares = [None] * processes
    dist.all_gather_object(shares, results)
    results = [x for share in shares for x in share]
    label = torch.cat([x for _, x, _ in results])
    keys = ("logits", "course", "target")
    logits, course, target = (torch.cat([x[key] for *_, x in results]) for key in keys)
    pairs = logits.unflatten(1, (-1, 2))
    of_task = pairs[torch.arange(len(label)), label // 2]
    displacement = slice(-3 - 3 * len(POINTS), -3)  # columns of the displacements in metres
    by_set = np.array([clips.sets[i][0] for i in clips.held_out for _ in range(2)])
    by_set = torch.from_numpy(np.concatenate([by_set[x::processes] for x in range(processes)]))
    return {
        **{key: float(sum(x[key] for x, *_ in results)) / len(label) for key in results[0][0]},
        "label": accuracy(logits, label),
        "task": accuracy(pairs.logsumexp(2), label // 2),
        "direction": accuracy(of_task, label % 2),
        "sets": [accuracy(logits[by_set == x], label[by_set == x]) for x in range(len(clips.frames))],
        "way": explained(course[:, displacement], target[:, displacement]),
    }


def explained(predicted: Tensor, target: Tensor) -> float:
    """Explained share of the variance of the known targets, over all columns."""
    rest = (predicted - target).square().nansum()
    return 1 - (rest / (target - target.nanmean(0)).square().nansum()).item()


def newest(run: Path) -> dict[str, Any]:
    """The checkpoint of a run: that of its decay phase if it has one.

    Raises:
        ValueError: there is none, or the decay phase is not complete.
    """
    file = next((x for x in (run / "finish.pt", run / "state.pt") if x.exists()), None)
    if not file:
        raise ValueError(f"{run}: no checkpoint; train first")
    state = torch.load(file, weights_only=True)
    if state["finish"] and state["step"] < state["first"] + state["finish"]:
        raise ValueError(f"{file}: step {state['step']}, not at its end; resume with --finish, or remove it")
    return state


def export(args: argparse.Namespace) -> None:
    """Write the backbone and the final norm of the moving average in float16, with their published names."""
    state = newest(args.run)
    weights = {"norm_f.weight": state["average"]["norm_f.weight"]}
    for key, x in state["average"].items():
        if key.startswith("backbone."):
            weights[key.removeprefix("backbone.")] = x
    atomic_write(args.file, save({name: x.half().contiguous() for name, x in weights.items()}))
    print(f"{args.file}: after step {state['step']}")


def start(args: argparse.Namespace) -> None:
    """Decode new clips, then train in several processes; this one is process 0.

    Raises:
        ValueError: another process uses the folders, or the clips, the run or the processes do not fit.
    """
    for source in args.source:
        if not sorted(source.glob("*/*/*.npz")):
            raise ValueError(
                f"{source}: no clips with targets; generate them: benchmarks/minibench source, people"
            )
    if args.finish and not (args.run / "state.pt").exists():
        raise ValueError(f"{args.run}: no run to finish")
    if indivisible := [size for _, _, size in SETTINGS[args.settings].stages if size % args.processes]:
        raise ValueError(f"--processes {args.processes} does not divide a step of {indivisible[0]} clips")
    args.run.mkdir(parents=True, exist_ok=True)
    with (
        exclusive_lock(args.run / "lock", f"{args.run}: another process trains there"),
        socket.socket() as probe,
    ):
        for source in args.source:
            with exclusive_lock(source / ".lock", f"{source}: another process writes there"):
                Clips.of(source)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        context = torch.multiprocessing.get_context("spawn")
        for rank in range(1, args.processes):
            context.Process(target=train, args=(rank, port, args), daemon=True).start()
        train(0, port, args)


def main() -> int:
    """Exit code: 1 for an error, 130 if stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("train", help="start or resume a run")
    verb.add_argument("--source", type=Path, required=True, nargs="+", help="folders of clips")
    verb.add_argument("--run", type=Path, required=True, help="folder of the run")
    verb.add_argument("--settings", choices=SETTINGS, default="nano")
    end = verb.add_mutually_exclusive_group()
    end.add_argument("--minutes", type=float, default=float("inf"), help="stop after this time in total")
    end.add_argument("--finish", type=int, default=0, help="number of steps of the decay phase")
    several = math.gcd(*(size for x in SETTINGS.values() for _, _, size in x.stages))
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
        print("stopped; run the same command to resume from the last checkpoint", file=sys.stderr)
        return 130
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
