"""Predict the class of videos with an exported model; needs numpy, onnxruntime and av (PyAV) only.

    python predict.py model.onnx VIDEO...

model.json lies beside the model; if the model has a custom operator, so does selective_scan.so. One line per
video: its path, the most probable class and the probability. Exit code 1 if a video cannot be decoded. Unlike
videossp, this script does not notice that a file ends too early, and it does not mirror mirrored videos back
(phones only turn them).
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnxruntime
from av.stream import Disposition


def decoded(path: str) -> Iterator[av.VideoFrame]:
    """The frames of a video, one at a time."""
    with av.open(path) as container:
        streams = [x for x in container.streams.video if not x.disposition & Disposition.attached_pic]
        if not streams:
            raise ValueError("no video stream")
        yield from container.decode(max(streams, key=rank))


def rank(stream: av.VideoStream) -> tuple[bool, int]:
    """The stream that a player shows: the one that is marked as default, else the largest."""
    return bool(stream.disposition & Disposition.default), stream.width * stream.height


def pixels(frame: av.VideoFrame) -> np.ndarray:
    """(height, width, 3) uint8 RGB, upright as a player shows it."""
    return np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)


def indices(count: int, frames: int, sampling: str, stride: int, segment: int, segments: int) -> list[int]:
    """The frames of a clip: number `segment` of `segments` clips of a video of `count` frames."""
    parts = range(frames)
    if sampling == "dense":
        room = max(0, count - frames * stride)
        start = room // 2 if segments == 1 else segment * room // (segments - 1)
        return [min(start + i * stride, count - 1) for i in parts]
    if sampling == "sparse":
        part = (count - 1) / frames
        step = int(part / (segments + 1) * (segment + 1))
        return [min(int(np.round(part * i)) + step, count - 1) for i in parts]
    offset = (segment + 1) / (segments + 1)
    if sampling == "double":
        offset = segment / 2 if segments == 2 else 1 / 2
    return [int((i + offset) * count / frames) for i in parts]


def resized(images: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Resize one axis of uint8 images: triangle filter with antialiasing, in integers as Pillow does it."""
    length = images.shape[axis]
    if length == size:
        return images
    scale = length / size
    support = max(1.0, scale)
    weights = np.zeros((size, length))
    for i in range(size):
        centre = scale * (i + 0.5)
        first, last = max(0, int(centre - support + 0.5)), min(length, int(centre + support + 0.5))
        distance = np.abs(np.arange(first, last) - centre + 0.5) / support
        weights[i, first:last] = np.maximum(0.0, 1 - distance)
    weights /= weights.sum(1, keepdims=True)
    bits = 0  # as many as leave the largest weight below 2 ** 15
    while bits < 22 and int(0.5 + weights.max() * 2 ** (bits + 1)) < 2**15:
        bits += 1
    whole = np.floor(weights * 2**bits + 0.5)
    sums = np.moveaxis(np.tensordot(whole, images.astype(float), (1, axis)), 0, axis)
    out: np.ndarray = np.clip(np.floor((sums + 2 ** (bits - 1)) / 2**bits), 0, 255).astype(np.uint8)
    return out


def crop(images: np.ndarray, size: Sequence[int], number: int, count: int) -> np.ndarray:
    """Cover `size` with (time, height, width, 3) images and cut out crop `number` of `count`."""
    scale = max(size[0] / images.shape[1], size[1] / images.shape[2])
    covering = [max(size[i], round(images.shape[1 + i] * scale)) for i in range(2)]
    images = resized(resized(images, covering[1], 2), covering[0], 1)
    spare = covering[0] - size[0], covering[1] - size[1]
    top, left = (x // 2 if count == 1 else number * x // (count - 1) for x in spare)
    return images[:, top : top + size[0], left : left + size[1]]


def clips(path: str, form: dict[str, Any]) -> np.ndarray:
    """All views of a video: (views, 3, frames, height, width) float32, normalised."""
    count = sum(1 for _ in decoded(path))
    if not count:
        raise ValueError("no frames")
    segments, crops = form["views"]
    chosen = [
        indices(count, form["frames"], form["sampling"], form["stride"], k, segments) for k in range(segments)
    ]
    wanted = {i for part in chosen for i in part}
    images = {i: pixels(frame) for i, frame in enumerate(decoded(path)) if i in wanted}
    views = [
        crop(np.stack([images[i] for i in part]), form["size"], k, crops)
        for part in chosen
        for k in range(crops)
    ]
    mean, std = (np.array(form[x], np.float32) for x in ("mean", "std"))
    normalised = (np.stack(views) / np.float32(255) - mean) / std
    return normalised.transpose(0, 4, 1, 2, 3).astype(np.float32)


def probabilities(session: onnxruntime.InferenceSession, views: np.ndarray, batch: int | None) -> np.ndarray:
    """The mean over the views of the probabilities of the classes; `batch` is the model's, or None."""
    logits = []
    for start in range(0, len(views), batch or 8):
        part = views[start : start + (batch or 8)]
        missing = batch - len(part) if batch else 0
        filled = np.concatenate([part, np.repeat(part[-1:], missing, 0)])
        logits.append(session.run(["logits"], {"clip": filled})[0][: len(part)])
    scores = np.concatenate(logits).astype(float)
    scores = np.exp(scores - scores.max(1, keepdims=True))
    out: np.ndarray = (scores / scores.sum(1, keepdims=True)).mean(0)
    return out


def register(options: onnxruntime.SessionOptions, library: Path) -> None:
    """Make the custom operator known to sessions with these options."""
    try:
        options.register_custom_ops_library(str(library.resolve()))  # a bare name is looked up elsewhere
    except Exception as error:  # onnxruntime has its own kinds
        command = f"cc -O3 -shared -fPIC -o {library} {library.with_suffix('.c')}"
        raise ValueError(f"compile {library.name} on this machine with {command} ({error})") from error


def main() -> None:
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    model = Path(sys.argv[1])
    try:
        about = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
        if hashlib.sha256(model.read_bytes()).hexdigest() != about["sha256"]:
            raise ValueError("its .json file describes another model")
        options = onnxruntime.SessionOptions()
        if about.get("custom_op"):
            register(options, model.parent / about["custom_op"])
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has its own kinds
        print(f"{model}: cannot be loaded: {error}", file=sys.stderr)
        sys.exit(2)
    failed = False
    for path in sys.argv[2:]:
        try:
            views = clips(path, about["clip"])
        except (OSError, ValueError, LookupError, av.FFmpegError) as error:
            print(f"{path}: cannot be decoded: {error}", file=sys.stderr)
            failed = True
            continue
        scores = probabilities(session, views, about["batch"])
        best = int(scores.argmax())
        print(f"{path}\t{about['classes'][best]}\t{scores[best]:.4f}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
