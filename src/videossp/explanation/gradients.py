"""Integrated gradients (Sundararajan et al., ICML 2017, arXiv 1703.01365) of logits, summed over patches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from videossp.errors import OutOfMemoryError
from videossp.inference.passes import bytes_of_view
from videossp.model.device import free_memory, is_out_of_memory, selected, to_device
from videossp.model.precision import computing

if TYPE_CHECKING:
    from videossp.classifier import Classifier

MOST_STEPS_AT_ONCE = 8  # on a CPU, larger batches are hardly faster
TOLERANCE = 0.02  # error of the sum, relative to the change of the logit, above which more steps are taken
MEMORY = 4e9  # bytes that a pass with gradients may take on a CPU


@dataclass(frozen=True, eq=False)
class _Line:
    """The straight line from a baseline to a clip, on their device, and the classes whose logits count.

    Attributes:
        clip, baseline: (3, frames, height, width).
        labels: of the classes.
    """

    clip: Tensor
    baseline: Tensor
    labels: Sequence[int]


def integrated_gradients(
    classifier: "Classifier",
    clip: Tensor,
    labels: Sequence[int],
    baseline: Tensor,
    *,
    steps: int,
    changes: Tensor | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> tuple[Tensor, int]:
    """The contribution of each patch to logits: (labels, frames, rows, columns), and the number of steps.

    For a pixel x_i with the value b_i in the baseline, this is

        (x_i - b_i) * mean over a of d logit / d x_i at b + a (x - b)

    with the places a of `quadrature`. The contributions add up to logit(x) - logit(b), except for the error
    of the quadrature.

    Args:
        classifier: in eval mode.
        clip: (3, frames, height, width), normalised.
        labels: classes whose logits are explained. Several need one forward pass and a backward pass each.
        baseline: b, of the shape of the clip.
        steps: number of places.
        changes: (labels,), logit(x) - logit(b). If given, and a sum misses one of these by more than
            `TOLERANCE`, the result is of three times as many steps.
        advance: called with the number of steps that are done, up to `steps`; for further steps with 0.

    Raises:
        OutOfMemoryError: the memory of a GPU is too small for one step.
    """
    line = _Line(to_device(clip, classifier.device), to_device(baseline, classifier.device), labels)
    found = _contributions(classifier, line, *quadrature(steps), advance)
    if changes is None:
        return found, steps
    errors = (found.sum((1, 2, 3)) - changes).abs()
    if (errors <= TOLERANCE * changes.abs()).all():
        return found, steps
    # A third of the places of three times as many steps are those that are computed already.
    more = _contributions(classifier, line, *outer_thirds(steps), lambda _: advance(0))
    return found / 3 + more, 3 * steps


def _contributions(
    classifier: "Classifier",
    line: _Line,
    places: Tensor,
    shares: Tensor,
    advance: Callable[[int], object],
) -> Tensor:
    """The weighted sum of the gradients at places of a line, times its length, by patch, on the CPU."""
    device, total = line.clip.device, line.clip.new_zeros(len(line.labels), *line.clip.shape)
    at_once, done, steps = steps_at_once(classifier), 0, len(places)
    # Also the backward computes in float32 where the forward does, not in TF32.
    exact = computing("float32", device) if classifier.precision == "float32" else nullcontext()
    with selected(device), inputs_only(classifier), exact:
        while done < steps:
            part = slice(done, done + at_once)
            gradients = _gradients(classifier, line, places[part], shares[part])
            if gradients is None:  # the tensors of the pass are freed only now, after its exception
                torch.cuda.empty_cache()
                if at_once == 1:
                    raise OutOfMemoryError(
                        f"too little memory on {device} for the gradients of one clip: "
                        "--method occlusion needs less, or use another --device"
                    )
                at_once //= 2
                continue
            total += gradients
            advance(min(at_once, steps - done))
            done += at_once
    return by_patch((total * (line.clip - line.baseline)).cpu(), classifier.backbone.config.patch)


def quadrature(steps: int) -> tuple[Tensor, Tensor]:
    """Places a on [0, 1] and the weights of their gradients, which add up to 1.

    With a = s^2, this is the midpoint rule in s. From the mean colour, the logit changes most near the
    baseline, where these places are denser. docs/explain.md compares other rules.
    """
    s = (torch.arange(steps) + 0.5) / steps
    return s**2, 2 * s / steps


def outer_thirds(steps: int) -> tuple[Tensor, Tensor]:
    """The places and weights of `quadrature(3 * steps)` that are not places of `quadrature(steps)`.

    The middle of an interval is the middle of its middle third. Its weight is a third of the one before.
    """
    places, shares = quadrature(3 * steps)
    new = torch.arange(3 * steps) % 3 != 1
    return places[new], shares[new]


def _gradients(classifier: "Classifier", line: _Line, places: Tensor, shares: Tensor) -> Tensor | None:
    """Weighted sums of the gradients at some places, (labels, *clip.shape); None if memory was too small."""
    device = line.clip.device
    factors = to_device(places, device)[:, None, None, None, None]
    try:
        points = (line.baseline + factors * (line.clip - line.baseline)).requires_grad_()
        weighted = classifier(points).float() * to_device(shares, device)[:, None]
        found = []
        for i, label in enumerate(line.labels):
            (gradient,) = torch.autograd.grad(
                weighted[:, label].sum(), points, retain_graph=i < len(line.labels) - 1
            )
            found.append(gradient.sum(0))
    except RuntimeError as error:
        if not is_out_of_memory(error, device):
            raise
        return None
    return torch.stack(found)


def steps_at_once(classifier: "Classifier") -> int:
    """Steps in a pass. A method that mixes the clips of a batch gets each step alone."""
    if classifier.tuner.mixes_clips:
        return 1
    return max(1, min(MOST_STEPS_AT_ONCE, int(_memory(classifier) / bytes_of_step(classifier))))


def _memory(classifier: "Classifier") -> float:
    """Bytes that a pass with gradients may take."""
    if classifier.device.type == "cuda":
        return free_memory(classifier.device) / 2
    return MEMORY


def bytes_of_step(classifier: "Classifier") -> int:
    """About the memory of a step without gradient checkpointing: every block keeps its tensors."""
    config = classifier.backbone.config
    return config.depth * bytes_of_view(config)


@contextmanager
def inputs_only(classifier: "Classifier") -> Iterator[None]:
    """Within this context gradients reach the clip in full, and no weight needs one.

    If one step takes too much memory, gradient checkpointing is on.
    """
    trained = [x for x in classifier.parameters() if x.requires_grad]
    backbone, before = classifier.backbone, classifier.backbone.grad_checkpoint
    checkpointed = before or bytes_of_step(classifier) > _memory(classifier)
    try:
        for x in trained:
            x.requires_grad_(False)
        backbone.grad_checkpoint = checkpointed
        with torch.enable_grad(), classifier.tuner.all_gradients():
            yield
    finally:
        backbone.grad_checkpoint = before
        for x in trained:
            x.requires_grad_()


def by_patch(pixels: Tensor, patch: int) -> Tensor:
    """Sum over colours and over the pixels of a patch.

    Args:
        pixels: (..., 3, frames, height, width).
        patch: side of a patch.

    Returns:
        (..., frames, rows, columns).
    """
    return pixels.sum(-4).unfold(-2, patch, patch).unfold(-2, patch, patch).sum((-1, -2))
