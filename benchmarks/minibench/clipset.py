"""What all sets share: clips are functions of their place in the set, made by processes, resumable.

A set is a module of this folder with

    SPLITS       clips of each class in a split, by default: {"train": 60, "val": 20}
    CLASSES      the names of its classes
    Maker        Maker(label).make(split, rng) -> Made, then .close()
    ABOUT        what note.py writes beside the clips: an About
    Data         only if it needs recorded data: Data(path) opens what --data names, or raises a ValueError;
                 it has a `hash` of what is there. Then it is Maker(label, data)

The random stream of a clip comes of the seed, the set, its class, split and number and of nothing else, so
a clip is the same whichever process makes it, whatever was made before, and however many there are to be.
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
LINE = 200  # clips between two lines where there is no terminal for a bar
# Without the last, x264 gives now and then other bytes for the same frames, and other processors others.
X264 = {"crf": "18", "threads": "1", "x264-params": "cpu-independent=1"}
BLOCK = 10  # clips that a process makes before it sets another class up


@dataclass(frozen=True)
class Clip:
    """A place in a set. Base names are unique: the published evaluation would merge others."""

    split: str
    label: str
    number: int

    @property
    def path(self) -> str:
        """Below the folder of the set."""
        return f"{self.split}/{self.label}/{self.split}_{self.label}_{self.number:04}.mp4"

    def stream(self, set_name: str, seed: int) -> np.random.Generator:
        """All that is random in the clip comes from here."""
        name = zlib.crc32(f"{set_name}/{self.split}/{self.label}".encode())
        return np.random.default_rng((seed, name, self.number))


@dataclass(frozen=True)
class Made:
    """A clip.

    Attributes:
        frames: (time, height, width, 3) uint8.
        row: further columns of the annotation.
        arrays: written beside the video as .npz, if there are any.
    """

    frames: np.ndarray
    row: dict[str, object]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def encode(frames: np.ndarray, comment: str) -> bytes:
    """An MP4 file of H.264; the same bytes for the same frames and comment."""
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
    """What the Maker of a set takes besides the label: its recorded data, or nothing."""
    module = importlib.import_module(set_name)
    if not hasattr(module, "Data"):
        if path:
            raise ValueError(f"{set_name} is made without recorded data: leave --data out")
        return []
    return [module.Data(path)]


def make_block(set_name: str, seed: int, folder: Path, clips: list[Clip], data: Path | None = None) -> int:
    """Make clips of one class, and count them. The video comes last: where one is, its clip is complete."""
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
    """Up to BLOCK clips of one class and split at a time, so ordered that all classes grow together."""

    def place(clip: Clip) -> tuple[int, str, str]:
        return clip.number // BLOCK, clip.split, clip.label

    for _, block in itertools.groupby(sorted(clips, key=place), key=place):
        yield list(block)


def be_quiet() -> None:
    """Ctrl-C is for the process that asked for the clips; this one finishes what it is at."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # of the simulators


def make_set(
    set_name: str,
    folder: Path,
    seed: int,
    sizes: dict[str, int],
    processes: int,
    data: Path | None = None,
) -> list[Clip]:
    """Make what is missing of a set, and its annotation.

    Raises:
        ValueError: the folder holds another set, or the set of another seed or other data, or another process
            writes there; or there is no such data.
    """
    module = importlib.import_module(set_name)
    own: dict[str, object] = {"set": set_name, "seed": seed}
    if opened := open_data(set_name, data):
        own["data"] = opened[0].hash
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder / ".lock", f"{folder}: another process writes there"):
        claim(folder, own)
        clips = [Clip(s, label, i) for s, n in sizes.items() for label in module.CLASSES for i in range(n)]
        missing = [x for x in clips if not (folder / x.path).exists()]
        make_missing(set_name, folder, seed, missing, len(clips), processes, data)
        write_annotation(folder, clips)
    return clips


def claim(folder: Path, own: dict[str, object]) -> None:
    """Write down whose clips a folder holds, or compare."""
    file = folder / "set.json"
    if not file.exists():
        atomic_write(file, json.dumps(own) + "\n")
    elif (other := json.loads(file.read_text())) != own:
        raise ValueError(f"{folder}: holds {other}, not {own}; choose another folder")


def make_missing(
    set_name: str,
    folder: Path,
    seed: int,
    missing: list[Clip],
    total: int,
    processes: int,
    data: Path | None,
) -> None:
    """Make clips in worker processes, with a bar on a terminal and lines elsewhere."""
    console, had = Console(stderr=True), total - len(missing)
    columns = (TextColumn(set_name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=be_quiet)
    with pool, Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task, done = bar.add_task(set_name, total=total, completed=had), 0
        futures = [pool.submit(make_block, set_name, seed, folder, x, data) for x in blocks(missing)]
        try:
            for future in as_completed(futures):
                before, done = done, done + future.result()
                bar.update(task, completed=had + done)
                if not console.is_terminal and (done // LINE > before // LINE or done == len(missing)):
                    console.print(f"{set_name}: {had + done} of {total}", highlight=False)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what was begun is finished
            raise


def write_annotation(folder: Path, clips: list[Clip]) -> None:
    """One CSV file a split, from what the videos say of themselves; `targets` names the .npz of a clip."""
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
