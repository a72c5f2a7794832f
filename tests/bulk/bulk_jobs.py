"""Jobs without a model for tests of shards: fast, and in processes of their own."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from videossp.bulk.parts import open_parts
from videossp.bulk.run_shards import run_shards
from videossp.bulk.video_list import read_list


def length_of(name):
    """The row of a name: its length, or an error where the name says so."""
    return {"path": name, "error": "broken" if "broken" in name else None, "length": len(name)}


def lengths(names):
    """The rows of names."""
    for name in names:
        yield [length_of(name)]


def slow_lengths(names):
    """The same, 4 ms each."""
    for name in names:
        time.sleep(0.004)
        yield [length_of(name)]


def start(device, workers):
    """A job for actors."""
    return lengths


def start_with_a_crash(device, workers):
    """A job whose process is killed once by the name in the middle of a shard, see `crash_once`."""
    return crash_once


def crash_once(names):
    """The rows of names. At the name of a file that does not exist yet, make it and die as by kill -9."""
    for name in names:
        if name.startswith("/") and not Path(name).exists():
            Path(name).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield [length_of(name)]


def start_with_an_error(device, workers):
    """A job that does not start."""
    raise FileNotFoundError("no model here")


def always_crash(names):
    """Die at the name "poison"."""
    for name in names:
        if name == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        yield [length_of(name)]


def start_with_poison(device, workers):
    """A job whose process dies at each "poison"."""
    return always_crash


def open_all(file, folder, shard_size, form="jsonl"):
    """(list, parts) of a bulk run."""
    videos = read_list(Path(file), shard_size)
    columns = {"path": str, "error": str, "length": int}
    return videos, open_parts(Path(folder), form, columns, {"sha256": videos.sha256})


def rows_of(parts, videos):
    """All rows, in the order of the parts."""
    return [
        json.loads(line)
        for number in range(videos.shards)
        for line in parts.path(number).read_text(encoding="utf-8").splitlines()
    ]


if __name__ == "__main__":
    videos, parts = open_all(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    for _ in run_shards(range(videos.shards), videos.shard, parts, slow_lengths):
        pass
