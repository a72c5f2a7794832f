"""Steps of a training on the GPU without values of fake_gpu.py; a script, see there.

Prints, for each case, the faults of some steps as a JSON list of lists.
"""

import json
import sys
from unittest import mock

import torch
from accelerate import Accelerator
from fake_gpu import DEVICE, Watch, fake_gpu, move

from videossp.classifier import Classifier
from videossp.data.datasets import Sample, VideoDataset
from videossp.model.config import VideoMambaConfig
from videossp.system.progress import Messages
from videossp.training import loop as module
from videossp.training.batches import Batch, Share
from videossp.training.config import TrainConfig
from videossp.training.outcome import Outcome
from videossp.training.plan import make_plan, resolve

SIZE = 32
CLIPS = 4  # of a batch
STEPS = 2


def run(reads_each_step=False, precision="bf16", unfinished=False, **settings):
    """What some steps do that would make the CPU wait, and the products that are not in this precision.

    Args:
        reads_each_step: plant a fault: read the loss within the step.
        unfinished: clips are normalised and mirrored on the device.
    """
    config = VideoMambaConfig(depth=1, d_model=64, frames=2, size=(SIZE, SIZE), d_state=8)
    classifier = Classifier.create(config, classes=("a", "b"), method="ssp").to_precision(precision)
    samples = [Sample(f"/{i}", f"{i}", i % 2) for i in range(8 * CLIPS)]
    data = VideoDataset(("a", "b"), {"train": samples, "val": samples[:2]})
    accelerator = Accelerator(cpu=True)
    late = mock.patch.object(module, "reads_late", lambda device: device.type != "cpu")
    read = {"finite": property(lambda self: True), "total": property(lambda self: 1.0)}
    with fake_gpu(), late, mock.patch.multiple(Outcome, **read):
        move(classifier)
        made = resolve(TrainConfig(batch_size=CLIPS, lr=1e-3, **settings), classifier, DEVICE)
        plan = make_plan(data, ("a", "b"), made)
        loop = module.Loop(classifier, plan, made, accelerator, Messages(False))
        classifier.train()
        watch = Watch()
        for _ in range(STEPS):
            numbers = range(made.grad_accum_steps)
            share = Share([(i, [0]) for i in numbers], CLIPS * len(numbers))
            batches = [batch(unfinished) for _ in numbers]
            with watch:
                loop.one_step(0, share, iter(batches))
                if reads_each_step:
                    loop._pending.skip.cpu()
        assert loop.state.step == STEPS and loop.state.epoch_sums["clips"] == (STEPS - 1) * share.clips
    assert watch.operators["_fused_adamw_"] and watch.operators["selective_scan_backward"]
    return [f"{x}, {count} times" for x, count in watch.waits.items()]


def batch(unfinished):
    """A batch as a loader gives it."""
    labels, names = torch.zeros(CLIPS, dtype=torch.long), ["a"] * CLIPS
    if unfinished:
        images, flipped = torch.rand(CLIPS, 2, 3, SIZE, SIZE), torch.ones(CLIPS, dtype=torch.bool)
        return Batch(images, labels, names, {}, flipped)
    return Batch(torch.rand(CLIPS, 3, 2, SIZE, SIZE), labels, names, {})


if __name__ == "__main__":
    json.dump([run(**case) for case in json.load(sys.stdin)], sys.stdout)
