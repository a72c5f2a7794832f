"""Does an exported file compute the classifier that was exported? Its logits and times beside those."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videossp.classifier import Classifier
from videossp.data.sampling import ClipFormat

Work = Callable[[Tensor], np.ndarray]  # a batch of clips to logits
Runtime = Callable[[np.ndarray], np.ndarray]  # (batch, 3, frames, height, width) to logits (batch, classes)
Verdict = Literal["proven", "not proven", "failed"]

BATCHES = (1, 3, 8)
LEAST_CLIPS = 16
BOUND = 1e-4  # largest difference of a logit in float32; classes closer than this are a tie
INT8_AGREEMENT = 0.97  # least share of clips with the same class
TIMED = 4  # batches of the smallest size that the classifier computes, for its time alone
INT8_CLIPS = 72  # least number of real clips that prove an int8 model


@dataclass(frozen=True)
class Comparison:
    """An exported file beside the classifier, for all clips in batches of one size.

    Attributes:
        batch_size: clips in a batch; the last batch may be smaller.
        logits, probabilities: largest absolute difference of one.
        same: clips of which both predict the same class.
        ties: clips of which they predict different classes whose logits are closer than `BOUND`.
    """

    batch_size: int
    logits: float
    probabilities: float
    same: int
    ties: int


@dataclass(frozen=True)
class Proof:
    """What was measured of an exported file.

    Attributes:
        clips: number of clips.
        real: whether they are clips of videos; else they are drawn at random.
        int8: whether the matrix products of the file are in int8.
        comparisons: one for each size of batch.
        times: milliseconds per clip by size of batch, least of all batches: of the file and of videossp, as
            process CPU time and as wall time. For the smallest and the largest size.
        threads: of both.
        load_seconds: time to load the file.
    """

    clips: int
    real: bool
    int8: bool
    comparisons: tuple[Comparison, ...]
    times: Mapping[int, Mapping[str, float]]
    threads: int
    load_seconds: float

    @property
    def agreement(self) -> float:
        """Least share of clips of the same class, ties included, over the sizes of batch."""
        return min(x.same + x.ties for x in self.comparisons) / self.clips

    @property
    def faults(self) -> list[str]:
        """The reasons for the verdict "failed"."""
        found = []
        logits = max((x.logits for x in self.comparisons), key=lambda x: math.inf if math.isnan(x) else x)
        if not math.isfinite(logits):
            found.append("logits are not finite")
        if not self.int8:
            if logits > BOUND:
                found.append(f"logits differ by {logits:.2g}, more than {BOUND:g}")
            if self.agreement < 1:
                found.append(f"{self.agreement:.1%} of the clips have the same class, not all")
        elif self.agreement < INT8_AGREEMENT and self.real and self.clips >= INT8_CLIPS:
            found.append(
                f"{self.agreement:.1%} of the clips have the same class, less than {INT8_AGREEMENT:.0%}"
            )
        return found

    @property
    def verdict(self) -> Verdict:
        """Whether the file is shown to be the same model."""
        if self.faults:
            return "failed"
        enough = not self.int8 or (self.real and self.clips >= INT8_CLIPS)
        return "proven" if enough else "not proven"

    def summary(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        found = {"verdict": self.verdict, "faults": self.faults, "agreement": self.agreement, **asdict(self)}
        for x in found["comparisons"]:  # JSON has no NaN
            x.update({k: None for k in ("logits", "probabilities") if not math.isfinite(x[k])})
        return found


def seeded_clips(clip_format: ClipFormat, count: int = LEAST_CLIPS, seed: int = 0) -> Tensor:
    """Normalised random clips with structures of several sizes, (count, 3, frames, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    size = (clip_format.frames, *clip_format.size)
    parts = [
        F.interpolate(torch.randn(count, 3, *grid, generator=generator), size, mode="trilinear")
        for grid in ((2, 3, 3), (4, 8, 8), size)
    ]
    out: Tensor = torch.stack(parts).sum(0) / len(parts) ** 0.5
    return out


def prove(
    classifier: Classifier,
    load: Callable[[], Runtime],
    clips: Tensor,
    *,
    real: bool,
    int8: bool = False,
    batches: Sequence[int] = BATCHES,
) -> Proof:
    """Compare an exported file with the classifier on all clips.

    Args:
        classifier: the one that was exported, not merged, in float32.
        load: loads the file with its own runtime.
        clips: at least `LEAST_CLIPS` clips, normalised or uint8.
        real, int8: see `Proof`.
        batches: sizes of batch; for a file with a fixed size only this one.
    """
    started = time.perf_counter()
    runtime = load()
    load_seconds = time.perf_counter() - started
    times: dict[int, dict[str, float]] = {}
    theirs: dict[int, Tensor] = {}
    wanted = Tensor()
    for size in sorted(batches):
        full = size if len(batches) == 1 else 0
        works: dict[str, Work] = {"file": partial(file_logits, runtime, full)}
        if size in (min(batches), max(batches)):
            works["videossp"] = lambda x: classifier(x).numpy()
        parts = (classifier.normalised(x) for x in clips.split(size))
        most = {} if size == max(batches) else {"videossp": TIMED}
        results, spent = in_turn(works, parts, {"file": full}, most, warm=len(clips) <= size)
        theirs[size] = results["file"]
        if "videossp" in works:
            times[size], wanted = spent, results["videossp"]
    comparisons = tuple(compared(size, theirs[size], wanted) for size in batches)
    return Proof(len(clips), real, int8, comparisons, times, torch.get_num_threads(), load_seconds)


@torch.inference_mode()
def in_turn(
    works: Mapping[str, Work],
    parts: Iterable[Tensor],
    full: Mapping[str, int],
    most: Mapping[str, int],
    *,
    warm: bool,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Do several kinds of work on batches of clips, in turn.

    Args:
        works: by name.
        parts: the batches.
        full: clips that a work computes at least, in a batch of fewer.
        most: batches that a work computes, if not all.
        warm: do the first batch once before. It is the slowest, so this is for the time of a single batch.

    Returns:
        Their results, (clips, classes); and milliseconds per clip, by "WORK_cpu" and "WORK_wall": the least
        of all batches.
    """
    results: dict[str, list[np.ndarray]] = {name: [] for name in works}
    spent: dict[str, list[float]] = {}
    for i, part in enumerate(parts):
        for name, work in works.items():
            if name in most and i >= most[name]:
                continue
            if warm and i == 0:
                work(part)
            cpu, wall = time.process_time(), time.perf_counter()
            results[name].append(work(part))
            count = max(len(part), full.get(name, 0))
            spent.setdefault(f"{name}_cpu", []).append((time.process_time() - cpu) / count)
            spent.setdefault(f"{name}_wall", []).append((time.perf_counter() - wall) / count)
    return (
        {name: torch.from_numpy(np.concatenate(x)) for name, x in results.items()},
        {name: 1000 * min(x) for name, x in spent.items()},
    )


def file_logits(runtime: Runtime, full: int, clips: Tensor) -> np.ndarray:
    """The logits of the file; if it takes only batches of `full` clips, copies of the last one fill up."""
    missing = max(0, full - len(clips))
    filled = np.concatenate([clips.numpy(), np.repeat(clips[-1:].numpy(), missing, 0)])
    return runtime(filled)[: len(clips)]


def compared(batch_size: int, logits: Tensor, wanted: Tensor) -> Comparison:
    """Compare logits (clips, classes) with those of the classifier."""
    ours, theirs = wanted.argmax(1), logits.argmax(1)
    gap = wanted.gather(1, ours[:, None]) - wanted.gather(1, theirs[:, None])
    tied = (ours != theirs) & (gap[:, 0] < BOUND)
    return Comparison(
        batch_size,
        logits=float((logits - wanted).abs().max()),
        probabilities=float((logits.softmax(1) - wanted.softmax(1)).abs().max()),
        same=int((ours == theirs).sum()),
        ties=int(tied.sum()),
    )
