"""Time decoding: clips per second of 8 uniform frames from 10 s of video, against OpenCV and plain PyAV.

    python benchmarks/decode.py [--rounds 5] [--clips 12]

The script generates its videos: a moving texture under moving patches with a little noise, 30 frames a
second, H.264 with x264's defaults (constant quality 23, three B-frames, one slice a frame), and a key frame
every 250 frames (x264's default) or every 30. All decoders return the same frames. OpenCV (extra `bench`)
decodes several frames at a time in threads. Its seek by frame number is not exact, so the script counts how
many of its frames are correct.
"""

import argparse
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

from videossp import prepare_process

prepare_process()  # before torch is loaded

import av  # noqa: E402
import numpy as np  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

from videossp import Classifier, TrainConfig, train  # noqa: E402
from videossp.bench import clock, format_seconds  # noqa: E402
from videossp.data import video  # noqa: E402
from videossp.data.datasets import Sample, VideoDataset  # noqa: E402
from videossp.data.video.index import _scan  # noqa: E402
from videossp.methods import published_options  # noqa: E402

FRAMES, RATE = 300, 30
INDICES = [int((i + 0.5) * FRAMES / 8) for i in range(8)]


def texture(rng, height, width):
    """Smooth patches of three sizes, float32 around 0."""
    image = np.zeros((height, width, 3), np.float32)
    for size, strength in ((64, 45), (16, 30), (4, 15)):
        coarse = rng.standard_normal((height // size + 3, width // size + 3, 3)).astype(np.float32)
        y, x = np.arange(height) / size, np.arange(width) / size
        for axis, at in ((0, y), (1, x)):
            low, share = at.astype(int), (at % 1).astype(np.float32)
            share = share[:, None, None] if axis == 0 else share[:, None]
            coarse = coarse.take(low, axis) * (1 - share) + coarse.take(low + 1, axis) * share
        image += strength * coarse
    return image


def pictures(height, width):
    """Frames (height, width, 3) uint8: a panning camera, four moving patches, noise."""
    rng = np.random.default_rng(0)
    back = 120 + texture(rng, height + FRAMES // 2, width + FRAMES)
    patches = [
        (120 + texture(rng, height // 3, width // 4), rng.random(2), rng.uniform(-4, 4, 2)) for _ in "1234"
    ]
    noise = 4 * rng.standard_normal((8, height, width, 1)).astype(np.float32)
    for i in range(FRAMES):
        image = back[i // 2 : i // 2 + height, i : i + width].copy()
        for patch, start, speed in patches:
            rows, columns, _ = patch.shape
            top = int(start[0] * height + speed[0] * i) % (height - rows)
            left = int(start[1] * width + speed[1] * i) % (width - columns)
            image[top : top + rows, left : left + columns] = patch
        yield (image + noise[rng.integers(8)]).clip(0, 255).astype(np.uint8)


def encode(path, height, width, gop):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"g": str(gop)})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.thread_type = "FRAME"  # thread_type SLICE would write several slices a frame
        for i, pixels in enumerate(pictures(height, width)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


class Clips(Dataset):
    """A data set whose items are decoded as in training: index the video, choose frames, decode."""

    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        _scan.cache_clear()  # in training, all other files are read before a file again
        return video.read_frames(self.paths[i], lambda count: INDICES)


def pyav_sequential(path):
    with av.open(path) as container:
        frames = enumerate(container.decode(video=0))
        return np.stack([x.to_ndarray(format="rgb24") for i, x in frames if i in INDICES])


def pyav_seeking(path):
    frames = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        for i in INDICES:
            time = round(i / RATE / stream.time_base)
            container.seek(time, stream=stream)
            frame = next(x for x in container.decode(stream) if x.pts >= time)
            frames.append(frame.to_ndarray(format="rgb24"))
    return np.stack(frames)


def opencv_sequential(path):
    import cv2

    capture, frames = cv2.VideoCapture(path), []
    for i in range(INDICES[-1] + 1):
        capture.grab()
        if i in INDICES:
            frames.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(frames)


def opencv_seeking(path):
    import cv2

    capture, frames = cv2.VideoCapture(path), []
    for i in INDICES:
        capture.set(cv2.CAP_PROP_POS_FRAMES, i)
        frames.append(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(frames)


PEERS = {
    "PyAV, sequential": pyav_sequential,
    "PyAV, a seek per frame": pyav_seeking,
    "OpenCV, sequential": opencv_sequential,
    "OpenCV, a seek per frame": opencv_seeking,
}


def count_correct(frames, video_frames):
    """How many of the frames are most similar to the frame of the video at their index."""
    video_frames = video_frames[:, ::4, ::4].astype(np.int16)
    closest = [np.abs(video_frames - x[::4, ::4]).mean((1, 2, 3)).argmin() for x in frames]
    return sum(a == b for a, b in zip(closest, INDICES, strict=True))


def compare(paths, rounds):
    """Print clips per second of each way to decode these files."""
    with av.open(paths[0]) as container:
        video_frames = np.stack([x.to_ndarray(format="rgb24") for x in container.decode(video=0)])
    works, frames = {}, {}
    for workers in (0, 1, 2):
        name = f"videossp, {workers} workers"
        loader = DataLoader(
            Clips(paths), batch_size=None, num_workers=workers, persistent_workers=workers > 0
        )
        works[name], frames[name] = (lambda loader=loader: list(loader)), Clips(paths)[0]
    for name, decode in PEERS.items():
        try:
            frames[name] = decode(paths[0])
        except ImportError:
            print(f"  {name}: skipped, not installed (pip install 'videossp[bench]')")
            continue
        works[name] = lambda decode=decode: [decode(path) for path in paths]
    times = clock(works, rounds)
    base = times["videossp, 0 workers"]
    for name, took in times.items():
        clip = took.median / len(paths)
        print(
            f"  {name:26}{1 / clip:7.1f} clips/s  {format_seconds(clip):>9} a clip"
            f"  {base.median / took.median:5.2f} x  {count_correct(frames[name], video_frames)} of 8 correct",
            flush=True,
        )


def waiting(backbone, width, paths):
    """Print how long training waits for these files. The two classes alternate."""
    samples = [Sample(str(path), path.name, i % 2) for i, path in enumerate(paths)]
    data = VideoDataset(("a", "b"), {"train": samples, "val": samples[:2]})
    options = published_options("ssp", {})  # of one size, as the recorded figures have it
    for workers in (0, 1):
        classifier = Classifier.create(backbone, classes=data.classes, weights="random", size=224, **options)
        config = TrainConfig(epochs=2, batch_size=4, workers=workers)
        row = train(classifier, data, config).history[1]
        print(
            f"  {backbone:18} {width:5} wide, {workers} workers: {row['data_wait']:6.1%} of "
            f"{format_seconds(row['seconds_per_clip'])} a clip",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=12, help="clips per round")
    args = parser.parse_args()
    print(
        f"8 uniform frames of {FRAMES}, medians of {args.rounds} rounds of {args.clips} clips, interleaved;"
    )
    print("x: ratio of clips per second to videossp without worker processes")
    with tempfile.TemporaryDirectory() as folder:
        for width, height in ((340, 256), (1280, 720)):
            for gop in (250, 30):
                first = Path(folder) / f"{width}_{gop}_0.mp4"
                encode(first, height, width, gop)
                paths = [str(first)]
                for i in range(1, args.clips):
                    paths.append(shutil.copy(first, first.with_name(f"{width}_{gop}_{i}.mp4")))
                rate = first.stat().st_size * 8 * RATE / FRAMES / 1e6
                print(f"\n{width} x {height}, {rate:.1f} Mbit/s, a key frame every {gop} frames")
                compare(paths, args.rounds)
        print("\ntraining with SSP at 224 pixels, second epoch: share of the time spent waiting for clips")
        for width in (340, 1280):
            paths = sorted(Path(folder).glob(f"{width}_250_*.mp4"))
            for backbone in ("videomamba_tiny", "videomamba_small"):
                waiting(backbone, width, paths)


if __name__ == "__main__":
    main()
