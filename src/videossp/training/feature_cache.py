"""`FeatureCache`: outputs of the frozen backbone for clips, computed once and kept on disk."""

import contextlib
import functools
import hashlib
import io
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from videossp.classifier import Classifier
from videossp.data.clips import EvalViews, TrainClips, video_identity
from videossp.inference.passes import Passes
from videossp.model.device import selected
from videossp.system.files import atomic_write
from videossp.system.process import give_back_memory
from videossp.system.progress import Messages
from videossp.system.versions import versions

Clips = TrainClips | EvalViews

MIN_AGE_TO_REMOVE = 24 * 3600  # seconds: files that were used more recently are never removed
CACHE_FILE = re.compile(r"[0-9a-f]{64}\.npy")  # a file of a cache
DIGEST = hashlib.sha256().digest_size  # bytes at the end of a file: the sha256 of the others
TEMPORARY_FILE = re.compile(r"\.[0-9a-f]{64}\.npy\..+")  # a partial file of a killed process


def cache_folder() -> Path:
    """The default folder of the cache: videossp/features in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "videossp" / "features"


class FeatureCache:
    """Features of clips for methods that read only the output of the frozen backbone (`Tuner.depends_on`).

    Each file holds the features of one item of a data set of clips. Its name is a hash of everything that the
    features depend on: backbone, precision, kind of device and the tokens that are read; versions of this
    package and of the libraries that affect numerical results; content of the video, its part, frames and
    crops; augmentation and its random numbers. So features are never outdated. Runs share them, and so do
    copies of a video. Features whose file is damaged are computed again.

    Args:
        classifier: its backbone computes the features.
        folder: of the files. Each takes 4 * d_model bytes per clip, or ("tokens") per token.
        messages: prints progress.
        workers: worker processes that decode ahead.
        timeout: seconds that a worker process may take for a video; 0: no limit.
        wait: barrier across the processes.

    Raises:
        ValueError: the features of the classifier change during training.
    """

    def __init__(
        self,
        classifier: Classifier,
        folder: Path,
        messages: Messages,
        *,
        workers: int = 0,
        timeout: float = 0.0,
        wait: Callable[[], None] = lambda: None,
    ) -> None:
        if classifier.tuner.depends_on == "blocks" or classifier.backbone.drop_path:
            raise ValueError(f"{classifier.method}: features change during training and cannot be cached")
        self.classifier, self.folder, self.messages = classifier, folder, messages
        self.workers, self.timeout, self.wait = workers, timeout, wait
        self.kind = f"{classifier.sha256} {classifier.precision} {classifier.tuner.depends_on} {versions()}"
        if classifier.device.type != "cpu":
            self.kind += f" {classifier.device.type}"
        self.identity = functools.cache(video_identity)  # each video is hashed once per run
        self.used: set[Path] = set()  # files that this run has used

    def of(self, clips: Clips, rank: int = 0, processes: int = 1) -> "Features":
        """The features of a data set of clips; those that are not in the cache are computed.

        Args:
            clips: the data set.
            rank, processes: this process and the number of processes that share the work on this data set.

        Returns:
            A data set with features in place of the clips.

        Raises:
            OSError: features cannot be written to the folder.
        """
        keys = (f"{self.kind} {clips.identity(i, self.identity)}" for i in range(len(clips)))
        names = [hashlib.sha256(x.encode()).hexdigest() for x in keys]
        files = [self.folder / name[:2] / f"{name}.npy" for name in names]
        # Divide the work before checking which files exist, because other processes may be writing files.
        missing = [i for i in range(rank, len(files), processes) if not self._has(files[i])]
        if missing:
            device = self.classifier.device
            with selected(device):
                loader = DataLoader(
                    Subset(clips, missing),
                    batch_size=None,
                    num_workers=self.workers,
                    timeout=self.timeout if self.workers else 0,
                    pin_memory=device.type == "cuda",
                )
                if self.workers:
                    give_back_memory()
                indices = self.messages.bar(missing, "features of the backbone", 0, len(missing), 0)
                items = ((i, x) for i, (x, *_) in zip(indices, loader, strict=True))
                passes = Passes(self.classifier, self.classifier.frozen_features)
                for i, x in passes.by_item(items, None if device.type == "cuda" else 1):
                    if x is not None:
                        self._write(files[i], packed(x))
        self.wait()
        return Features(clips, files)

    def _has(self, file: Path) -> bool:
        """Whether a file is in the cache and intact; it is marked as used now."""
        verified = file in self.used
        return self._use(file) and (verified or read_features(file) is not None)

    def _use(self, file: Path) -> bool:
        """Whether a file is in the cache; marks it as used now, once in a run."""
        if file not in self.used:
            try:
                os.utime(file)
            except FileNotFoundError:
                return False
            except OSError:  # a cache that this user may only read
                pass
            self.used.add(file)
        return True

    def _write(self, file: Path, content: bytes) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(file, content + hashlib.sha256(content).digest())
        except OSError as error:
            raise OSError(
                f"{file}: cannot be written ({error.strerror}); choose another --features"
            ) from error
        self.used.add(file)

    def prune(self, limit: float) -> None:
        """Remove the files that were not used for longest, until the others take at most `limit` GB.

        A GB is 10**9 bytes. Never removed: files used within the last day, even above the limit, and files
        that are not cache files. Several processes may use and prune a folder at the same time.
        """
        recent = time.time() - MIN_AGE_TO_REMOVE
        files, total = [], 0
        for path in self.folder.glob("??/*"):
            try:
                status = path.stat()
            except OSError:
                continue
            if CACHE_FILE.fullmatch(path.name):
                total += status.st_size
                files.append((status.st_mtime, status.st_size, path))
            elif TEMPORARY_FILE.fullmatch(path.name) and status.st_mtime < recent:
                with contextlib.suppress(OSError):
                    path.unlink()
        for used, size, path in sorted(files):
            if total <= limit * 1e9 or used >= recent:
                return
            remove_unused(path, recent)
            total -= size


def packed(features: Tensor) -> bytes:
    """Features as the content of a file."""
    file = io.BytesIO()
    np.save(file, features.numpy())
    return file.getvalue()


def read_features(file: Path) -> Tensor | None:
    """The features in a file of the cache; None if the file is missing or damaged."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    array, digest = content[:-DIGEST], content[-DIGEST:]
    return torch.from_numpy(np.load(io.BytesIO(array))) if digest == hashlib.sha256(array).digest() else None


def remove_unused(file: Path, recent: float) -> None:
    """Remove a file of the cache, unless another process has begun to use it since `recent`."""
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.rename(aside)  # from now on nobody can begin to use it
        if aside.stat().st_mtime >= recent:
            aside.rename(file)
        else:
            aside.unlink()
    except OSError:  # another process has removed it, or it belongs to another user
        return


class Features(Dataset[tuple[Any, ...]]):
    """Items of a data set of clips with features, (clips, 1 or length, d_model), in place of the clips.

    Item i + k * len(clips) is item i: a video that is used several times in an epoch has the same features.
    """

    def __init__(self, clips: Clips, files: list[Path]) -> None:
        self.clips, self.files = clips, files

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        index %= len(self.files)
        x = read_features(self.files[index])
        if x is None:
            clips, *rest = self.clips[index]  # it could not be decoded: the rest says why
            if clips is not None:
                raise RuntimeError(
                    f"{self.files[index]}: removed from the cache, or damaged, during the training; continue "
                    "with --resume"
                )
            return clips, *rest
        return x, *self.clips.metadata(index)
