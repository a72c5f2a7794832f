"""`Passes`: views through a classifier, as many at once as the memory of its device holds."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.errors import OutOfMemoryError
from videossp.inference.mixed_batch import mixed_logits
from videossp.model.config import VideoMambaConfig
from videossp.model.device import (
    free_memory,
    is_out_of_memory,
    read_later,
    reads_late,
    selected,
    to_device,
)

if TYPE_CHECKING:
    from videossp.classifier import Classifier

Key = TypeVar("Key")
EVAL_BATCH = 4  # views in a forward pass when nothing trains, unless a GPU has memory for more
MOST_AT_ONCE = 64  # of a GPU: this many clips of a few hundred tokens keep it busy


class Passes:
    """Passes views through a classifier, which is set to eval mode, without gradients.

    On a GPU the number of views in a pass follows from its free memory. If it is too large, it is halved and
    the pass is repeated, unless the method mixes the clips of a batch (`Tuner.mixes_clips`): other batches
    would give other results.

    Args:
        classifier: its device computes; or several of one device and clip format.
        run: computes the results of a batch: a tensor whose first dimension is that of the batch.
        batch_size: most views in a pass. Default: `EVAL_BATCH`; on a GPU as many as fit.

    Attributes:
        at_once: most views in a pass, as of now.

    Raises:
        ValueError: `batch_size` is below 1.
    """

    def __init__(
        self,
        classifier: "Classifier | Sequence[Classifier]",
        run: Callable[[Tensor], Tensor],
        batch_size: int | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.classifiers = [classifier] if isinstance(classifier, nn.Module) else list(classifier)
        self.classifier, self.run = self.classifiers[0], run
        self.mixes_clips = any(x.tuner.mixes_clips for x in self.classifiers)
        self.at_once = batch_size or (EVAL_BATCH if self.mixes_clips else views_that_fit(self.classifier))

    @torch.no_grad()
    def __call__(self, views: Tensor) -> Tensor:
        """The results of views, on the device, which may not have computed them yet.

        Raises:
            OutOfMemoryError: there is too little memory even for one view.
        """
        for classifier in self.classifiers:
            classifier.eval()
        results: list[Tensor] = []
        with selected(self.classifier.device):
            while len(views) or not results:
                result = self._try(views[: self.at_once])
                if result is None:  # the tensors of the pass are freed only now, after its exception
                    torch.cuda.empty_cache()
                else:
                    results.append(result)
                    views = views[self.at_once :]
        return torch.cat(results)

    def _try(self, views: Tensor) -> Tensor | None:
        """The results of one pass; None if it needs too much memory, and `at_once` is halved."""
        device = self.classifier.device
        try:
            return self.run(to_device(views, device))
        except RuntimeError as error:
            if not is_out_of_memory(error, device):
                raise
            if len(views) < 2 or self.mixes_clips:
                raise OutOfMemoryError(self._advice(len(views))) from error
        self.at_once = len(views) // 2
        return None

    def _advice(self, views: int) -> str:
        clip, device = self.classifier.clip_format, self.classifier.device
        height, width = clip.size
        levers = ["--precision bf16"] * (self.classifier.precision == "float32") + ["another --device"]
        if views > 1:
            levers.insert(0, "a smaller --batch-size (the method mixes the clips of a batch)")
        count = f"{views} views" if views > 1 else "one view"
        return (
            f"too little memory on {device} for {count} of {clip.frames} frames, {height} x {width}: "
            f"{' or '.join(levers)} helps, or an adapter of fewer --frames or a smaller --size"
        )

    def by_item(
        self, items: Iterable[tuple[Key, Tensor | None]], per_batch: int | None = None
    ) -> Iterator[tuple[Key, Tensor | None]]:
        """The results of items on the CPU, several items in a pass.

        On a GPU the results of a batch are read after the next batch is queued, so that the GPU never waits.

        Args:
            items: (key, views), or (key, None) for an item without views, which is yielded at once.
            per_batch: items of a batch; those without views count. Default: as many as fit in a pass.
        """
        late = int(reads_late(self.classifier.device))
        waiting: dict[Key, Tensor] = {}
        queued: deque[tuple[dict[Key, int], Callable[[], Tensor]]] = deque()

        def queue() -> None:
            sizes = {key: len(x) for key, x in waiting.items()}
            queued.append((sizes, read_later(self(torch.cat([*waiting.values()])))))
            waiting.clear()

        def read(rest: int) -> Iterator[tuple[Key, Tensor]]:
            while len(queued) > rest:
                sizes, result = queued.popleft()
                yield from zip(sizes, result().split([*sizes.values()]), strict=True)

        for number, (key, views) in enumerate(items, 1):
            full = False
            if views is None:
                yield key, None
            else:
                waiting[key] = to_device(views, self.classifier.device)
                full = sum(map(len, waiting.values())) + len(views) > self.at_once
            if waiting and (number % per_batch == 0 if per_batch else full):
                queue()
                yield from read(late)
        if waiting:
            queue()
        yield from read(0)


def scoring(classifier: "Classifier | Sequence[Classifier]", batch_size: int | None = None) -> Passes:
    """Passes whose results are the probabilities of the classes, (views, classes).

    Those of several classifiers are next to each other, in their order: (views, sum of their classes).
    """
    several = [classifier] if isinstance(classifier, nn.Module) else list(classifier)

    def run(views: Tensor) -> Tensor:
        logits = mixed_logits([(x, views) for x in several])
        return torch.cat([F.softmax(x.float(), dim=-1) for x in logits], dim=-1)

    return Passes(several, run, batch_size)


def finite(scores: Tensor) -> Tensor:
    """The scores, which must be on the CPU.

    Raises:
        FloatingPointError: a score is not finite.
    """
    if not scores.isfinite().all():
        raise FloatingPointError("scores that are not finite: the weights are damaged, or too large")
    return scores


def views_that_fit(classifier: "Classifier") -> int:
    """Views to begin with: `EVAL_BATCH`, or as many as take half of the free memory of a GPU."""
    device = classifier.device
    if device.type != "cuda":
        return EVAL_BATCH
    return max(1, min(MOST_AT_ONCE, free_memory(device) // (2 * bytes_of_view(classifier.backbone.config))))


def bytes_of_view(config: VideoMambaConfig) -> int:
    """About the memory that a view takes at the peak of a forward pass without gradients, in float32.

    A mixer holds two streams of tokens, the normalised one and its output, and eight tensors of the inner
    width: in_proj's two, the convolutions, a step, both scans and the gate. The clip is there three times
    while it is normalised.
    """
    rows, columns = config.grid
    tokens = 1 + config.frames * rows * columns
    pixels = 3 * config.frames * config.size[0] * config.size[1]
    return 4 * (tokens * (4 * config.d_model + 8 * config.d_inner) + 3 * pixels)
