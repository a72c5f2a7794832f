"""CPU time of two checkouts of this repository, interleaved in fresh processes: A B A B ...

    python benchmarks/compare_checkouts.py A B [--pairs 10] [--threads N]

A and B are folders that contain src/videossp; both run with this Python and its packages. Three pieces of
work are timed: a forward pass of videomamba_nano with SSP on 8 clips, a training step of it on 8 clips, and a
scan with its input gradients at the size of VideoMamba-M. Each process does every piece once to warm up, then
takes the median CPU time (user and system, all threads) of some repetitions.

The ratio of a pair is the CPU time of B over that of A. The script prints the geometric mean of the ratios
over all pairs and its 95 % interval (Student's t on the logarithms). An interval that contains 1.000 shows no
difference.

Each checkout first compiles its kernels into a temporary cache (about half a minute), because Numba's usual
cache does not notice a change in a module that a kernel imports. Set NUMBA_CACHE_DIR to use another one.
"""

import argparse
import itertools
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

# Explicit, because defaults may differ between checkouts.
OPTIONS = {"gather_width": 128, "spread_width": 88, "heads": 8}
REPETITIONS = {"forward": 7, "step": 4, "scan": 40}


def measure() -> dict[str, float]:
    """Median CPU seconds of a call of each piece of work, in this process, after a warm-up call.

    It uses the public interface only, which is the same in old checkouts.
    """
    from videossp import prepare_process

    prepare_process()  # before torch is loaded
    import torch

    from videossp import Classifier

    if threads := os.environ.get("COMPARE_THREADS"):
        torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    classifier = Classifier.create("videomamba_nano", num_classes=16, method="ssp", **OPTIONS)
    clips, labels = torch.randn(8, 3, 8, 96, 96), torch.arange(8)
    optimizer = torch.optim.AdamW((x for x in classifier.parameters() if x.requires_grad), lr=1e-4)

    def forward():
        with torch.inference_mode():
            classifier.eval()(clips)

    def step():
        loss = torch.nn.functional.cross_entropy(classifier.train()(clips), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    length, d_inner, d_state = 1593, 1152, 16
    u, delta = (torch.randn(1, length, d_inner) - shift for shift in (0, 3))
    B, C = (torch.randn(1, length, d_state) for _ in range(2))
    A = -torch.arange(1.0, d_state + 1).repeat(d_inner, 1)
    inputs = [x.requires_grad_() for x in (u, delta, B, C)]
    dy = torch.ones(1, length, d_inner)

    def scan():
        y, _ = torch.ops.videossp.selective_scan(
            u, delta, A, B, C, torch.ones(d_inner), None, None, False, True
        )
        torch.autograd.grad(y, inputs, dy)

    seconds = {}
    for work in (forward, step, scan):
        work()
        times = [cpu_time()]
        for _ in range(REPETITIONS[work.__name__]):
            work()
            times.append(cpu_time())
        seconds[work.__name__] = statistics.median(b - a for a, b in itertools.pairwise(times))
    return seconds


def cpu_time() -> float:
    """User and system seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure_checkout(root: Path, cache: Path | None, threads: int | None) -> dict[str, float]:
    """Run `measure` on the source of a checkout in a fresh process."""
    source = (root / "src").resolve()
    environment = os.environ | {"PYTHONPATH": str(source)}
    if threads:
        environment["COMPARE_THREADS"] = str(threads)
    if cache:
        environment["NUMBA_CACHE_DIR"] = str(cache)
    done = subprocess.run(
        [sys.executable, __file__, "--measure", str(source)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise SystemExit(f"{root}: the measurement failed: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def ratio(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of b / a over pairs, and its 95 % interval; one pair has no interval (NaN)."""
    from videossp.comparison.intervals import student

    logs = [math.log(y / x) for x, y in zip(a, b, strict=True)]
    low, high = student(logs) if len(logs) > 1 else (math.nan, math.nan)
    return math.exp(statistics.fmean(logs)), math.exp(low), math.exp(high)


def report(a: Sequence[Mapping[str, float]], b: Sequence[Mapping[str, float]]) -> str:
    """A line per piece of work."""
    lines = []
    for name in REPETITIONS:
        seconds = [[x[name] for x in side] for side in (a, b)]
        mean, low, high = ratio(*seconds)
        medians = "  ".join(
            f"{side} {1e3 * statistics.median(x):8.1f} ms" for side, x in zip("AB", seconds, strict=True)
        )
        interval = "no interval" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
        lines.append(f"{name:8} {medians}   B / A {mean:.3f} ({interval})")
    return "\n".join(lines)


def add_checkouts(parser: argparse.ArgumentParser) -> None:
    """Add the arguments A and B, two folders that must be checkouts."""

    def checkout(text: str) -> Path:
        if not Path(text, "src/videossp").is_dir():
            raise argparse.ArgumentTypeError(f"{text}: no src/videossp in it")
        return Path(text)

    parser.add_argument("a", type=checkout, metavar="A", help="checkout, the base of the ratio")
    parser.add_argument("b", type=checkout, metavar="B", help="checkout")


def main() -> None:
    """Print the ratio of the CPU times. Exit code: 2 if a folder is no checkout."""
    if sys.argv[1:2] == ["--measure"]:
        import videossp

        if Path(sys.argv[2]) not in Path(videossp.__file__).resolve().parents:
            sys.exit(f"this Python imports videossp from {videossp.__file__}")
        print(json.dumps(measure()))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_checkouts(parser)
    parser.add_argument("--pairs", type=int, default=10, help="default: 10")
    parser.add_argument("--threads", type=int, help="default: as many as torch takes")
    args = parser.parse_args()
    if args.pairs < 1:
        parser.error("--pairs must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        caches = [None if os.environ.get("NUMBA_CACHE_DIR") else Path(folder, side) for side in "AB"]
        checkouts = [*zip((args.a, args.b), caches, strict=True)]
        for root, cache in checkouts:
            measure_checkout(root, cache, args.threads)  # compiles the kernels
        sides: list[list[dict[str, float]]] = [[], []]
        for pair in range(args.pairs):
            for side, (root, cache) in zip(sides, checkouts, strict=True):
                side.append(measure_checkout(root, cache, args.threads))
            print(f"pair {pair + 1} of {args.pairs}", end="\r", file=sys.stderr, flush=True)
    print(f"CPU time of one call, medians of {args.pairs} pairs; ratio with its 95 % interval over pairs")
    print(report(*sides))


if __name__ == "__main__":
    main()
