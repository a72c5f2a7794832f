"""Time that the training loop takes besides the model, the loss, the backward pass and the optimiser.

    python benchmarks/overhead.py [--clips 64] [--epochs 2]

SSP on clips of 10 s, 340 x 256 (those of decode.py), 8 frames of 112 px, 8 clips a step, in a run folder with
checkpoints. Computing is the forward pass, loss, backward pass and AdamW. Waiting is for clips: decoded in
the training process (0 workers), or ahead of it in a worker process, which uses one of the cores meanwhile.
The rest is the loop: order, batches, checks for values that are not finite, sums, bar, checkpoints.
"""

import argparse
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

from videossp import prepare_process

prepare_process()  # before torch is loaded

import torch  # noqa: E402
from decode import encode  # noqa: E402

from videossp import Classifier, TrainConfig, train  # noqa: E402
from videossp.bench import format_seconds  # noqa: E402
from videossp.data.datasets import Sample, VideoDataset  # noqa: E402
from videossp.methods import published_options  # noqa: E402
from videossp.training.loop import Loop  # noqa: E402

spent = Counter()


def timed(owner, name, account):
    """Add the seconds of every call of a function to an account."""
    real = getattr(owner, name)

    def call(*args, **kwargs):
        started = time.perf_counter()
        try:
            return real(*args, **kwargs)
        finally:
            spent[account] += time.perf_counter() - started

    setattr(owner, name, call)


def measure(backbone, data, workers, epochs, out):
    """Print the parts of the time of a step."""
    options = published_options("ssp", {})  # of one size, as the recorded figures have it
    for count in (1, epochs):  # the first run compiles kernels and fills caches
        spent.clear()
        shutil.rmtree(out, ignore_errors=True)
        classifier = Classifier.create(backbone, classes=data.classes, weights="random", size=112, **options)
        run = train(classifier, data, TrainConfig(epochs=count, batch_size=8, workers=workers), out=out)
    steps = epochs * -(-len(data.splits["train"]) // 8)
    # Each epoch ends with two checkpoints, one before its validation and one after it.
    total, waited = spent["epochs"] + spent["checkpoints"], run.data_wait * run.seconds
    rest = total - spent["computing"] - waited
    print(
        f"{backbone:16} {workers} workers: step {format_seconds(total / steps):>8}, computing"
        f" {spent['computing'] / total:6.1%}, waiting {waited / total:6.1%}, loop {rest / total:6.2%}"
        f" (checkpoints {spent['checkpoints'] / total:.2%})",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=64, help="training clips per epoch")
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    for owner, name in ((Loop, "loss"), (torch.Tensor, "backward"), (torch.optim.AdamW, "step")):
        timed(owner, name, "computing")
    timed(Loop, "train_epoch", "epochs")
    timed(Loop, "save", "checkpoints")
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "0.mp4"
        encode(first, 256, 340, 250)
        paths = [first, *(shutil.copy(first, first.with_name(f"{i}.mp4")) for i in range(1, args.clips))]
        samples = [Sample(str(path), path.name, i % 2) for i, path in enumerate(paths)]
        data = VideoDataset(("a", "b"), {"train": samples, "val": samples[:2]})
        for backbone in ("videomamba_tiny", "videomamba_small"):
            for workers in (0, 1):
                measure(backbone, data, workers, args.epochs, Path(folder) / "run")


if __name__ == "__main__":
    main()
