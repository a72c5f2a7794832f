"""Make a small labelled set of videos: textured shapes that move; the class is the motion.

    python examples/make_clips.py FOLDER [--train N] [--test N] [--seed S]

writes FOLDER/{train,test}/CLASS/NUMBER.mp4 with PyAV, without network access.
"""

import argparse
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIDE, FRAMES, RATE = 80, 24, 12  # pixels, frames, frames per second

# For each class, (x, y, size) of the shape at a time from 0 to 1: x and y as fractions of the frame, size
# relative to the shape's size.
MOTIONS: dict[str, Callable[[float], tuple[float, float, float]]] = {
    "falling": lambda t: (0.5, 0.2 + 0.6 * t, 1.0),
    "rising": lambda t: (0.5, 0.8 - 0.6 * t, 1.0),
    "shrinking": lambda t: (0.5, 0.5, 3.0 - 2.6 * t),
    "sliding": lambda t: (0.2 + 0.6 * t, 0.5, 1.0),
}


def texture(rng: np.random.Generator, side: int, low: int, high: int) -> np.ndarray:
    """Coarse random blots of a random tint, (side, side, 3), with values from `low` to `high`."""
    coarse = rng.uniform(low, high, (6, 6, 1)) * rng.uniform(0.7, 1.0, 3)
    return np.kron(coarse, np.ones((-(-side // 6), -(-side // 6), 1)))[:side, :side]


def render(motion: Callable[[float], tuple[float, float, float]], rng: np.random.Generator) -> np.ndarray:
    """Frames (FRAMES, SIDE, SIDE, 3) uint8 of a disc or square that moves over a still background."""
    background, radius = texture(rng, SIDE, 20, 90), rng.uniform(10, 14)
    surface, disc, shift = texture(rng, SIDE, 150, 255), rng.random() < 0.5, rng.uniform(-6, 6, 2)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    frames = []
    for t in np.linspace(0, 1, FRAMES):
        x, y, size = motion(float(t))
        x, y = SIDE * x + shift[0], SIDE * y + shift[1]
        distances = np.abs(columns - x), np.abs(rows - y)
        inside = (np.hypot(*distances) if disc else 1.1 * np.maximum(*distances)) < size * radius
        frame = np.where(inside[..., None], np.roll(surface, (round(y), round(x)), (0, 1)), background)
        frames.append((frame + rng.normal(0, 4, frame.shape)).clip(0, 255).astype(np.uint8))
    return np.stack(frames)


def write_video(path: Path, frames: np.ndarray, rate: int = RATE) -> None:
    """Encode frames (time, height, width, 3) uint8 as H.264, with `rate` frames per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate), options={"crf": "18"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def make_clips(folder: Path, train: int, test: int, seed: int = 0) -> None:
    """Write `train` training clips and `test` test clips of each class."""
    for split, count in (("train", train), ("test", test)):
        for label, (name, motion) in enumerate(MOTIONS.items()):
            class_folder = folder / split / name
            class_folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                rng = np.random.default_rng((seed, split == "test", label, number))
                write_video(class_folder / f"{number:02}.mp4", render(motion, rng))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=16, help="training clips per class")
    parser.add_argument("--test", type=int, default=8, help="test clips per class")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    make_clips(args.folder, args.train, args.test, args.seed)
    print(f"{len(MOTIONS) * (args.train + args.test)} clips of {len(MOTIONS)} classes in {args.folder}")
