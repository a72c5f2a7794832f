"""Watching long recordings: how good the segments are, and how much memory an hour takes.

    python benchmarks/watch.py segments DEMO [--folder FOLDER]
    python benchmarks/watch.py memory DEMO [--minutes 60]

DEMO is the folder that `videossp demo --out DEMO` leaves. Its adapter of SSP classifies.

segments: the 72 test clips of the demo, which the adapter has not seen, are divided into two halves, each
with the same number of clips per class. A recording is made of each half: its clips twice, in random order,
played at a random speed (0.6 to 1.6 times their length of 2 s) at 24 frames a second, with pauses of 0.5 to
2.5 s between them, in which the last frame of a clip and then the first one of the next clip stand still.
Nothing lies on the grid of the windows. All choices are made on the first recording; the table shows the
second one.
The probabilities of the windows are kept in FOLDER, so that a second run takes seconds.

memory: a recording of 90,000 frames at 112 px is watched; the memory of the process is printed every five
minutes of video.
"""

import argparse
import csv
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from videossp import prepare_process

prepare_process()  # before torch is loaded

import av  # noqa: E402
import numpy as np  # noqa: E402

from videossp import Classifier, load  # noqa: E402
from videossp.data.clips import read_views  # noqa: E402
from videossp.data.datasets import read_data  # noqa: E402
from videossp.data.video import read_frames, read_video  # noqa: E402
from videossp.inference.passes import scoring  # noqa: E402
from videossp.watching.file_windows import FileWindows  # noqa: E402
from videossp.watching.grid import Grid  # noqa: E402
from videossp.watching.segment import Segment  # noqa: E402
from videossp.watching.segmenter import NOTHING, Segmenter, log_probability  # noqa: E402
from videossp.watching.truth import OVERLAPS, Agreement, agreement, read_truth  # noqa: E402
from videossp.watching.watch import Watcher  # noqa: E402

RATE = 24
LENGTHS, HOP = (1.0, 2.0, 3.0), 0.25
Scores = dict[tuple[int, int], np.ndarray]  # probabilities of the classes by (first, stop) of a window


def write_video(path: Path, frames: Iterator[np.ndarray], rate: int, size: tuple[int, int]) -> None:
    """Encode frames (height, width, 3) one after the other."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "18"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def make_recording(clips: Sequence[tuple[Path, str]], path: Path, seed: int) -> None:
    """Write a recording of clips, and its true segments beside it as CSV."""
    rng = np.random.default_rng(seed)
    order = [clips[i] for _ in range(2) for i in rng.permutation(len(clips))]
    rows: list[tuple[float, float, str]] = []

    def frames() -> Iterator[np.ndarray]:
        count, last = 0, None
        for file, label in order:
            clip = read_frames(file)
            pause = int(RATE * rng.uniform(0.5, 2.5))
            still = clip[0] if last is None else last
            for i in range(pause):
                yield still if i < pause // 2 else clip[0]
            shown = int(RATE * 2.0 * rng.uniform(0.6, 1.6))
            rows.append(((count + pause) / RATE, (count + pause + shown) / RATE, label))
            for i in range(shown):
                yield clip[i * len(clip) // shown]
            count, last = count + pause + shown, clip[-1]

    write_video(path, frames(), RATE, (112, 112))
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["start", "end", "label"])
        writer.writerows((f"{a:.6f}", f"{b:.6f}", label) for a, b, label in rows)


def scores_of(classifier: Classifier, path: Path) -> tuple[Scores, float]:
    """(Probabilities of all windows over a recording, its duration); kept beside it."""
    kept = path.with_suffix(".npz")
    windows = FileWindows(read_video(path), Grid.of(LENGTHS, HOP), classifier.clip_format)
    if not kept.exists():
        passes = scoring(classifier)
        items = (((x.first, x.stop), x.clip()) for x in windows)
        found = [(key, x[0].numpy()) for key, x in passes.by_item(items) if x is not None]
        np.savez(kept, keys=[key for key, _ in found], scores=[x for _, x in found])
    data = np.load(kept)
    return {
        (int(a), int(b)): x for (a, b), x in zip(data["keys"], data["scores"], strict=True)
    }, windows.seconds


def best_cut(
    scores: Scores,
    seconds: float,
    classes: Sequence[str],
    *,
    windows: Sequence[float] = (2.0,),
    hop: float = 0.5,
    nothing: float = NOTHING,
    join: bool = True,
    gain: Callable[[Sequence[float], float], float] = log_probability,
) -> list[Segment]:
    """The segments of `watch`, from probabilities that are there already."""
    grid, step = Grid.of(windows, hop), round(hop / HOP)
    segmenter, pieces = Segmenter(grid, nothing, join=join, gain=gain), []
    for stop in range(1, grid.last(seconds) + 1):
        for length in grid.lengths:
            row = scores.get(((stop - length) * step, stop * step))
            if row is not None:
                pieces += segmenter.add(stop - length, stop, row.tolist())
    pieces += segmenter.finish(grid.last(seconds))
    return [
        Segment(grid.seconds(x.first), min(seconds, grid.seconds(x.stop)), classes[x.label], x.probability)
        for x in pieces
    ]


def frame_labels(
    scores: Scores, seconds: float, classes: Sequence[str], *, how: str, least: float, hop: float = 0.5
) -> list[Segment]:
    """Segments of equal neighbours among labels of single moments, 24 a second.

    Args:
        how: "nearest": the window whose middle is nearest; "moving": the mean of the windows whose middles
            are within half a second; "covering": the mean of the windows that cover the moment.
        least: moments whose class has a smaller probability have none.
    """
    step, length = round(hop / HOP), round(2.0 / HOP)
    kept = {a * HOP: x for (a, b), x in scores.items() if b - a == length and a % step == 0}
    starts, rows = np.array([*kept]), np.stack([*kept.values()])
    moments = (np.arange(int(seconds * RATE)) + 0.5) / RATE
    distance = np.abs(starts + 1.0 - moments[:, None])
    nearest = distance == distance.min(1, keepdims=True)
    reach = {"nearest": 0.0, "moving": 0.5, "covering": 1.0}[how]
    weight = (nearest | (distance <= reach)).astype(float) if reach else nearest.astype(float)
    mean = weight @ rows / weight.sum(1, keepdims=True)
    labels = np.where(mean.max(1) >= least, mean.argmax(1), -1)
    cuts = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    return [
        Segment(a / RATE, b / RATE, classes[labels[a]], float(mean[a:b].max(1).mean()))
        for a, b in itertools.pairwise(cuts)
        if labels[a] >= 0
    ]


def true_cut(classifier: Classifier, path: Path, segment: Segment) -> tuple[str, str]:
    """(Predicted class, class) of a true segment, which is what a perfect cut would classify."""
    part = read_video(path, segment.start, segment.end)
    scores = classifier.probabilities(read_views(part, classifier.clip_format))[0]
    return classifier.classes[int(scores.argmax())], segment.label


def quality(result: Agreement) -> float:
    """The figure by which settings are chosen: the mean of average precision at three overlaps and of F1."""
    return float(np.mean([*result.precision.values(), result.f1]))


def margin(probabilities: Sequence[float], seconds: float) -> float:
    """A score of a window: how much more probable its class is than the next one, as a logarithm."""
    first, second = sorted(probabilities)[:-3:-1]
    return seconds * float(np.log(max(first - second, 1e-12)))


def by_piece(probabilities: Sequence[float], seconds: float) -> float:
    """A score of a window that does not grow with its length."""
    return float(np.log(max(probabilities)))


def with_price(probabilities: Sequence[float], seconds: float) -> float:
    """The score by the second, less a price for each piece."""
    return log_probability(probabilities, seconds) - 0.3


GAINS = {
    "log p by second": log_probability,
    "log p by piece": by_piece,
    "log margin by second": margin,
    "log p by second less 0.3": with_price,
}
COSTS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)
WINDOWS = ((2.0,), (1.0, 2.0), (2.0, 3.0), (1.0, 2.0, 3.0))
THRESHOLDS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)


def halves_of(demo: Path) -> list[list[tuple[Path, str]]]:
    """The test clips of the demo in two halves, as (file, class)."""
    data = read_data(demo / "clips")
    halves: list[list[tuple[Path, str]]] = [[], []]
    counts = dict.fromkeys(range(len(data.classes)), 0)
    for sample in data.splits["test"]:
        halves[counts[sample.label] % 2].append((Path(sample.path), data.classes[sample.label]))
        counts[sample.label] += 1
    return halves


def segments(demo: Path, folder: Path) -> None:
    """Choose on one recording, and print the table of the other."""
    classifier = load(demo / "ssp")
    classes, recordings = classifier.classes, []
    for number, clips in enumerate(halves_of(demo)):
        path = folder / f"half{number}.mp4"
        if not path.exists():
            make_recording(clips, path, number)
        scores, seconds = scores_of(classifier, path)
        truth = read_truth(path.with_suffix(".csv"), classes)
        recordings.append((scores, seconds, truth))
        print(f"{path.name}: {len(truth)} clips in {seconds:.0f} s, {len(scores)} windows", flush=True)

    def measured(which: int, method: Callable[..., list[Segment]], settings: dict) -> Agreement:
        scores, seconds, truth = recordings[which]
        return agreement(method(scores, seconds, classes, **settings), truth)

    def show(name: str, method: Callable[..., list[Segment]], choices: Sequence[dict]) -> dict:
        """The row of a method with the settings that are best on the first recording."""
        best = max(choices, key=lambda x: quality(measured(0, method, x)))
        first, second = measured(0, method, best), measured(1, method, best)
        figures = " | ".join(f"{100 * x:.1f}" for x in [*(second.precision[y] for y in OVERLAPS), second.f1])
        shown = {k: getattr(v, "__name__", v) for k, v in best.items()}
        print(
            f"| {name} | {figures} | {second.found} of {second.true} | {100 * quality(first):.1f} | {shown} |"
        )
        return best

    print("| method | mAP@0.3 | mAP@0.5 | mAP@0.7 | F1@0.5 | segments | first half, mean | chosen |")
    path = folder / "half1.mp4"
    known = [true_cut(classifier, path, x) for x in recordings[1][2]]
    print(f"accuracy on the true segments of {path.name}: {np.mean([a == b for a, b in known]):.3f}")
    for how in ("nearest", "moving", "covering"):
        choices = [{"how": how, "least": x, "hop": h} for x in THRESHOLDS for h in (0.25, 0.5)]
        show(how, frame_labels, choices)
    show("best cut, default settings", best_cut, [{}])
    show("best cut, default settings, not joined", best_cut, [{"join": False}])
    for hop in (0.25, 0.5):
        for windows in WINDOWS:
            for join in (True, False):
                fixed = {"windows": windows, "hop": hop, "join": join}
                name = f"best cut, {windows}, hop {hop}, {'joined' if join else 'not joined'}"
                show(name, best_cut, [{**fixed, "nothing": x} for x in COSTS])
    for name, gain in GAINS.items():
        choices = [
            {"windows": w, "hop": h, "nothing": x, "join": j, "gain": gain}
            for w in WINDOWS
            for h in (0.25, 0.5)
            for x in COSTS
            for j in (True, False)
        ]
        show(f"best cut, {name}", best_cut, choices)
    print("the cost of nothing, other settings as by default:")
    for nothing in COSTS:
        show(f"best cut, nothing {nothing}", best_cut, [{"nothing": nothing}])


def memory(demo: Path, minutes: int) -> None:
    """Watch a long recording and print the memory of the process while it is read."""
    import psutil

    rate = 25
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mp4"
        rows, columns = np.mgrid[0:112, 0:112]

        def frames() -> Iterator[np.ndarray]:
            for i in range(minutes * 60 * rate):
                grey = (128 + 100 * np.sin((rows + i) / 9) * np.cos(columns / 13)).astype(np.uint8)
                yield np.broadcast_to(grey[..., None], (112, 112, 3)).copy()

        write_video(path, frames(), rate, (112, 112))
        print(f"{path.stat().st_size / 1e6:.0f} MB, {minutes * 60 * rate:,} frames", flush=True)
        process, started = psutil.Process(), time.process_time()
        watcher = Watcher(load(demo / "ssp"), path, windows=[4.0], hop=4.0, nothing=100.0)
        first, told = 0.0, 0.0
        for segment in watcher:
            if segment.end - told >= 300:
                told = segment.end
                used = process.memory_info().rss / 1e6
                first = first or used
                spent = time.process_time() - started
                print(
                    f"{told / 60:.0f} min: {used:.0f} MB, {used - first:+.1f} MB, {spent:.0f} s CPU",
                    flush=True,
                )
        print(json.dumps(watcher.counts.__dict__))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["segments", "memory"])
    parser.add_argument("demo", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--minutes", type=int, default=60)
    args = parser.parse_args()
    if args.what == "memory":
        memory(args.demo, args.minutes)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        segments(args.demo, folder)


if __name__ == "__main__":
    main()
