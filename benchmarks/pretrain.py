"""Pretrain videomamba_nano from random weights on `minibench source`, on the cores of one CPU.

    python benchmarks/pretrain.py train --source DIR --run RUN    # starts, or goes on where it was killed
    python benchmarks/pretrain.py train --source DIR --run RUN --finish 3000    # last steps, rates to zero
    python benchmarks/pretrain.py export --run RUN --file nano.safetensors
    python benchmarks/pretrain.py probe --run RUN --set DIR       # linear probes, on its validation split

A run may be killed at any time: a checkpoint is written every two minutes, RUN/state.jsonl has a line every
hundred steps. The rates stay constant after a warm-up, and what is evaluated and exported is a moving average
of the weights: there is a usable model at every moment, and no end that must be known beforehand. `--finish`
branches off into RUN/finish.pt, which export and probe then prefer; the run itself can still go on.

A clip is 8 of 16 frames, in time or reversed. What is learned from it (`losses`): which task it shows, and in
which direction of time, read off cls and off the mean of the patches; where gripper, object and goal are in
every frame and how they move on, read off the patches; and their whole course, read off cls, which is all
that a head will see later. The first stages show 1, 2 and 4 of the 8 frames: for the time that a clip takes,
eight single frames of other clips in other colours teach more to see.

Shapes: B clips, T frames, P patches of a frame, K points that are followed, D = d_model.
"""

import argparse
import copy
import csv
import io
import json
import math
import os
import socket
import time
from pathlib import Path

from videossp import prepare_process

prepare_process()  # before torch is loaded

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from pretrain_clips import FORM, POINTS, SPEC, Clips, stack  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from videossp.clips import read_views  # noqa: E402
from videossp.datasets import read_data  # noqa: E402
from videossp.files import held, replace_file  # noqa: E402
from videossp.tokens import Layout, Tokens  # noqa: E402
from videossp.videomamba import SILENT, VideoMamba  # noqa: E402

# (steps, frames that are shown of a clip, clips of a step over all processes), one after the other.
STAGES = ((1500, 1, 64), (1000, 2, 48), (1000, 4, 32), (10**9, 8, 16))
MUON, ADAM = 0.02, 1e-3  # rates: of the matrices in the blocks, of everything else
WARMUP = 100  # steps
DECAY = 0.05  # of weights with two or more dimensions
AVERAGE, FINISH_AVERAGE = 0.999, 0.99  # memory of the average of the weights, per step; in the last stretch
SAVE = 120  # seconds between checkpoints
SMOOTHING = 0.05
WEIGHTS = {"cls": 1.0, "mean": 0.5, "where": 0.5, "local": 0.5, "course": 3.0}  # of the parts of the loss
WHITEN = 0.1  # added to the variances of the patches' components, whose mean is about 1


# ---- model and losses


class Pretrainer(nn.Module):
    """The backbone and the heads that pretraining needs; the final norm is exported, the heads are not."""

    def __init__(self, labels: int, points: int) -> None:
        super().__init__()
        width = SPEC.d_model
        self.backbone = VideoMamba(SPEC)
        self.norm_f = nn.RMSNorm(width, eps=1e-5)  # of cls, what a head of videossp reads
        self.norm_patches = nn.RMSNorm(width, eps=1e-5)
        self.label, self.label_mean = nn.Linear(width, labels), nn.Linear(width, labels)
        self.course = nn.Linear(width, points * (2 * SPEC.frames + 2 + 9) + 3)
        self.local = nn.Linear(width, 5 * points)
        for head in (self.label, self.label_mean, self.course, self.local):
            nn.init.zeros_(head.weight)  # random heads only add noise to the first steps
        self._start_positions()

    @torch.no_grad()
    def _start_positions(self) -> None:
        """Sines of half the amplitude of a token's entries, in place of noise of 0.02."""
        rows, columns = SPEC.grid
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        half = SPEC.d_model // 2
        grid = torch.cat([sines(y.flatten(), half, rows), sines(x.flatten(), half, columns)], dim=1)
        self.backbone.pos_embed[0, 1:] = 0.5 * grid
        self.backbone.temporal_pos_embedding[0] = 0.5 * sines(
            torch.arange(SPEC.frames), SPEC.d_model, SPEC.frames
        )

    @torch.no_grad()
    def whiten(self, patches: Tensor) -> None:
        """Start the patch embedding with the whitened principal components of patches (n, 3 side side)."""
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh((patches - mean).T.double().cov())
        weight = (vectors / (values + WHITEN).sqrt()).T.flip(0)[: SPEC.d_model].float()
        proj = self.backbone.patch_embed["proj"]
        proj.weight.copy_(weight.reshape(proj.weight.shape))
        proj.bias.copy_(-weight @ mean)

    def forward(self, patches: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (B, shown, P, 3 side side) to cls (B, D) and patch tokens (B, shown, P, D), not normed.

        As `VideoMamba.encode`, but the patches are cut already, they may be those of fewer frames, with the
        places in time `shown` (B, shown), and nothing is computed twice to save memory.
        """
        backbone = self.backbone
        proj = backbone.patch_embed["proj"]
        x = F.linear(patches, proj.weight.flatten(1), proj.bias)
        x = x + backbone.pos_embed[:, None, 1:] + backbone.temporal_pos_embedding[0, shown][:, :, None]
        cls = (backbone.cls_token + backbone.pos_embed[:, :1]).expand(len(x), -1, -1)
        hidden = torch.cat([cls, x.flatten(1, 2)], dim=1)
        tokens = Tokens(hidden, torch.zeros_like(hidden), Layout(shown.shape[1], SPEC.grid))
        for layer, block in enumerate(backbone.layers):
            tokens = block(tokens, layer, SILENT, thrifty=False)
        final = tokens.residual + tokens.hidden
        return final[:, 0], final[:, 1:].unflatten(1, shown.shape[1:] + (-1,))


def fresh(clips: Clips) -> Pretrainer:
    """The model at step 0."""
    torch.manual_seed(0)
    model = Pretrainer(2 * len(clips.tasks), len(POINTS))
    views = [clips.train_view(i, 1, np.random.default_rng(i)) for i in clips.train[::10]]
    model.whiten(stack(views)["patches"].flatten(0, 2))
    return model


def sines(position: Tensor, width: int, period: int) -> Tensor:
    """(n,) to (n, width): sines and cosines of wavelengths from 2 to 4 `period`, by powers."""
    waves = 2 * (2 * period) ** torch.linspace(0, 1, width // 2)
    angle = 2 * math.pi * position[:, None] / waves
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def losses(model: Pretrainer, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parts of the loss, scalars, and what is measured on held-out clips."""
    with torch.autocast("cpu", torch.bfloat16):
        cls, patches = model(batch["patches"], batch["shown"])
    with torch.autocast("cpu", enabled=False):
        cls, label = model.norm_f(cls), batch["label"]
        logits = model.label(cls)
        patches = model.norm_patches(patches)
        logits_mean = model.label_mean(patches.mean((1, 2)))
        points = batch["points"][torch.arange(len(label))[:, None], batch["shown"]]
        where, local = located(model.local(patches), points)
        course, course_target = model.course(cls), course_of(batch)
        known = ~course_target.isnan()
        error = F.smooth_l1_loss(course[known], course_target[known])
    parts = {
        "cls": F.cross_entropy(logits, label, label_smoothing=SMOOTHING),
        "mean": F.cross_entropy(logits_mean, label, label_smoothing=SMOOTHING),
        "where": where,
        "local": local,
        "course": error,
    }
    return parts, {"logits": logits.detach(), "course": course.detach(), "target": course_target}


def located(out: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of finding the points among the patches of each frame, and of what is said at the right patch.

    Args:
        out: (B, shown, P, 5 K): score, offset within the patch, movement to the next frame that is shown.
        points: (B, shown, K, 2) in shares of the picture, NaN where unknown.
    """
    rows, columns = SPEC.grid
    out = out.unflatten(-1, (-1, 5))
    place = points * torch.tensor([columns, rows])  # in patches
    cell = place.nan_to_num(0).floor()
    index = (cell[..., 1] * columns + cell[..., 0]).long()  # (B, shown, K)
    known = ~place.isnan().any(-1)
    where = -out[..., 0].log_softmax(2).gather(2, index[:, :, None]).squeeze(2)
    at = index[:, :, None, :, None].expand(-1, -1, -1, -1, 4)
    said = out[..., 1:].gather(2, at).squeeze(2)  # (B, shown, K, 4)
    movement = F.pad(place.diff(dim=1), (0, 0, 0, 0, 0, 1), value=math.nan)
    target = torch.cat([2 * (place - cell - 0.5), 2 * movement], dim=-1)
    sure = ~target.isnan()
    return where[known].mean(), F.smooth_l1_loss(said[sure], target[sure])


def course_of(batch: dict[str, Tensor]) -> Tensor:
    """What cls is to tell, of standard deviation about 1: (B, K (2 T + 11) + 3), NaN where unknown.

    In the picture the points of every frame, and their way from the first frame to the last; in the room
    their first place, their last and the way; of the gripper's opening the same.
    """
    points, world, opening = batch["points"], batch["world"], batch["opening"]
    room = (world - torch.tensor([0.0, 0.7, 0.13])) / 0.1
    parts = [
        7 * (points - 0.5),
        5 * (points[:, -1] - points[:, 0]),
        room[:, [0, -1]],
        room[:, -1] - room[:, 0],
        3.5 * (opening[:, [0, -1]] - 0.5),
        3.5 * (opening[:, -1:] - opening[:, :1]),
    ]
    return torch.cat([x.flatten(1) for x in parts], dim=1)


# ---- training


def optimizers(model: Pretrainer) -> list[torch.optim.Optimizer]:
    """Muon for the projections of the blocks, AdamW for everything else."""
    matrices, other, plain = [], [], []
    for name, x in model.named_parameters():
        if name.endswith(("in_proj.weight", "out_proj.weight", "x_proj.weight", "x_proj_b.weight")):
            matrices.append(x)
        else:
            kept = x.ndim < 2 or "A_log" in name or "A_b_log" in name or "embed" in name
            (plain if kept else other).append(x)
    adam = [{"params": other, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}]
    return [
        torch.optim.Muon(matrices, lr=MUON, weight_decay=DECAY),
        torch.optim.AdamW(adam, lr=ADAM, betas=(0.9, 0.99)),
    ]


def stage(step: int) -> tuple[int, int, int]:
    """(frames that are shown, clips of the step, clips before it)."""
    before = 0
    for steps, frames, batch in STAGES:
        if step < steps:
            return frames, batch, before + step * batch
        before, step = before + steps * batch, step - steps
    raise ValueError("past the last stage")


def batch_of(clips: Clips, step: int, rank: int, processes: int) -> dict[str, Tensor]:
    """The clips of one process at one step: all training clips in a new order, again and again.

    It depends on the arguments alone, so that a run goes on where it was killed.
    """
    frames, batch, before = stage(step)
    share, count = batch // processes, len(clips.train)
    places = range(before + rank * share, before + (rank + 1) * share)
    orders = {x: np.random.default_rng((1, x)).permutation(count) for x in {i // count for i in places}}
    rng = np.random.default_rng((2, step, rank))
    chosen = (clips.train[orders[i // count][i % count]] for i in places)
    return stack([clips.train_view(i, frames, rng) for i in chosen])


def average_gradients(model: Pretrainer) -> None:
    """Of all processes, in one message."""
    grads = [x.grad for x in model.parameters()]
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
        first: the step at which the last stretch begins, if this is one.
        seconds: that all sittings took.
    """

    def __init__(self, clips: Clips) -> None:
        self.model = fresh(clips)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizers = optimizers(self.model)
        self.rates = [[group["lr"] for group in x.param_groups] for x in self.optimizers]
        self.step, self.first, self.seconds = 0, 0, 0.0

    def load(self, file: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(file, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, x in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(x)
        self.step, self.first, self.seconds = (state[key] for key in ("step", "first", "seconds"))

    def save(self, file: Path) -> None:
        """Write a checkpoint, which is whole whenever it is there."""
        state = {key: getattr(self, key) for key in ("step", "first", "seconds")}
        state |= {"model": self.model.state_dict(), "average": self.average.state_dict()}
        state["optimizers"] = [x.state_dict() for x in self.optimizers]
        buffer = io.BytesIO()
        torch.save(state, buffer)
        replace_file(file, buffer.getvalue())

    def learn(self, batch: dict[str, Tensor], rate: float, memory: float) -> dict[str, float]:
        """One step at a share of the full rates; the parts of the loss and the accuracy of cls."""
        parts, said = losses(self.model, batch)
        sum(WEIGHTS[key] * x for key, x in parts.items()).backward()
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
    clips = Clips(args.run / "clips")
    run, file, trunk = (
        Run(clips),
        args.run / ("finish.pt" if args.finish else "state.pt"),
        args.run / "state.pt",
    )
    if file.exists():
        run.load(file)
    elif trunk.exists():
        run.load(trunk)
        run.first = run.step
    last = run.first + args.finish if args.finish else args.steps
    if rank == 0:
        cut_log(file.with_suffix(".jsonl"), run.step)

    facts, spent, saved, told = [], 0.0, time.monotonic(), time.monotonic()
    while run.step < last:
        began = time.monotonic()
        fall = (last - run.step) / args.finish if args.finish else 1.0
        batch = batch_of(clips, run.step, rank, args.processes)
        rate = fall * min(1.0, (run.step + 1) / WARMUP)
        facts.append(run.learn(batch, rate, FINISH_AVERAGE if args.finish else AVERAGE))
        spent += time.monotonic() - began
        if run.step % 100 and run.step < last:
            continue
        shown, size, _ = stage(run.step - 1)
        record = {"step": run.step, "clips": stage(run.step)[2], "frames": shown, "of": len(clips.train)}
        record |= {key: float(np.mean([x[key] for x in facts])) for key in facts[0]}
        record["clips_per_s"] = len(facts) * size / spent
        if run.step % 500 == 0 or run.step == last:
            record["held_out"] = evaluate(run.average, clips, rank, args.processes)
        run.seconds += time.monotonic() - told
        facts, spent, told = [], 0.0, time.monotonic()
        if rank == 0:
            with file.with_suffix(".jsonl").open("a") as log:
                log.write(json.dumps(rounded(record | {"seconds": run.seconds})) + "\n")
            if told - saved > SAVE or run.step == last:
                run.save(file)
                saved = told


def cut_log(file: Path, step: int) -> None:
    """Leave the lines up to the checkpoint that a run goes on from."""
    lines = file.read_text().splitlines() if file.exists() else []
    kept = [x for x in lines if x.endswith("}") and json.loads(x)["step"] <= step]
    replace_file(file, "".join(f"{x}\n" for x in kept))


def rounded(x: object) -> object:
    """Numbers of four digits, in a dictionary of dictionaries."""
    if isinstance(x, dict):
        return {key: rounded(y) for key, y in x.items()}
    return float(f"{x:.4g}") if isinstance(x, float) else x


@torch.no_grad()
def evaluate(model: Pretrainer, clips: Clips, rank: int, processes: int) -> dict[str, float]:
    """On the held-out clips, each in time and reversed; the processes share the work."""
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
    return {
        **{key: float(sum(x[key] for x, *_ in found)) / len(label) for key in found[0][0]},
        "label": accuracy(logits, label),
        "task": accuracy(pairs.logsumexp(2), label // 2),
        "direction": accuracy(own, label % 2),
        "way": explained(course[:, way], target[:, way]),
    }


def accuracy(scores: Tensor, label: Tensor) -> float:
    """Share of the rows whose highest score is the label's."""
    return (scores.argmax(1) == label).float().mean().item()


def explained(said: Tensor, target: Tensor) -> float:
    """Share of the variance of the known targets, over all columns, that is explained."""
    rest = (said - target).square().nansum()
    return 1 - (rest / (target - target.nanmean(0)).square().nansum()).item()


# ---- what comes of it


def newest(run: Path) -> dict[str, Tensor]:
    """The averaged weights of a run, of its last stretch if there is one."""
    file = next(x for x in (run / "finish.pt", run / "state.pt") if x.exists())
    return torch.load(file, weights_only=True)["average"]


def export(args: argparse.Namespace) -> None:
    """Write the backbone and the final norm in float16, by their published names."""
    kept = {"norm_f.weight": "norm_f.weight"}
    state = newest(args.run)
    kept |= {key: key.removeprefix("backbone.") for key in state if key.startswith("backbone.")}
    save_file({name: state[key].half().contiguous() for key, name in kept.items()}, args.file)


ORDERS = {
    "clip": lambda rng: np.arange(SPEC.frames),
    "first frame": lambda rng: np.zeros(SPEC.frames, int),
    "last frame": lambda rng: np.full(SPEC.frames, SPEC.frames - 1),
    "shuffled": lambda rng: rng.permutation(SPEC.frames),
}


def probe(args: argparse.Namespace) -> None:
    """Linear probes on `minibench tabletop`, trained on train, judged on val: frozen, one view a video.

    Prints the accuracy among all classes, and within pairs: the label's score against that of its opposite.
    """
    data = read_data(args.set)
    with (args.set / "val.csv").open() as file:
        pair_of = {row["label"]: row["pair"] for row in csv.DictReader(file)}
    pairs = torch.tensor([[pair_of[x] == pair_of[y] for y in data.classes] for x in data.classes])
    views = {s: torch.stack([read_views(x.path, FORM)[0] for x in data.splits[s]]) for s in ("train", "val")}
    labels = {s: torch.tensor([x.label for x in data.splits[s]]) for s in views}
    model = fresh(Clips(args.run / "clips"))
    print(f"{'weights':10} {'frames':12} {'features':8} classes  in pairs")
    for weights in ("random", "pretrained"):
        if weights == "pretrained":
            model.load_state_dict(newest(args.run))
        for order in ORDERS if weights == "pretrained" else ["clip"]:
            found = {s: features(model, x, order) for s, x in views.items()}
            for name, width in (("cls", SPEC.d_model), ("cls+mean", 2 * SPEC.d_model)):
                scores = regression(found["train"][:, :width], labels["train"], found["val"][:, :width])
                within = scores.masked_fill(~pairs[labels["val"]], -math.inf)
                shares = (accuracy(x, labels["val"]) for x in (scores, within))
                print(f"{weights:10} {order:12} {name:8}", *(f"   {x:.3f}" for x in shares), flush=True)


@torch.no_grad()
def features(model: Pretrainer, views: Tensor, order: str) -> Tensor:
    """cls as a head reads it, and the mean of the patch tokens: (n, 2 D)."""
    rng, out = np.random.default_rng(0), []
    for clips in views.split(16):
        clips = torch.stack([x[:, ORDERS[order](rng)] for x in clips])
        tokens = model.backbone.encode(clips)
        final = tokens.residual + tokens.hidden
        mean = model.norm_patches(final[:, 1:]).mean(1)
        out.append(torch.cat([model.norm_f(final[:, 0]), mean], dim=1))
    return torch.cat(out)


def regression(x: Tensor, y: Tensor, x_val: Tensor) -> Tensor:
    """Scores of a logistic regression whose weight decay a quarter of the training data has chosen."""
    mean, std = x.mean(0), x.std(0) + 1e-6
    x, x_val = (x - mean) / std, (x_val - mean) / std
    mine = torch.arange(len(x)) % 4 > 0
    decays = 10.0 ** torch.arange(-4, 0.5, 0.5)
    found = [accuracy(fit(x[mine], y[mine], decay)(x[~mine]), y[~mine]) for decay in decays]
    return fit(x, y, decays[int(np.argmax(found))])(x_val)


def fit(x: Tensor, y: Tensor, decay: Tensor) -> nn.Linear:
    """Multinomial logistic regression by L-BFGS."""
    model = nn.Linear(x.shape[1], int(y.max()) + 1)
    nn.init.zeros_(model.weight)
    solver = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(model(x), y) + decay * model.weight.square().sum() / len(model.weight)
        loss.backward()
        return loss

    solver.step(closure)
    return model.requires_grad_(False)


def start(args: argparse.Namespace) -> None:
    """Decode what is new, then train in as many processes as there are cores; this one is the first."""
    args.run.mkdir(parents=True, exist_ok=True)
    with held(args.run / "lock", f"{args.run}: another process trains there"), socket.socket() as free:
        Clips.of(args.source, args.run / "clips")
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        context = torch.multiprocessing.get_context("spawn")
        for rank in range(1, args.processes):
            context.Process(target=train, args=(rank, port, args), daemon=True).start()
        train(0, port, args)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("train", help="start, or go on")
    verb.add_argument("--source", type=Path, required=True, help="folder of the clips")
    verb.add_argument("--run", type=Path, required=True, help="folder of the run")
    verb.add_argument("--steps", type=int, default=10**9, help="stop after so many")
    verb.add_argument("--finish", type=int, default=0, help="a last stretch of so many steps, rates to zero")
    verb.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    verb.set_defaults(function=start)
    verb = verbs.add_parser("export", help="write the backbone as safetensors")
    verb.add_argument("--run", type=Path, required=True)
    verb.add_argument("--file", type=Path, required=True)
    verb.set_defaults(function=export)
    verb = verbs.add_parser("probe", help="linear probes of a set")
    verb.add_argument("--run", type=Path, required=True)
    verb.add_argument("--set", type=Path, required=True, help="folder of the data set, with train and val")
    verb.set_defaults(function=probe)
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
