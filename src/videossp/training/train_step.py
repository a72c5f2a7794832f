"""`TrainStep`: the loss, the gradients and the update of an optimiser step."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from videossp.classifier import Classifier
from videossp.data.augment import mix, soft_targets
from videossp.data.crop import finish_clips
from videossp.model.device import to_device
from videossp.training.balance import class_weights
from videossp.training.batches import Batch
from videossp.training.config import TrainConfig
from videossp.training.distributed import ProcessGroup
from videossp.training.plan import Plan
from videossp.training.state import TrainState


class TrainStep:
    """Computes an optimiser step of `Loop`, which decides whether the step counts.

    Args:
        classifier: is trained.
        plan: peaks and schedule of the learning rate.
        config: settings with a learning rate.
        state: its parameters, optimiser and average are changed in place.
        group: the processes that share the step.
        late: whether figures stay on the device until the next step.
    """

    def __init__(
        self,
        classifier: Classifier,
        plan: Plan,
        config: TrainConfig,
        state: TrainState,
        group: ProcessGroup,
        late: bool,
    ) -> None:
        self.classifier, self.config, self.state, self.group = classifier, config, state, group
        self.device, self.late, self.rate_factor = classifier.device, late, plan.rate_factor
        self.weights: Tensor | None = None
        if config.balance == "loss":
            labels = [x.label for x in plan.training]
            self.weights = class_weights(labels, len(classifier.classes)).to(self.device)
        self.peaks = [x["lr"] for x in state.optimizer.param_groups]

    def clips_of(self, batch: Batch) -> Tensor:
        """The clips of a batch on the device, normalised."""
        clips = to_device(batch.clips, self.device)
        if batch.flipped is None:
            return clips
        return finish_clips(clips, to_device(batch.flipped, self.device), self.classifier.clip_format)

    def loss(self, batch: Batch, number: int) -> Tensor:
        """Mean cross entropy of batch `number` of the step, weighted and mixed as the settings say."""
        config, labels = self.config, batch.labels
        seeds = (config.seed, self.state.step, number)
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0] >> 1))
        clips = self.clips_of(batch)
        if not config.mixup and not config.cutmix:
            targets, smoothing = to_device(labels, self.device), config.label_smoothing
            logits = self.classifier(clips)
            if self.weights is None:
                return nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)
            losses = nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
            return (losses * self.weights[targets]).mean()
        targets = soft_targets(labels, len(self.classifier.classes), config.label_smoothing)
        rng = np.random.default_rng((*seeds, 1))
        clips, targets = mix(clips, targets, config.mixup, config.cutmix, rng)
        targets, logits = to_device(targets, self.device), self.classifier(clips)
        if self.weights is None:
            return nn.functional.cross_entropy(logits, targets)
        losses = nn.functional.cross_entropy(logits, targets, reduction="none")
        shares = (targets - config.label_smoothing / targets.shape[1]) / (1 - config.label_smoothing)
        return (losses * (shares @ self.weights)).mean()  # a mixed clip has the mixed weight

    def gradients(self, factor: float) -> tuple[list[str], Tensor]:
        """Sum the gradients over the processes, scale them and clip their norm.

        Args:
            factor: planned clips of the step over decoded clips, so that a failed video weakens no step.

        Returns:
            Names of the parameters with a gradient; norms of their gradients before clipping.
        """
        parameters = self.state.parameters
        self.group.sum_gradients(list(parameters.values()))
        gradients = {name: x.grad for name, x in parameters.items() if x.grad is not None}
        if factor != 1:
            for gradient in gradients.values():
                gradient.mul_(factor)
        norms = torch.stack(torch._foreach_norm(list(gradients.values())))
        if self.config.max_grad_norm:
            norm = torch.linalg.vector_norm(norms)
            nn.utils.clip_grads_with_norm_(parameters.values(), self.config.max_grad_norm, norm)
        return list(gradients), norms

    def figures(self, norms: Tensor, losses: Sequence[Tensor], sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Sum the figures of a step over the processes, on the device.

        So `Loop.settle` needs no other process: one that was lost since then costs no finished step.

        Returns:
            1 if a loss or the norm of the gradient is not finite in some process, else 0; sum of the losses
            of all clips.
        """
        finite = torch.isfinite(torch.stack([torch.linalg.vector_norm(norms), *losses])).all()
        double = torch.float32 if self.device.type == "mps" else torch.float64  # MPS has no float64
        total = norms.new_zeros((), dtype=double)
        for loss, size in zip(losses, sizes, strict=True):
            total = total + loss.to(double) * size
        summed = torch.stack([(~finite).to(double), total])
        self.group.sum_in_place(summed)
        return (summed[0] > 0).float(), summed[1]

    def update(self, skip: Tensor) -> None:
        """Update the parameters and their moving average; on a GPU, change nothing if `skip` is 1."""
        factor = self.rate_factor(self.state.step)
        for group, peak in zip(self.state.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        weight: float | Tensor = 1 - self.config.ema_decay
        if self.late:
            # The fused kernel changes nothing if this is 1; torch's GradScaler uses the same attribute.
            self.state.optimizer.found_inf = skip  # type: ignore[attr-defined]
            weight = weight * (1 - skip)
        self.state.optimizer.step()
        for name, x in self.state.average.items():
            x.lerp_(self.state.parameters[name].detach(), weight)
