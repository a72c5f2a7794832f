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
import copy
import io
import json
import math
import os
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videossp import prepare_process

prepare_process()  # before torch is loaded

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from pretrain_clips import CACHE, POINTS, Clips, stack  # noqa: E402
from pretrain_model import Pretrainer, fresh, losses  # noqa: E402
from safetensors.torch import save  # noqa: E402
from torch import Tensor  # noqa: E402

from videossp.files import held, replace_file  # noqa: E402

MUON, ADAM = 0.02, 1e-3  # rates: of the matrices in the blocks, of everything else
WARMUP = 100  # steps
DECAY = 0.05  # of weights with two or more dimensions
PROGRESS = ("step", "first", "finish", "seconds")  # of a run, kept in its checkpoints
AVERAGE, FINISH_AVERAGE = 0.999, 0.99  # memory of the average of the weights, per step; in the last stretch
SAVE = 120  # seconds between checkpoints


@dataclass(frozen=True)
class Recipe:
    """What a run does; the defaults are what videomamba_nano comes of.

    Attributes:
        stages: (steps, frames that are shown of a clip, clips of a step over all processes), in order.
        weights: of the parts of the loss.
        muon: for the matrices in the blocks; if not, AdamW for everything.
        whiten: start the patch embedding with whitened principal components.
    """

    stages: tuple[tuple[int, int, int], ...] = ((1800, 1, 64), (1200, 2, 48), (1200, 4, 32), (10**9, 8, 16))
    weights: dict[str, float] = field(
        default_factory=lambda: {"cls": 1.0, "mean": 0.5, "where": 0.5, "local": 0.5, "course": 3.0}
    )
    muon: bool = True
    whiten: bool = True


SHORT = ((400, 1, 64), (250, 2, 48), (250, 4, 32), (10**9, 8, 16))
RECIPES = {
    "nano": Recipe(),
    "short": Recipe(SHORT),
    "eight-frames": Recipe(((10**9, 8, 16),)),
    "labels": Recipe(SHORT, {"cls": 1.0, "mean": 0.5}),
    "cls-label": Recipe(SHORT, {"cls": 1.0}),
    "adamw": Recipe(SHORT, muon=False),
    "not-whitened": Recipe(SHORT, whiten=False),
}


def optimizers(model: Pretrainer, muon: bool) -> list[torch.optim.Optimizer]:
    """Muon, if wanted, for the projections of the blocks, AdamW for everything else."""
    matrices, other, plain = [], [], []
    for name, x in model.named_parameters():
        if muon and name.endswith(("in_proj.weight", "out_proj.weight", "x_proj.weight", "x_proj_b.weight")):
            matrices.append(x)
        else:
            kept = x.ndim < 2 or "A_log" in name or "A_b_log" in name or "embed" in name
            (plain if kept else other).append(x)
    adam = [{"params": other, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}]
    found: list[torch.optim.Optimizer] = [torch.optim.AdamW(adam, lr=ADAM, betas=(0.9, 0.99))]
    return found + ([torch.optim.Muon(matrices, lr=MUON, weight_decay=DECAY)] if muon else [])


def stage(recipe: Recipe, step: int) -> tuple[int, int, int]:
    """(frames that are shown, clips of the step, clips before it)."""
    before = 0
    for steps, frames, batch in recipe.stages:
        if step < steps:
            return frames, batch, before + step * batch
        before, step = before + steps * batch, step - steps
    raise ValueError("past the last stage")


def batch_of(recipe: Recipe, clips: Clips, step: int, rank: int, processes: int) -> dict[str, Tensor]:
    """The clips of one process at one step: all training clips in a new order, again and again.

    It depends on the arguments alone, so that a run goes on where it was killed.
    """
    frames, batch, before = stage(recipe, step)
    share, count = batch // processes, len(clips.train)
    places = range(before + rank * share, before + (rank + 1) * share)
    orders = {x: np.random.default_rng((1, x)).permutation(count) for x in {i // count for i in places}}
    rng = np.random.default_rng((2, step, rank))
    chosen = (clips.train[orders[i // count][i % count]] for i in places)
    return stack([clips.train_view(i, frames, rng) for i in chosen])


def average_gradients(model: Pretrainer) -> None:
    """Of all processes, in one message."""
    grads = [x.grad for x in model.parameters() if x.grad is not None]
    flat = torch.cat([x.flatten() for x in grads])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for x, part in zip(grads, flat.split([x.numel() for x in grads]), strict=True):
        x.copy_(part.view_as(x))


class Run:
    """All that a run consists of, so that it goes on from a file as if it had not been killed.

    Attributes:
        average: the moving average of the model's weights.
        rates: what the rates of the optimizers' groups are multiples of.
        step: how many are done.
        first, finish: the step at which the last stretch begins and how many it has; 0 in the trunk.
        seconds: that all of it took, pauses left out.
        settings: what must be the same when it goes on.
    """

    def __init__(self, recipe: str, clips: Clips, processes: int = 1) -> None:
        self.weights = RECIPES[recipe].weights
        self.settings = {"recipe": recipe, "processes": processes, "clips": clips.fingerprint}
        self.model = fresh(clips, RECIPES[recipe].whiten)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizers = optimizers(self.model, RECIPES[recipe].muon)
        self.rates = [[group["lr"] for group in x.param_groups] for x in self.optimizers]
        self.step, self.first, self.finish, self.seconds = 0, 0, 0, 0.0

    def load(self, file: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it is one of other settings.
        """
        state = torch.load(file, weights_only=True)
        if odd := [x for x in self.settings if state["settings"][x] != self.settings[x]]:
            was, now = state["settings"][odd[0]], self.settings[odd[0]]
            raise ValueError(f"{file}: made with {odd[0]} {was}, not {now}; choose another --run")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, x in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(x)
        for key in PROGRESS:
            setattr(self, key, state[key])

    def save(self, file: Path) -> None:
        """Write a checkpoint, which is whole whenever it is there."""
        state = {key: getattr(self, key) for key in ("settings", *PROGRESS)}
        state |= {"model": self.model.state_dict(), "average": self.average.state_dict()}
        state["optimizers"] = [x.state_dict() for x in self.optimizers]
        buffer = io.BytesIO()
        torch.save(state, buffer)
        replace_file(file, buffer.getvalue())

    def learn(self, batch: dict[str, Tensor], rate: float, memory: float) -> dict[str, float]:
        """One step at a share of the full rates; the parts of the loss and the accuracy of cls."""
        parts, said = losses(self.model, batch)
        loss = sum(weight * parts[key] for key, weight in self.weights.items())
        if not loss.isfinite():  # the checkpoint before stays
            raise ValueError(f"step {self.step + 1}: the loss is {loss.item()}")
        loss.backward()
        average_gradients(self.model)
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, full in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = full * rate
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        memory = min(memory, self.step / (self.step + 10))
        with torch.no_grad():
            for kept, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
                kept.lerp_(new, 1 - memory)
        facts = {key: x.item() for key, x in parts.items()}
        return facts | {"accuracy": accuracy(said["logits"], batch["label"])}


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
    replace_file(file, "".join(f"{x}\n" for x in kept))


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


def accuracy(scores: Tensor, label: Tensor) -> float:
    """Share of the rows whose highest score is the label's."""
    return (scores.argmax(1) == label).float().mean().item()


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
    replace_file(args.file, save({name: x.half().contiguous() for name, x in weights.items()}))
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
    with held(args.run / "lock", f"{args.run}: another process trains there"), socket.socket() as free:
        for source in args.source:
            with held(source / ".lock", f"{source}: another process writes there"):
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
