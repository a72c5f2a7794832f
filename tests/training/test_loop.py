"""What a step does: averages, clipping, precision, batches by number, trackers."""

import pytest
import torch

import videossp
from conftest import SSP_SMALL
from videossp.classifier import Classifier
from videossp.data.datasets import Sample, VideoDataset
from videossp.training.batches import epoch_order, shares_of
from videossp.training.config import TrainConfig
from videossp.training.loop import Loop
from videossp.training.plan import make_plan
from videossp.training.train import train

CONFIG = TrainConfig(epochs=2, batch_size=4, lr=1e-2, seed=1)


def make(backbone):
    return Classifier.create(backbone, classes=["bright", "dark"], **SSP_SMALL)


def after_each_step(monkeypatch):
    """The tuned tensors before the first step and after each, and the gradients that the optimiser saw."""
    weights, norms = [], []
    real = torch.optim.AdamW.step

    def step(self, *args):
        every = [x for group in self.param_groups for x in group["params"]]
        if not weights:
            weights.append([x.detach().clone() for x in every])
        norms.append(torch.stack([x.grad.norm() for x in every if x.grad is not None]).norm().item())
        real(self, *args)
        weights.append([x.detach().clone() for x in every])

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    return weights, norms


def test_the_moving_average_is_what_is_validated_and_kept(
    small_backbone, class_folder, tmp_path, monkeypatch
):
    weights, _ = after_each_step(monkeypatch)
    classifier = make(small_backbone)
    names = {id(x): name for name, x in classifier.trainable().items()}
    order, real = [], Loop.__init__

    def init(self, *args):
        real(self, *args)
        order.extend(names[id(x)] for group in self.state.optimizer.param_groups for x in group["params"])

    monkeypatch.setattr(Loop, "__init__", init)
    config = TrainConfig(**CONFIG.__dict__ | {"ema_decay": 0.8, "epochs": 1})
    train(classifier, class_folder, config, out=tmp_path / "run")
    average = weights[0]
    for step in weights[1:]:
        average = [0.8 * a + 0.2 * x for a, x in zip(average, step, strict=True)]
    kept = videossp.load(tmp_path / "run").trainable()
    for name, x in zip(order, average, strict=True):
        torch.testing.assert_close(kept[name].detach(), x, rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(x, y) for x, y in zip(average, weights[-1], strict=True))


def test_the_gradient_is_clipped_to_the_norm(small_backbone, class_folder, monkeypatch):
    _, norms = after_each_step(monkeypatch)
    train(make(small_backbone), class_folder, CONFIG)
    free = list(norms)
    norms.clear()
    bound = min(free) / 2
    train(make(small_backbone), class_folder, TrainConfig(**CONFIG.__dict__ | {"max_grad_norm": bound}))
    assert max(norms) <= bound * 1.0001 and min(norms) > bound * 0.99


def test_training_in_bfloat16_learns_and_its_adapter_serves_float32(small_backbone, class_folder, tmp_path):
    config = TrainConfig(**CONFIG.__dict__ | {"precision": "bf16", "epochs": 3})
    run = train(make(small_backbone), class_folder, config, out=tmp_path / "run")
    assert run.best["val_top1"] == 1.0
    samples = videossp.data.datasets.read_data(class_folder).splits["test"]
    assert videossp.evaluate(videossp.load(tmp_path / "run"), samples).top(1) == 1.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_tracker_gets_the_figures_of_each_epoch(small_backbone, class_folder, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = TrainConfig(**CONFIG.__dict__ | {"trackers": ("tensorboard",)})
    run = train(make(small_backbone), class_folder, config, out=tmp_path / "run")
    files = list((tmp_path / "run").rglob("events.out.tfevents.*"))
    read = [EventAccumulator(str(x)).Reload() for x in files]
    holders = [x for x in read if "val_loss" in x.Tags()["scalars"]]
    found = [(x.step, x.value) for x in holders[0].Scalars("val_loss")]
    assert [step for step, _ in found] == [1, 2]
    assert [x for _, x in found] == pytest.approx([row["val_loss"] for row in run.history])


@pytest.mark.parametrize("videos", [7, 16, 33])
@pytest.mark.parametrize(("processes", "grad_accum_steps"), [(1, 6), (2, 3), (3, 2), (6, 1)])
def test_batch_numbers_do_not_depend_on_number_of_processes(videos, processes, grad_accum_steps):
    """Together the processes have every video of the epoch once, in the batches of one process."""
    samples = [Sample(f"/{i}", f"{i}", i % 2) for i in range(videos)]
    data = VideoDataset(("a", "b"), {"train": samples, "val": samples[:2]})
    config = TrainConfig(lr=1e-3, batch_size=2, grad_accum_steps=grad_accum_steps, num_sample=3)
    plan = make_plan(data, ("a", "b"), config, processes)
    shares = [shares_of(1, plan, config, rank, processes) for rank in range(processes)]
    order = epoch_order(videos, 0, 1)
    for step in range(plan.steps_per_epoch):
        batches = dict(x for own in shares for x in own[step].batches)
        part = order[12 * step : 12 * (step + 1)]
        assert [i for number in sorted(batches) for i in batches[number]] == part
        assert {own[step].clips for own in shares} == {3 * len(part)}
    assert sorted(order) == list(range(videos)) and order != epoch_order(videos, 0, 2)
