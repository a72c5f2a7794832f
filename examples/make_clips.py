"""Make a small labelled set of videos: textured shapes on textured ground, the class is how they move.

    python examples/make_clips.py FOLDER [--train N] [--test N] [--seed S]

writes FOLDER/{train,test}/CLASS/NUMBER.mp4 with PyAV; needs nothing from the network.
"""

import argparse
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIDE, FRAMES, RATE = 80, 24, 12  # pixels, frames, frames per second

# Class -> (x, y, size) of the shape at time 0..1; x and y in sides of the picture, size relative.
MOTIONS: dict[str, Callable[[float], tuple[float, float, float]]] = {
    "falling": lambda t: (0.5, 0.2 + 0.6 * t, 1.0),
    "rising": lambda t: (0.5, 0.8 - 0.6 * t, 1.0),
    "shrinking": lambda t: (0.5, 0.5, 3.0 - 2.6 * t),
    "sliding": lambda t: (0.2 + 0.6 * t, 0.5, 1.0),
}


def texture(rng: np.random.Generator, side: int, low: int, high: int) -> np.ndarray:
    """(side, side, 3): coarse random blots between two brightnesses, in a random tint."""
    coarse = rng.uniform(low, high, (6, 6, 1)) * rng.uniform(0.7, 1.0, 3)
    return np.kron(coarse, np.ones((-(-side // 6), -(-side // 6), 1)))[:side, :side]


def render(motion: Callable[[float], tuple[float, float, float]], rng: np.random.Generator) -> np.ndarray:
    """(FRAMES, SIDE, SIDE, 3) uint8 of one shape, a disc or a square, that moves over a still ground."""
    ground, radius = texture(rng, SIDE, 20, 90), rng.uniform(10, 14)
    skin, disc, shift = texture(rng, SIDE, 150, 255), rng.random() < 0.5, rng.uniform(-6, 6, 2)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    frames = []
    for t in np.linspace(0, 1, FRAMES):
        x, y, size = motion(float(t))
        x, y = SIDE * x + shift[0], SIDE * y + shift[1]
        away = np.abs(columns - x), np.abs(rows - y)
        inside = (np.hypot(*away) if disc else 1.1 * np.maximum(*away)) < size * radius
        frame = np.where(inside[..., None], np.roll(skin, (round(y), round(x)), (0, 1)), ground)
        frames.append((frame + rng.normal(0, 4, frame.shape)).clip(0, 255).astype(np.uint8))
    return np.stack(frames)


def write_video(path: Path, frames: np.ndarray, rate: int = RATE) -> None:
    """Encode (time, height, width, 3) uint8 frames, rate per second, as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate), options={"crf": "18"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def make_clips(folder: Path, train: int, test: int, seed: int = 0) -> None:
    """Write `train` and `test` clips of each class."""
    for split, count in (("train", train), ("test", test)):
        for label, (name, motion) in enumerate(MOTIONS.items()):
            place = folder / split / name
            place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                rng = np.random.default_rng((seed, split == "test", label, number))
                write_video(place / f"{number:02}.mp4", render(motion, rng))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=16, help="training clips per class")
    parser.add_argument("--test", type=int, default=8, help="test clips per class")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    make_clips(args.folder, args.train, args.test, args.seed)
    print(f"{len(MOTIONS) * (args.train + args.test)} clips of {len(MOTIONS)} classes in {args.folder}")
