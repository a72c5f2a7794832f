"""Generation of a set: reproducible clips, several processes, resumable.

A set is a module of this folder with

    SPLITS       default number of clips per class by split: {"train": 60, "val": 20}
    CLASSES      the names of its classes
    Maker        Maker(label).make(split, rng) -> Made, then .close()
    ABOUT        an About, for the files that note.py writes
    Data         only if it needs recorded data: Data(path) opens the path of --data, or raises a ValueError;
                 it has a `hash` of the data. The maker is then Maker(label, data)

The random stream of a clip depends only on the seed, the set, and the clip's class, split and number. So a
clip is the same whichever process makes it, whatever was made before, and however many clips there are.
"""

import csv
import importlib
import io
import itertools
import json
import signal
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from videossp.system.files import atomic_write, exclusive_lock

RATE = 8  # frames per second
LINE = 200  # clips between two progress lines if there is no terminal
# Without the last option, x264's bytes for the same frames differ between processors, and sometimes between
# runs.
X264 = {"crf": "18", "threads": "1", "x264-params": "cpu-independent=1"}
BLOCK = 10  # clips that a process makes before it sets up another class


@dataclass(frozen=True)
class Clip:
    """Identity of a clip. Base names are unique, because the published evaluation merges equal ones."""

    split: str
    label: str
    number: int

    @property
    def path(self) -> str:
        """Path of the video relative to the folder of the set."""
        return f"{self.split}/{self.label}/{self.split}_{self.label}_{self.number:04}.mp4"

    def stream(self, set_name: str, seed: int) -> np.random.Generator:
        """The random stream of the clip."""
        name = zlib.crc32(f"{set_name}/{self.split}/{self.label}".encode())
        return np.random.default_rng((seed, name, self.number))


@dataclass(frozen=True)
class Made:
    """A generated clip.

    Attributes:
        frames: (time, height, width, 3) uint8.
        row: additional columns of the annotation.
        arrays: written to a .npz next to the video, if not empty.
    """

    frames: np.ndarray
    row: dict[str, object]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def encode(frames: np.ndarray, comment: str) -> bytes:
    """Encode an H.264 MP4 file; the same frames and comment give the same bytes."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        container.metadata["comment"] = comment
        stream = container.add_stream("libx264", rate=RATE, options=X264)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def open_data(set_name: str, path: Path | None) -> list:
    """The arguments of a Maker after the label: its recorded data, or none."""
    module = importlib.import_module(set_name)
    if not hasattr(module, "Data"):
        if path:
            raise ValueError(f"{set_name} needs no recorded data: remove --data")
        return []
    return [module.Data(path)]


def make_block(set_name: str, seed: int, folder: Path, clips: list[Clip], data: Path | None = None) -> int:
    """Make clips of one class. Returns their number. The video is written last: it marks a complete clip."""
    maker = importlib.import_module(set_name).Maker(clips[0].label, *open_data(set_name, data))
    try:
        for clip in clips:
            made = maker.make(clip.split, clip.stream(set_name, seed))
            path = folder / clip.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if made.arrays:
                file = io.BytesIO()
                np.savez(file, **made.arrays)
                atomic_write(path.with_suffix(".npz"), file.getvalue())
            atomic_write(path, encode(made.frames, json.dumps(made.row)))
    finally:
        maker.close()
    return len(clips)


def blocks(clips: list[Clip]) -> Iterator[list[Clip]]:
    """Group clips to up to BLOCK of one class and split, ordered so that all classes grow together."""

    def key(clip: Clip) -> tuple[int, str, str]:
        return clip.number // BLOCK, clip.split, clip.label

    for _, block in itertools.groupby(sorted(clips, key=key), key=key):
        yield list(block)


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the main process: a worker process finishes its block."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # warnings of the simulators


def make_set(
    set_name: str,
    folder: Path,
    seed: int,
    sizes: dict[str, int],
    processes: int,
    data: Path | None = None,
) -> list[Clip]:
    """Make the missing clips of a set, and its annotation. Returns all clips.

    Raises:
        ValueError: the folder contains another set, seed or data, another process writes there, or the data
            is missing.
    """
    module = importlib.import_module(set_name)
    identity: dict[str, object] = {"set": set_name, "seed": seed}
    if opened := open_data(set_name, data):
        identity["data"] = opened[0].hash
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder / ".lock", f"{folder}: another process writes there"):
        claim(folder, identity)
        clips = [Clip(s, label, i) for s, n in sizes.items() for label in module.CLASSES for i in range(n)]
        missing = [x for x in clips if not (folder / x.path).exists()]
        make_missing(set_name, folder, seed, missing, len(clips), processes, data)
        write_annotation(folder, clips)
    return clips


def claim(folder: Path, identity: dict[str, object]) -> None:
    """Record the identity of the set in its folder, or compare with the recorded one."""
    file = folder / "set.json"
    if not file.exists():
        atomic_write(file, json.dumps(identity) + "\n")
    elif (other := json.loads(file.read_text())) != identity:
        raise ValueError(f"{folder}: holds {other}, not {identity}; choose another folder")


def make_missing(
    set_name: str,
    folder: Path,
    seed: int,
    missing: list[Clip],
    total: int,
    processes: int,
    data: Path | None,
) -> None:
    """Make clips in worker processes, with a progress bar on a terminal and lines elsewhere."""
    console, existing = Console(stderr=True), total - len(missing)
    columns = (TextColumn(set_name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=ignore_interrupts)
    with pool, Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task, done = bar.add_task(set_name, total=total, completed=existing), 0
        futures = [pool.submit(make_block, set_name, seed, folder, x, data) for x in blocks(missing)]
        try:
            for future in as_completed(futures):
                before, done = done, done + future.result()
                bar.update(task, completed=existing + done)
                if not console.is_terminal and (done // LINE > before // LINE or done == len(missing)):
                    console.print(f"{set_name}: {existing + done} of {total}", highlight=False)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # running blocks are finished
            raise


def write_annotation(folder: Path, clips: list[Clip]) -> None:
    """Write one CSV file per split, from the comments in the videos; `targets` is the .npz of a clip."""
    for split, members in itertools.groupby(clips, key=lambda x: x.split):
        rows = []
        for clip in members:
            with av.open(str(folder / clip.path)) as container:
                row = {"path": clip.path, "label": clip.label, **json.loads(container.metadata["comment"])}
            targets = Path(clip.path).with_suffix(".npz")
            rows.append(row | ({"targets": targets.as_posix()} if (folder / targets).exists() else {}))
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        atomic_write(folder / f"{split}.csv", text.getvalue())
