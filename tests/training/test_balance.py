"""Classes of different sizes: weights and orders by arithmetic, and trainings that use them."""

import json
from collections import Counter
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from conftest import write_video
from videossp import Classifier, TrainConfig
from videossp.data.augment import mix, soft_targets
from videossp.data.clips import TrainClips
from videossp.data.datasets import Sample, VideoDataset
from videossp.data.sampling import ClipFormat
from videossp.inference.evaluate import Evaluation
from videossp.training.balance import balanced_order, class_weights
from videossp.training.batches import Batch, shares_of
from videossp.training.plan import make_plan
from videossp.training.settings import check_settings, without_free
from videossp.training.train import train
from videossp.training.train_step import TrainStep

SKEWED = [0] * 17 + [1] * 2 + [2] * 5


def order_of(labels, seed=0):
    return balanced_order(labels, torch.Generator().manual_seed(seed))


def test_weights_are_inverse_to_the_size_of_a_class_and_have_mean_1():
    weights = class_weights(SKEWED, 4)
    assert weights.tolist() == pytest.approx([24 / (3 * 17), 24 / (3 * 2), 24 / (3 * 5), 0])
    assert weights[SKEWED].mean() == pytest.approx(1)
    sums = [weights[i] * SKEWED.count(i) for i in range(3)]
    assert sums == pytest.approx([8, 8, 8])


@pytest.mark.parametrize("labels", [SKEWED, [0, 0, 0, 1], [0, 1, 2], [3] * 5, [0] * 50 + [1]])
def test_all_classes_have_equal_parts_of_an_epoch_and_no_video_is_used_much_more_than_another(labels):
    count = len(labels)
    order = order_of(labels)
    assert len(order) == count and len(set(order)) == count
    sizes = Counter(labels[i % count] for i in order)
    assert max(sizes.values()) - min(sizes.values()) <= 1 and sizes.keys() == set(labels)
    for label in sizes:
        own = [i for i, x in enumerate(labels) if x == label]
        uses = Counter(i % count for i in order)
        assert max(uses[i] for i in own) - min(uses[i] for i in own) <= 1
    for i in order:  # a use follows all earlier ones
        assert i < count or i - count in order


def test_the_order_depends_on_the_seed_alone_and_takes_other_videos_of_a_large_class_each_time():
    assert order_of(SKEWED) == order_of(SKEWED) != order_of(SKEWED, 1)
    used = {i for seed in range(20) for i in order_of(SKEWED, seed) if i < 17}
    assert used == set(range(17))


def test_every_use_of_a_video_has_another_augmentation(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (6, 40, 48, 3)).astype(np.uint8)
    write_video(tmp_path / "a.mp4", frames)
    samples = [Sample(str(tmp_path / "a.mp4"), "a", 1)]
    clips = TrainClips(samples, ClipFormat(2, (32, 32)), crop_scale=(0.5, 1), flip=False, seed=0)
    first, second, again = clips[0], clips[1], clips[1]
    assert first[1:] == second[1:] == (1, "a", "")
    assert not torch.equal(first[0], second[0]) and torch.equal(second[0], again[0])


def plan_of(labels, config):
    classes = [str(i) for i in range(max(labels) + 1)]
    samples = [Sample(f"/{i}", f"{i}", x) for i, x in enumerate(labels)]
    return make_plan(VideoDataset(classes, {"train": samples, "val": samples}), classes, config)


def test_the_sampler_decides_the_videos_of_the_steps_of_all_processes():
    config = TrainConfig(balance="sampler", batch_size=3, lr=0.1)
    plan = plan_of(SKEWED, config)
    for processes in (1, 2):
        shares = [shares_of(1, plan, config, rank, processes) for rank in range(processes)]
        items = [i for share in shares for step in share for _, batch in step.batches for i in batch]
        assert sorted(items) == sorted(
            balanced_order(SKEWED, torch.Generator().manual_seed(config.seed * 100_003 + 1))
        )


def step_of(classifier, config, labels):
    state = SimpleNamespace(optimizer=SimpleNamespace(param_groups=[{"lr": 0.1}]), step=3)
    return TrainStep(classifier, plan_of(labels, config), config, state, None, False)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_weighted_loss_is_the_weighted_mean_over_the_clips(small_classifier, smoothing):
    config = TrainConfig(balance="loss", label_smoothing=smoothing, lr=0.1)
    sizes = small_classifier.backbone.config
    clips, labels = torch.randn(4, 3, sizes.frames, *sizes.size), torch.tensor([0, 2, 1, 2])
    step = step_of(small_classifier, config, SKEWED)
    small_classifier.eval()
    loss = step.loss(Batch(clips, labels, [], {}), 0)
    logits = small_classifier(clips)
    weights = [24 / (3 * n) for n in (17, 5, 2, 5)]
    wanted = 0.0
    for one, label, weight in zip(logits, labels, weights, strict=True):
        wanted += weight * F.cross_entropy(one, label, label_smoothing=smoothing) / 4
    torch.testing.assert_close(loss, wanted)


def test_a_mixed_clip_has_the_mixed_weight(small_classifier):
    config = TrainConfig(balance="loss", mixup=0.4, lr=0.1)
    sizes = small_classifier.backbone.config
    clips, labels = torch.randn(2, 3, sizes.frames, *sizes.size), torch.tensor([0, 1])
    small_classifier.eval()
    loss = step_of(small_classifier, config, SKEWED).loss(Batch(clips, labels, [], {}), 0)
    rng = np.random.default_rng((config.seed, 3, 0, 1))
    mixed, targets = mix(clips, soft_targets(labels, 3, 0.1), 0.4, 0.0, rng)
    rng = np.random.default_rng((config.seed, 3, 0, 1))
    _, weights = mix(clips, torch.tensor([[24 / 51], [24 / 6]]), 0.4, 0.0, rng)
    losses = -(targets * small_classifier(mixed).log_softmax(1)).sum(1)
    torch.testing.assert_close(loss, (weights[:, 0] * losses).mean())


@pytest.fixture(scope="module")
def skewed_folder(tmp_path_factory):
    """Twelve bright clips and two dark ones to train, and four and four to test."""
    root, rng = tmp_path_factory.mktemp("skewed"), np.random.default_rng(0)
    for split, counts in (("train", (12, 2)), ("test", (4, 4))):
        for name, level, count in zip(("bright", "dark"), (200, 50), counts, strict=True):
            for i in range(count):
                frames = rng.normal(level, 20, (6, 40, 48, 3)).clip(0, 255).astype(np.uint8)
                write_video(root / split / name / f"{i}.mp4", frames)
    return root


@pytest.mark.parametrize("settings", [{"balance": "sampler"}, {"balance": "loss"}])
@pytest.mark.parametrize("cached", [0, 2])
def test_trainings_with_a_balance_can_be_interrupted_and_resumed(
    settings, cached, skewed_folder, small_backbone, tmp_path
):
    config = TrainConfig(
        epochs=3, batch_size=4, lr=1e-2, fixed_augmentations=cached, features=str(tmp_path / "f"), **settings
    )
    classifiers = [
        Classifier.create(small_backbone, classes=["bright", "dark"], method="linear") for _ in range(2)
    ]
    run = train(classifiers[0], skewed_folder, config)
    with pytest.MonkeyPatch.context() as patch:
        from videossp.training.loop import Loop

        end = Loop.end_epoch

        def interrupted(self, epoch, stop):
            end(self, epoch, stop)
            if epoch == 1:
                raise KeyboardInterrupt

        patch.setattr(Loop, "end_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(classifiers[1], skewed_folder, config, out=tmp_path / "run")
    again = train(classifiers[1], skewed_folder, config, out=tmp_path / "run", resume=True)
    assert [row["loss"] for row in again.history] == [row["loss"] for row in run.history]
    assert torch.equal(classifiers[0].head.linear.weight, classifiers[1].head.linear.weight)


def test_the_plan_tells_of_skewed_classes_and_of_classes_with_little_validation():
    labels = [0] * 30 + [1] * 3
    notes = {x: plan_of(labels, TrainConfig(lr=0.1, balance=x)).notes for x in ("none", "loss", "sampler")}
    for name, text in (
        ("none", "from 3 (1) to 30 (0); --balance sampler or loss counts each class the same"),
        ("loss", "from 3 (1) to 30 (0); the loss has weights from 0.1 to 1 times that of the smallest class"),
        ("sampler", "from 3 (1) to 30 (0); each class takes an equal part of every epoch"),
    ):
        assert f"training videos of a class: {text}" in notes[name]
        assert "fewer than 5 validation videos, too few to measure a class: 1" in notes[name]
    even = plan_of([0] * 9 + [1] * 9, TrainConfig(lr=0.1)).notes
    assert not [x for x in even if "videos of a class" in x or "too few" in x]


def test_macro_f1_and_recall_count_failed_videos_as_missed():
    samples = tuple(Sample(f"/{i}", f"v{i}", i // 3) for i in range(6))
    top = [0.9, 0.8, 0, 0.6, 0.1, 0.2]  # of class a; v2 failed
    scores = torch.tensor([[x, 1 - x if i != 2 else 0, 0] for i, x in enumerate(top)])
    result = Evaluation(("a", "b", "c"), samples, scores[:, None], {"v2": "damaged"}, (1, 1))
    assert result.class_accuracy[:2].tolist() == pytest.approx([2 / 3, 2 / 3])
    # a: precision 2/3, recall 2/3; b: precision 2/2, recall 2/3; c has no videos
    assert result.macro_f1 == pytest.approx((2 / 3 + 2 * 1 * (2 / 3) / (1 + 2 / 3)) / 2)
    assert result.summary()["macro_f1"] == pytest.approx(result.macro_f1)


def test_a_checkpoint_without_a_newer_setting_had_its_default(tmp_path):
    settings = {"method": "linear", "options": {}, "device_kind": "cpu"}
    current = settings | json.loads(json.dumps(without_free(asdict(TrainConfig(precision="float32")))))
    saved = {name: x for name, x in current.items() if name != "balance"}
    assert check_settings(tmp_path, saved, current) == ""
    with pytest.raises(ValueError, match='balance: "none" before, "loss" now'):
        check_settings(tmp_path, saved, current | {"balance": "loss"})
