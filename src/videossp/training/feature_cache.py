"""`FeatureCache`: what a frozen backbone makes of clips, computed once and kept on disk."""

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from videossp.classifier import TOGETHER, Classifier
from videossp.data.clips import EvalViews, TrainClips
from videossp.system.files import atomic_write
from videossp.system.process import give_back_memory
from videossp.system.progress import Messages
from videossp.system.versions import versions

Clips = TrainClips | EvalViews


def cache_folder() -> Path:
    """Where features are kept unless told otherwise: videossp/features in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "videossp" / "features"


class FeatureCache:
    """For methods that read only what comes out of the frozen backbone (`Tuner.depends_on`).

    One file holds the features of an item of a data set of clips. Its name is a hash of all that they depend
    on: backbone, precision, what is read; versions of this package and of those that numbers depend on; video
    (path, size, time of change), its part, which frames and crops, the augmentation and its draw. So nothing
    is ever out of date, and runs share what is the same.

    Args:
        classifier: its backbone makes the features.
        folder: grows by 4 * d_model bytes a clip, or ("tokens") a token.
        workers: processes that decode ahead.
        wait: returns when all processes have come to it.
    """

    def __init__(
        self,
        classifier: Classifier,
        folder: Path,
        messages: Messages,
        *,
        workers: int = 0,
        wait: Callable[[], None] = lambda: None,
    ) -> None:
        if classifier.tuner.depends_on == "blocks" or classifier.backbone.drop_path:
            raise ValueError(f"{classifier.method}: features change in training, they cannot be kept")
        self.classifier, self.folder, self.messages = classifier, folder, messages
        self.workers, self.wait = workers, wait
        self.kind = f"{classifier.sha256} {classifier.precision} {classifier.tuner.depends_on} {versions()}"

    def of(self, clips: Clips, rank: int = 0, processes: int = 1) -> "Features":
        """The features of a data set of clips in place of them; makes those that are not there yet.

        Args:
            rank, processes: of those that share the work on this data set.
        """
        known = (f"{self.kind} {clips.identity(i)}" for i in range(len(clips)))
        names = [hashlib.sha256(x.encode()).hexdigest() for x in known]
        files = [self.folder / name[:2] / f"{name}.npy" for name in names]
        # Divided before anyone looks: others may be making files meanwhile.
        missing = [i for i in range(rank, len(files), processes) if not files[i].is_file()]
        if missing:
            loader = DataLoader(Subset(clips, missing), batch_size=None, num_workers=self.workers)
            self.classifier.eval()
            if self.workers:
                give_back_memory()
            shown = self.messages.bar(missing, "features of the backbone", 0, len(missing), 0)
            for i, (x, *_) in zip(shown, loader, strict=True):
                if x is not None:
                    files[i].parent.mkdir(parents=True, exist_ok=True)
                    atomic_write(files[i], self._made(x))
        self.wait()
        return Features(clips, files)

    @torch.no_grad()
    def _made(self, clips: Tensor) -> bytes:
        device = self.classifier.backbone.cls_token.device
        parts = [self.classifier.frozen(part.to(device)).cpu() for part in clips.split(TOGETHER)]
        file = io.BytesIO()
        np.save(file, torch.cat(parts).numpy())
        return file.getvalue()


class Features(Dataset[tuple[Any, ...]]):
    """Items of a data set of clips with features, (clips, 1 or length, d_model), in their place."""

    def __init__(self, clips: Clips, files: list[Path]) -> None:
        self.clips, self.files = clips, files

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        try:
            x = torch.from_numpy(np.load(self.files[index]))
        except FileNotFoundError:
            clips, *rest = self.clips[index]  # it could not be decoded: the reason is in the rest
            if clips is not None:
                raise RuntimeError(f"{self.files[index]}: gone from the cache while it was used") from None
            return clips, *rest
        return x, *self.clips.metadata(index)
