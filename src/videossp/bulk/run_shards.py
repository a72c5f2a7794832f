"""`run_shards`: compute the shards of a list in this process; other processes may do the same beside it."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain

from videossp.bulk.parts import Claimed, Parts
from videossp.system.rows import Row

# From the names of videos to the rows of each, in their order. It takes names only as far ahead as it needs.
Compute = Callable[[Iterable[str]], Generator[list[Row], None, None]]
PAUSE = 1.0  # seconds between two looks at shards that other processes have claimed


@dataclass(frozen=True)
class Done:
    """A shard that was written.

    Attributes:
        shard: its number.
        videos: their number.
        failed: videos with an error.
    """

    shard: int
    videos: int
    failed: int


def run_shards(
    shards: Sequence[int], read: Callable[[int], list[str]], parts: Parts, compute: Compute
) -> Generator[Done, None, None]:
    """Write the files of shards that have none; at the end, all of them have one.

    The videos of all shards are one stream for `compute`, so that its batches are full and its workers are
    busy from one shard to the next. Each shard is claimed before it is read. Those that other processes have
    claimed are awaited, and computed here if the other process dies.

    Args:
        shards: their numbers.
        read: the videos of a shard.
        parts: where the rows go.
        compute: see `Compute`.

    Yields:
        Each shard that this process wrote, when its file is there.
    """
    while missing := parts.missing(shards):
        progress = False
        with closing(_run_free(missing, read, parts, compute)) as written:
            for done in written:
                progress = True
                yield done
        if not progress:
            time.sleep(PAUSE)


def _run_free(
    shards: Sequence[int], read: Callable[[int], list[str]], parts: Parts, compute: Compute
) -> Generator[Done, None, None]:
    """Compute the shards that nobody has claimed."""
    claimed: deque[tuple[int, int, ExitStack]] = deque()  # number, videos, claim; the oldest first

    def names() -> Iterator[str]:
        for number in shards:
            claim = ExitStack()
            try:
                missing = claim.enter_context(parts.claim(number))
            except Claimed:
                continue
            if not missing:
                claim.close()
                continue
            claimed.append((number, 0, claim))
            videos = read(number)
            claimed[-1] = (number, len(videos), claim)
            yield from videos

    rows: list[Row] = []
    videos = failed = 0
    stream = names()
    try:
        if (first := next(stream, None)) is None:
            return  # before `compute` starts worker processes
        with closing(compute(chain([first], stream))) as results:
            for found in results:
                number, count, claim = claimed[0]
                rows += found
                videos += 1
                failed += any(row["error"] is not None for row in found)
                if videos == count:
                    parts.write(number, rows)
                    claim.close()
                    claimed.popleft()
                    yield Done(number, videos, failed)
                    rows, videos, failed = [], 0, 0
        if claimed:
            raise RuntimeError(f"shard {claimed[0][0]} has {videos} results for {claimed[0][1]} videos")
    finally:
        for _, _, claim in claimed:
            claim.close()
