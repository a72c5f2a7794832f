"""`Explanation`: the patches and frames that a prediction depends on, as arrays."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from videossp.explanation.baselines import BASELINE_TEXTS, Baseline
from videossp.explanation.faithfulness import Faithfulness
from videossp.model.quantity import Quantity
from videossp.system.files import atomic_write

if TYPE_CHECKING:
    from numpy.typing import NDArray

Method = Literal["integrated_gradients", "occlusion"]
METHOD_TEXTS = {"integrated_gradients": "integrated gradients", "occlusion": "occlusion"}
LARGE_GAP = 0.05  # relative error of the sum that `sum_is_off` reports
UNITS = {"integrated_gradients": "logit", "occlusion": "nats"}


@dataclass(frozen=True)
class Explanation:
    """The explanation of a prediction for one clip.

    Attributes:
        path: the video; None for a clip that was given as a tensor.
        frames: the clip as the model reads it, (frames, height, width, 3) uint8.
        seconds: time of each frame from the start of the video; None if it is not known.
        classes: class names, in the order of the labels.
        probabilities: of each class for this clip, most probable first.
        target: the explained class.
        method, baseline: of the map. The baseline also replaces the frames of the curve; of both baselines,
            the median frame does.
        map: (frames, rows, columns) float32, for each patch. Integrated gradients: its contribution to the
            logit. Occlusion: the drop of the log-probability, in nats, when the window of 3 x 3 patches that
            contains it is replaced. Negative: evidence against the class.
        frame_drops: (frames,) float32, the drop of the log-probability of the target, in nats, when the frame
            is replaced.
        without_frame: the most probable class when the frame is replaced, for each frame.
        change: logit of the target for the clip minus that for the baseline, or the mean of both.
        gap: integrated gradients: |sum of the map - change| / |change|, the error of their sum; else None.
        passes: clips that were computed for map and curve, (forward, of these with a backward pass).
        mechanism: quantities of the model, each with values of one clip: per patch (frames, rows, columns).
            They show how the model works, not which parts the prediction depends on.
        faithfulness: of the map; None if it was not measured.
    """

    path: str | None
    frames: "NDArray[np.uint8]"
    seconds: tuple[float, ...] | None
    classes: tuple[str, ...]
    probabilities: dict[str, float]
    target: str
    method: Method
    baseline: Baseline
    map: "NDArray[np.float32]"
    frame_drops: "NDArray[np.float32]"
    without_frame: tuple[str, ...]
    change: float
    gap: float | None
    passes: tuple[int, int]
    mechanism: tuple[Quantity, ...] = ()
    faithfulness: Faithfulness | None = None

    @property
    def label(self) -> str:
        """The most probable class."""
        return next(iter(self.probabilities))

    @property
    def unit(self) -> str:
        """Unit of the map."""
        return UNITS[self.method]

    @property
    def deciding_frames(self) -> list[int]:
        """Frames without which another class is the most probable one."""
        return [t for t, x in enumerate(self.without_frame) if x != self.label]

    @property
    def text(self) -> str:
        """How the map was computed."""
        by = "by" if self.method == "occlusion" else "from"
        return f"{METHOD_TEXTS[self.method]} {by} {BASELINE_TEXTS[self.baseline]}"

    @property
    def sum_is_off(self) -> bool:
        """Whether the error of the sum is large, also relative to the sum of the absolute values."""
        if self.gap is None:
            return False
        error = abs(float(self.map.sum()) - self.change)
        return error > LARGE_GAP * max(abs(self.change), float(np.abs(self.map).sum()))

    def summary(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON."""
        faithful = self.faithfulness
        return {
            "path": self.path,
            "probabilities": self.probabilities,
            "target": self.target,
            "method": self.method,
            "baseline": self.baseline,
            "unit": self.unit,
            "seconds": self.seconds,
            "frame_drops": [float(x) for x in self.frame_drops],
            "without_frame": list(self.without_frame),
            "change": self.change,
            "gap": self.gap,
            "forward_passes": self.passes[0],
            "backward_passes": self.passes[1],
            "deletion": faithful and faithful.deletion,
            "insertion": faithful and faithful.insertion,
            "random": faithful and faithful.random,
        }

    def save(self, path: str | Path) -> None:
        """Write the arrays to an .npz file, with the rest as JSON in the array `summary`.

        Quantities of the mechanism are the arrays `mechanism_0`, `mechanism_1`, ...; their names and kinds
        are in the summary.
        """
        arrays: dict[str, Any] = {"map": self.map, "frame_drops": self.frame_drops, "frames": self.frames}
        kinds = [{"name": x.name, "per": x.per} for x in self.mechanism]
        arrays |= {f"mechanism_{i}": x.values.numpy() for i, x in enumerate(self.mechanism)}
        arrays["summary"] = np.array(json.dumps({**self.summary(), "mechanism": kinds}, ensure_ascii=False))
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        atomic_write(Path(path), content.getvalue())
