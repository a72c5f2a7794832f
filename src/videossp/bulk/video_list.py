"""`VideoList`: a text file with a video per line, read in shards of lines; ten million lines fit."""

import hashlib
import os
import re
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videossp.errors import DataError

SCHEME = re.compile(rb"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


@dataclass(frozen=True)
class VideoList:
    """The videos that a text file lists: paths or URIs, one per line.

    Memory: 8 bytes a line while the file is scanned, and 8 bytes a shard afterwards.

    Attributes:
        path: of the file.
        shard_size: videos per shard; the last one may have fewer.
        videos: number of videos. Empty lines do not count.
        sha256: of the content of the file.
        schemes: of the URIs, as s3.
        starts: position in the file of each shard, and its size.
    """

    path: Path
    shard_size: int
    videos: int
    sha256: str
    schemes: frozenset[str]
    starts: "array[int]"

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.starts) - 1

    def size_of(self, shard: int) -> int:
        """Number of videos of a shard."""
        return min(self.shard_size, self.videos - shard * self.shard_size)

    def shard(self, number: int) -> list[str]:
        """The videos of a shard: those of the lines number * shard_size and following.

        Raises:
            DataError: the file has changed since it was scanned.
        """
        start, end = self.starts[number : number + 2]
        with self.path.open("rb") as file:
            file.seek(start)
            names = [os.fsdecode(x) for x in map(_name, file.read(end - start).split(b"\n")) if x]
        if len(names) != self.size_of(number):
            raise DataError(f"{self.path}: has changed since this run began; start it again")
        return names


def read_list(path: Path, shard_size: int) -> VideoList:
    """Scan a list once, and find where its shards begin.

    Raises:
        DataError: the file cannot be read, is empty, or has a line twice.
        ValueError: shard_size is below 1.
    """
    if shard_size < 1:
        raise ValueError(f"the shard size must be at least 1, got {shard_size}")
    sha256, position, schemes = hashlib.sha256(), 0, set()
    starts, hashes = array("q"), array("q")
    try:
        with path.open("rb") as file:
            for line in file:
                sha256.update(line)
                if name := _name(line):
                    if len(hashes) % shard_size == 0:
                        starts.append(position)
                    hashes.append(hash(name))
                    if b"://" in name and (found := SCHEME.match(name)):
                        schemes.add(found[1].decode().lower())
                position += len(line)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not hashes:
        raise DataError(f"{path}: is empty; it must have the path or URI of a video on each line")
    starts.append(position)
    _refuse_repeats(path, hashes)
    return VideoList(path, shard_size, len(hashes), sha256.hexdigest(), frozenset(schemes), starts)


def _name(line: bytes) -> bytes:
    """The video of a line."""
    return line.rstrip(b"\r\n")


def _refuse_repeats(path: Path, hashes: "array[int]") -> None:
    """Raise a DataError if two lines are the same. Lines of one hash are compared."""
    ordered = np.sort(np.frombuffer(hashes, np.int64))
    same = {*ordered[1:][ordered[1:] == ordered[:-1]].tolist()}
    if not same:
        return
    seen: set[bytes] = set()
    with path.open("rb") as file:
        for line in file:
            name = _name(line)
            if name and hash(name) in same:
                if name in seen:
                    raise DataError(
                        f"{path}: has {os.fsdecode(name)} twice; each line must be another video: "
                        "awk '!seen[$0]++' removes repeats"
                    )
                seen.add(name)
