"""Time a forward pass of VideoMamba-M with SSP on one clip, float32, beside its matrix products alone.

    python benchmarks/forward.py [--backbone videomamba_middle] [--repeats 5]

prints the median and minimum in seconds. The products are those of the four projections of every
block, of the same shapes, into outputs allocated before, in the same run.
"""

import argparse
import statistics
import time

import torch

from videossp.classifier import Classifier


def timed(work, repeats):
    """(median, minimum) seconds of `work`, after one call to warm up."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="videomamba_middle")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    classifier = Classifier.create(args.backbone, num_classes=51).eval()
    spec = classifier.backbone.spec
    clip = torch.randn(1, 3, spec.frames, *spec.size)
    tokens = 1 + spec.frames * (spec.grid[0] * spec.grid[1] + classifier.tuner.prompts)
    products = []
    for op in ("in_proj", "x_proj", "x_proj", "dt_proj", "dt_proj", "out_proj"):
        width_in, width_out = spec.width(op)
        shapes = (tokens, width_in), (width_in, width_out), (tokens, width_out)
        products.append([torch.randn(shape) for shape in shapes])

    def multiply():
        for _ in range(spec.depth):
            for x, weight, out in products:
                torch.mm(x, weight, out=out)

    with torch.inference_mode():
        whole = timed(lambda: classifier(clip), args.repeats)
        floor = timed(multiply, args.repeats)
    print(f"{args.backbone} + ssp, {tokens} tokens, {torch.get_num_threads()} threads, float32")
    print(f"forward            {whole[0]:.2f} s (minimum {whole[1]:.2f} s)")
    print(f"its products alone {floor[0]:.2f} s (minimum {floor[1]:.2f} s)")
    print(f"ratio              {whole[0] / floor[0]:.2f}")


if __name__ == "__main__":
    main()
