"""Prediction of many videos: clips per second against another checkout, memory, and several adapters at once.

    python benchmarks/predict.py speed OLD NEW [--clips 500] [--pairs 5]
    python benchmarks/predict.py memory [--clips 500] [--times 10]
    python benchmarks/predict.py adapters [--clips 200]

The clips (2 s, 112 x 112 pixels, H.264) and an adapter of videomamba_nano with SSP are made in a temporary
folder. OLD and NEW are checkouts, whose commands `videossp predict ADAPTER FOLDER` run in turn: A B B A ...
The figures include the start of the program. `memory` prints the resident memory of the program and of its
workers after the first clips and at the end. `adapters` compares several adapters at once with one run each.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

SECONDS, RATE, SIZE = 2, 25, 112


def make_clips(folder: Path, count: int) -> None:
    """Videos of a square that moves over a background; all different."""
    folder.mkdir()
    for i in range(count):
        random = np.random.default_rng(i)
        background = random.integers(0, 256, (14, 14, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        speed, colour = random.integers(-4, 5, 2), random.integers(0, 256, 3)
        with av.open(str(folder / f"{i:05}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(RATE))
            stream.width = stream.height = SIZE
            stream.pix_fmt = "yuv420p"
            for t in range(SECONDS * RATE):
                image = background.copy()
                y, x = (40 + t * speed) % (SIZE - 30)
                image[y : y + 30, x : x + 30] = colour
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())


def make_adapter(folder: Path, method: str = "ssp") -> Path:
    """An adapter of the bundled backbone whose weights are drawn, not trained."""
    from videossp import Classifier

    classifier = Classifier.create("videomamba_nano", classes=list("abcdef"), method=method)
    torch.manual_seed(0)
    with torch.no_grad():
        for x in classifier.trainable().values():
            x.add_(0.02 * torch.randn_like(x))
    classifier.save(folder)
    return folder


def command(checkout: Path, *arguments: object) -> tuple[list[str], dict[str, str]]:
    """`videossp predict` of a checkout, and its environment."""
    line = [sys.executable, "-m", "videossp", "predict", *map(str, arguments)]
    return line, {**os.environ, "PYTHONPATH": str(checkout / "src")}


def seconds(checkout: Path, *arguments: object) -> float:
    """Wall time of a command."""
    line, environment = command(checkout, *arguments)
    started = time.perf_counter()
    subprocess.run(line, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def interval(ratios: Sequence[float]) -> str:
    """Geometric mean of ratios, with the smallest and the largest."""
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    return f"{mean:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def compare_speed(old: Path, new: Path, clips: Path, adapter: Path, pairs: int) -> None:
    """Print clips per second of both checkouts, and the ratio."""
    count = len(list(clips.iterdir()))
    few = clips.parent / "few"
    few.mkdir()
    (few / "0.mp4").symlink_to(next(clips.iterdir()))
    for checkout in (old, new):
        seconds(checkout, adapter, few)  # compiles the kernels
    ratios = []
    for i in range(pairs):
        found = {}
        for checkout in (old, new) if i % 2 == 0 else (new, old):
            found[checkout] = seconds(checkout, adapter, clips)
        ratios.append(found[old] / found[new])
        print(
            f"old {count / found[old]:.1f} clips/s, new {count / found[new]:.1f}, ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"clips per second, new / old: {interval(ratios)} over {pairs} pairs")


def tree_memory(pid: int) -> dict[str, float]:
    """Resident memory in MB: of a process, and the sum of its descendants' own pages."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        parents[int(status.parent.name)] = int(text.split("PPid:")[1].split()[0])
    below = [pid]
    for process in below:
        below += [child for child, parent in parents.items() if parent == process]
    own = {}
    for process in below:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        own[process] = sum(int(x.split()[1]) for x in lines if x.startswith(("Private_", "Pss_Dirty"))) / 1024
    rss = int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024
    return {"program": rss, "workers": sum(x for process, x in own.items() if process != pid)}


def watch_memory(clips: Path, adapter: Path, times: int, folder: Path) -> None:
    """Print the memory while links to the clips are predicted."""
    many = folder / "many"
    many.mkdir()
    names = sorted(clips.iterdir())
    for i in range(times):
        for x in names:
            (many / f"{i:02}-{x.name}").symlink_to(x)
    output = folder / "rows.jsonl"
    checkout = Path(__file__).parents[1]
    line, environment = command(checkout, adapter, many, "--output", output)
    found = []
    with subprocess.Popen(line, env=environment) as process:
        wanted = len(names)
        while process.poll() is None:
            time.sleep(0.2)
            rows = output.read_bytes().count(b"\n") if output.exists() else 0
            if rows >= wanted:
                found.append((rows, tree_memory(process.pid)))
                print(rows, json.dumps(found[-1][1]), flush=True)
                wanted += len(names)
    for name in ("program", "workers"):
        values = [x[name] for _, x in found]
        print(f"{name}: {values[0]:.0f} MB after {found[0][0]} clips, largest later {max(values):.0f} MB")


def compare_adapters(clips: Path, folder: Path) -> None:
    """Print the time of several adapters at once, and of one run for each."""
    checkout = Path(__file__).parents[1]
    every = ("linear", "mean", "attentive", "st_adapter", "lora", "ssp")
    made = {x: make_adapter(folder / x, x) for x in every}
    for methods in (("linear", "mean", "attentive"), ("linear", "st_adapter"), ("ssp", "lora"), every):
        alone = [seconds(checkout, made[x], clips) for x in methods]
        flags = [y for x in methods for y in ("--adapter", made[x])]
        together = seconds(checkout, *flags, clips)
        print(
            f"{', '.join(methods)}: {together:.1f} s together, {sum(alone):.1f} s alone, "
            f"ratio {together / sum(alone):.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=["speed", "memory", "adapters"])
    parser.add_argument("checkouts", type=Path, nargs="*")
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--times", type=int, default=10)
    args = parser.parse_args()
    if len(args.checkouts) != 2 * (args.part == "speed"):
        parser.error("speed needs two checkouts, the other parts none")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = folder / "clips"
        make_clips(clips, args.clips)
        if args.part == "speed":
            compare_speed(*args.checkouts, clips, make_adapter(folder / "adapter"), args.pairs)
        elif args.part == "memory":
            watch_memory(clips, make_adapter(folder / "adapter"), args.times, folder)
        else:
            compare_adapters(clips, folder)


if __name__ == "__main__":
    main()
