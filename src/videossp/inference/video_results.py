"""`video_results`: what a classifier computes of the views of videos, video by video in their order."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Literal, get_args

from torch import Tensor

from videossp.errors import DataError
from videossp.inference.decode_ahead import Reading, decode_ahead
from videossp.inference.passes import Passes

OnError = Literal["error", "skip"]


def video_results(
    passes: Passes,
    videos: Iterable[str],
    reading: Reading,
    *,
    on_error: OnError = "error",
    workers: int = 0,
    timeout: float | None = None,
) -> Generator[tuple[str, Tensor | None, str], None, None]:
    """(video, results, "") of each video in order, or (video, None, reason) if it cannot be decoded.

    The results, (views, ...), are on the CPU. The views of several videos are computed together, unless the
    method mixes the clips of a batch. To stop early, close the iterator.

    Args:
        passes: computes the results.
        videos: names that `reading` fetches; they are taken only as far ahead as is needed.
        reading: how videos become views.
        on_error: "error" stops at the first video that cannot be decoded.
        workers, timeout: see `decode_ahead`.

    Raises:
        DataError: (on_error "error") a video cannot be decoded.
    """
    together = 1 if passes.mixes_clips else max(1, passes.at_once // (reading.segments * reading.crops))
    names: dict[int, str] = {}  # of videos without a result yet, by number
    results: dict[int, tuple[str, Tensor | None, str]] = {}
    with closing(
        decode_ahead(videos, reading, workers=workers, timeout=timeout, ahead=2 * together)
    ) as decoded:

        def items() -> Iterator[tuple[int, Tensor | None]]:
            for i, (video, clips, reason) in enumerate(decoded):
                if clips is None and on_error == "error":
                    raise DataError(reason)
                names[i] = video
                if clips is None:
                    results[i] = video, None, reason
                yield i, clips

        for i, result in passes.by_item(items(), 1 if passes.mixes_clips else None):
            if result is not None:
                results[i] = names[i], result, ""
            while (oldest := next(iter(names), None)) in results:
                del names[oldest]
                yield results.pop(oldest)


def check_on_error(on_error: str) -> None:
    """Raise a ValueError if `on_error` is not one of `OnError`."""
    if on_error not in get_args(OnError):
        raise ValueError(f"on_error is {' or '.join(get_args(OnError))}, got {on_error!r}")
