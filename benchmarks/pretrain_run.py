"""A run of the pretraining: its settings, the batch of a step, the optimisation and the checkpoints."""

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

MUON, ADAM = 0.02, 1e-3  # learning rates: matrices in the blocks, everything else
DECAY = 0.05  # weight decay of weights with two or more dimensions
PROGRESS = ("step", "first", "finish", "seconds")  # attributes of a run that its checkpoints contain


@dataclass(frozen=True)
class Settings:
    """Settings of a pretraining run; the defaults are those of videomamba_nano.

    Attributes:
        stages: in order, (steps, frames that a clip shows, clips per step over all processes).
        weights: weights of the parts of the loss.
        muon: use Muon for the matrices in the blocks; otherwise AdamW for everything.
        whiten: start the patch embedding with whitened principal components.
    """

    stages: tuple[tuple[int, int, int], ...] = ((1800, 1, 64), (1200, 2, 48), (1200, 4, 32), (10**9, 8, 16))
    weights: dict[str, float] = field(
        default_factory=lambda: {"cls": 1.0, "mean": 0.5, "where": 0.5, "local": 0.5, "course": 3.0}
    )
    muon: bool = True
    whiten: bool = True


SHORT = ((400, 1, 64), (250, 2, 48), (250, 4, 32), (10**9, 8, 16))
SETTINGS = {
    "nano": Settings(),
    "short": Settings(SHORT),
    "eight-frames": Settings(((10**9, 8, 16),)),
    "labels": Settings(SHORT, {"cls": 1.0, "mean": 0.5}),
    "cls-label": Settings(SHORT, {"cls": 1.0}),
    "adamw": Settings(SHORT, muon=False),
    "not-whitened": Settings(SHORT, whiten=False),
}


def optimizers(model: Pretrainer, muon: bool) -> list[torch.optim.Optimizer]:
    """Muon for the projections of the blocks if `muon`, AdamW for everything else."""
    matrices, other, plain = [], [], []
    for name, x in model.named_parameters():
        if muon and name.endswith(("in_proj.weight", "out_proj.weight", "x_proj.weight", "x_proj_b.weight")):
            matrices.append(x)
        else:
            undecayed = x.ndim < 2 or "A_log" in name or "A_b_log" in name or "embed" in name
            (plain if undecayed else other).append(x)
    adam = [{"params": other, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}]
    adamw: list[torch.optim.Optimizer] = [torch.optim.AdamW(adam, lr=ADAM, betas=(0.9, 0.99))]
    return adamw + ([torch.optim.Muon(matrices, lr=MUON, weight_decay=DECAY)] if muon else [])


def stage(settings: Settings, step: int) -> tuple[int, int, int]:
    """Of a step: frames that a clip shows, clips in the step, clips before the step."""
    before = 0
    for steps, frames, batch in settings.stages:
        if step < steps:
            return frames, batch, before + step * batch
        before, step = before + steps * batch, step - steps
    raise ValueError("past the last stage")


def batch_of(settings: Settings, clips: Clips, step: int, rank: int, processes: int) -> dict[str, Tensor]:
    """The batch of one process at one step; each pass over the training clips has a new order.

    It depends on the arguments only, so a killed run resumes exactly.
    """
    frames, batch, before = stage(settings, step)
    share, count = batch // processes, len(clips.train)
    positions = range(before + rank * share, before + (rank + 1) * share)
    orders = {x: np.random.default_rng((1, x)).permutation(count) for x in {i // count for i in positions}}
    rng = np.random.default_rng((2, step, rank))
    chosen = (clips.train[orders[i // count][i % count]] for i in positions)
    return stack([clips.train_view(i, frames, rng) for i in chosen])


def average_gradients(model: Pretrainer) -> None:
    """Average the gradients over all processes, in one message."""
    grads = [x.grad for x in model.parameters() if x.grad is not None]
    flat = torch.cat([x.flatten() for x in grads])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for x, part in zip(grads, flat.split([x.numel() for x in grads]), strict=True):
        x.copy_(part.view_as(x))


class Run:
    """The complete state of a run: a run that resumes from its checkpoint equals one that never stopped.

    Args:
        name: of SETTINGS.
        clips: the training and held-out clips.
        processes: number of processes.

    Attributes:
        average: the moving average of the model's weights.
        rates: the full learning rate of each parameter group, by optimizer.
        step: number of finished steps.
        first, finish: first step and number of steps of the decay phase; 0 in the trunk.
        seconds: training time without pauses.
        identity: must be the same to resume; the checkpoint key "recipe" is the name of the settings.
    """

    def __init__(self, name: str, clips: Clips, processes: int = 1) -> None:
        self.weights = SETTINGS[name].weights
        self.identity = {"recipe": name, "processes": processes, "clips": clips.fingerprint}
        self.model = fresh(clips, SETTINGS[name].whiten)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizers = optimizers(self.model, SETTINGS[name].muon)
        self.rates = [[group["lr"] for group in x.param_groups] for x in self.optimizers]
        self.step, self.first, self.finish, self.seconds = 0, 0, 0, 0.0

    def load(self, file: Path) -> None:
        """Resume from a checkpoint.

        Raises:
            ValueError: the checkpoint has other settings, processes or clips.
        """
        state = torch.load(file, weights_only=True)
        if differing := [x for x in self.identity if state["settings"][x] != self.identity[x]]:
            was, now = state["settings"][differing[0]], self.identity[differing[0]]
            name = {"recipe": "settings"}.get(differing[0], differing[0])
            raise ValueError(f"{file}: made with {name} {was}, not {now}; choose another --run")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, x in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(x)
        for key in PROGRESS:
            setattr(self, key, state[key])

    def save(self, file: Path) -> None:
        """Write a checkpoint, atomically."""
        state: dict[str, object] = {"settings": self.identity}
        state |= {key: getattr(self, key) for key in PROGRESS}
        state |= {"model": self.model.state_dict(), "average": self.average.state_dict()}
        state["optimizers"] = [x.state_dict() for x in self.optimizers]
        buffer = io.BytesIO()
        torch.save(state, buffer)
        atomic_write(file, buffer.getvalue())

    def learn(self, batch: dict[str, Tensor], rate: float, memory: float) -> dict[str, float]:
        """One step with `rate` times the full rates. Returns the parts of the loss and cls's accuracy."""
        parts, outputs = losses(self.model, batch)
        loss = sum(weight * parts[key] for key, weight in self.weights.items())
        if not loss.isfinite():  # the last checkpoint remains
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
            for average, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
                average.lerp_(new, 1 - memory)
        figures = {key: x.item() for key, x in parts.items()}
        return figures | {"accuracy": accuracy(outputs["logits"], batch["label"])}


def accuracy(scores: Tensor, label: Tensor) -> float:
    """Share of the rows whose highest score is that of the label."""
    return (scores.argmax(1) == label).float().mean().item()
