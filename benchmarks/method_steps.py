"""Time a training step of methods on one core, in turn, on the bundled backbone: CPU time in ms a clip.

    python benchmarks/method_steps.py [METHOD ...] [--rounds 4]

METHOD may have options: gather_spread,rank=12,layers=8. The figure is the least over the rounds, for batches
of 8 clips of 8 frames of 96 px, without decoding.
"""

import argparse
import time

from videossp import prepare_process

prepare_process()  # before torch is loaded

import torch  # noqa: E402

from videossp import Classifier  # noqa: E402

DEFAULT = (
    *("linear", "moments", "ssp", "gather_spread", "gather_spread,rank=12,layers=8"),
    *("st_adapter+moments", "lora+moments"),
)
BATCH, CLASSES = 8, 10


def step_seconds(asked: str, clips: torch.Tensor) -> float:
    """CPU seconds of a forward and a backward pass, the second of two."""
    method, *options = asked.split(",")
    sizes = {name: int(value) for name, value in (x.split("=") for x in options)}
    classifier = Classifier.create(num_classes=CLASSES, method=method, **sizes).train()
    for _ in range(2):
        started = time.process_time()
        torch.nn.functional.cross_entropy(classifier(clips), torch.arange(BATCH)).backward()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", default=DEFAULT)
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    clips = torch.rand(BATCH, 3, 8, 96, 96)
    times: dict[str, list[float]] = {x: [] for x in args.methods}
    for _ in range(args.rounds):
        for asked, known in times.items():
            known.append(step_seconds(asked, clips))
    for asked, known in times.items():
        print(f"{asked:32} {1000 * min(known) / BATCH:.0f} ms")


if __name__ == "__main__":
    main()
