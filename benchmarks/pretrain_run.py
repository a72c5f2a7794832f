"""A run of the pretraining: its recipe, the clips of a step, what is learned of them and kept in a file."""

import copy
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from pretrain_clips import Clips, stack
from pretrain_model import Pretrainer, fresh, losses
from torch import Tensor

from videossp.system.files import atomic_write

MUON, ADAM = 0.02, 1e-3  # rates: of the matrices in the blocks, of everything else
DECAY = 0.05  # of weights with two or more dimensions
PROGRESS = ("step", "first", "finish", "seconds")  # of a run, kept in its checkpoints


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
        atomic_write(file, buffer.getvalue())

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


def accuracy(scores: Tensor, label: Tensor) -> float:
    """Share of the rows whose highest score is the label's."""
    return (scores.argmax(1) == label).float().mean().item()
