"""The model of `pretrain.py`: a VideoMamba with the heads of pretraining, and its losses.

Shapes: B clips, T frames, P patches per frame, K tracked points, D = d_model.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from pretrain_clips import POINTS, SPEC, Clips, stack
from torch import Tensor, nn

from videossp.model.tokens import Layout, Tokens
from videossp.model.videomamba import NO_TUNER, VideoMamba

SMOOTHING = 0.05  # label smoothing
WHITEN = 0.1  # added to the variances of the principal components of the patches; their mean is about 1


class Pretrainer(nn.Module):
    """The backbone with the heads of pretraining; the final norm is exported, the heads are not."""

    def __init__(self, labels: int, points: int) -> None:
        super().__init__()
        width = SPEC.d_model
        self.backbone = VideoMamba(SPEC)
        self.norm_f = nn.RMSNorm(width, eps=1e-5)  # of cls: a head of videossp reads its output
        self.norm_patches = nn.RMSNorm(width, eps=1e-5)
        self.label, self.label_mean = nn.Linear(width, labels), nn.Linear(width, labels)
        self.course = nn.Linear(width, points * (2 * SPEC.frames + 2 + 9) + 3)
        self.local = nn.Linear(width, 5 * points)
        for head in (self.label, self.label_mean, self.course, self.local):
            nn.init.zeros_(head.weight)  # random heads would add noise to the first steps
        self._start_positions()

    @torch.no_grad()
    def _start_positions(self) -> None:
        """Start position embeddings as sines with half the amplitude of a token, instead of noise of 0.02."""
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

        As `VideoMamba.encode`, but the patches are already cut, may be those of fewer frames, whose time
        indices are `shown` (B, shown), and nothing is recomputed to save memory.
        """
        backbone = self.backbone
        proj = backbone.patch_embed["proj"]
        x = F.linear(patches, proj.weight.flatten(1), proj.bias)
        x = x + backbone.pos_embed[:, None, 1:] + backbone.temporal_pos_embedding[0, shown][:, :, None]
        cls = (backbone.cls_token + backbone.pos_embed[:, :1]).expand(len(x), -1, -1)
        hidden = torch.cat([cls, x.flatten(1, 2)], dim=1)
        tokens = Tokens(hidden, torch.zeros_like(hidden), Layout(shown.shape[1], SPEC.grid))
        for layer, block in enumerate(backbone.layers):
            tokens = block(tokens, layer, NO_TUNER, save_memory=False)
        final = tokens.residual + tokens.hidden
        return final[:, 0], final[:, 1:].unflatten(1, shown.shape[1:] + (-1,))


def fresh(clips: Clips, whiten: bool = True) -> Pretrainer:
    """The model at step 0."""
    torch.manual_seed(0)
    model = Pretrainer(2 * len(clips.tasks), len(POINTS))
    if whiten:
        views = [clips.train_view(i, 1, np.random.default_rng(i)) for i in clips.train[::10]]
        model.whiten(stack(views)["patches"].flatten(0, 2))
    return model


def sines(position: Tensor, width: int, period: int) -> Tensor:
    """(n,) to (n, width): sines and cosines with wavelengths from 2 to 4 `period`, in geometric steps."""
    waves = 2 * (2 * period) ** torch.linspace(0, 1, width // 2)
    angle = 2 * math.pi * position[:, None] / waves
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def losses(model: Pretrainer, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parts of the loss, scalars, and the outputs that evaluation needs."""
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
    """Losses of the choice of the patch that contains each point, and of the predictions at that patch.

    Args:
        out: (B, shown, P, 5 K): score, offset within the patch, movement to the next shown frame.
        points: (B, shown, K, 2), relative to the size of the picture, NaN if unknown.
    """
    rows, columns = SPEC.grid
    out = out.unflatten(-1, (-1, 5))
    position = points * torch.tensor([columns, rows])  # in patches
    cell = position.nan_to_num(0).floor()
    index = (cell[..., 1] * columns + cell[..., 0]).long()  # (B, shown, K)
    known = ~position.isnan().any(-1)
    where = -out[..., 0].log_softmax(2).gather(2, index[:, :, None]).squeeze(2)
    at = index[:, :, None, :, None].expand(-1, -1, -1, -1, 4)
    predicted = out[..., 1:].gather(2, at).squeeze(2)  # (B, shown, K, 4)
    movement = F.pad(position.diff(dim=1), (0, 0, 0, 0, 0, 1), value=math.nan)
    target = torch.cat([2 * (position - cell - 0.5), 2 * movement], dim=-1)
    valid = ~target.isnan()
    return where[known].mean(), F.smooth_l1_loss(predicted[valid], target[valid])


def course_of(batch: dict[str, Tensor]) -> Tensor:
    """Targets for cls, with standard deviation about 1: (B, K (2 T + 11) + 3), NaN if unknown.

    In the picture: the points of every frame, and their displacement from the first frame to the last. In the
    room: their first and last position, and the displacement. The same of the gripper's opening.
    """
    points, room, opening = batch["points"], batch["room"], batch["opening"]
    parts = [
        7 * (points - 0.5),
        5 * (points[:, -1] - points[:, 0]),
        room[:, [0, -1]],
        room[:, -1] - room[:, 0],
        3.5 * (opening[:, [0, -1]] - 0.5),
        3.5 * (opening[:, -1:] - opening[:, :1]),
    ]
    return torch.cat([x.flatten(1) for x in parts], dim=1)
