"""Mixup and CutMix against kornia and arithmetic, soft targets against PyTorch's label smoothing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from videossp.data.augment import mix, soft_targets


def seeded(seed=0):
    return np.random.default_rng(seed)


def batch(size=4, height=12, width=16):
    """Clips, and one-hot targets by clip, so that mixed targets are the weights of the clips."""
    clips = torch.randn(size, 3, 2, height, width, generator=torch.Generator().manual_seed(0))
    return clips, torch.eye(size)


def own_weight(targets):
    """The weight of a clip in its mixture, the same for all clips; the rest is its partner's."""
    weight = targets[0, 0].item()
    expected = weight * torch.eye(len(targets)) + (1 - weight) * torch.eye(len(targets)).flip(0)
    torch.testing.assert_close(targets, expected)
    return weight


def test_mixup_equals_kornia_with_the_same_weight():
    from kornia.augmentation import RandomMixUpV2

    clips, targets = batch()
    for seed in range(5):
        mixed, mixed_targets = mix(clips, targets, 0.8, 0, seeded(seed))
        weight = own_weight(mixed_targets)
        theirs, labels = RandomMixUpV2(data_keys=["input", "class"])(
            clips.flatten(1, 2),
            torch.arange(4),
            params={
                "batch_prob": torch.ones(4),
                "mixup_pairs": torch.tensor([3, 2, 1, 0]),
                "mixup_lambdas": torch.full((4,), 1 - weight),
            },
        )
        torch.testing.assert_close(mixed, theirs.view_as(mixed))
        label, partner, share = labels.T  # of kornia: the clip's label, its partner's, the partner's share
        torch.testing.assert_close(mixed_targets[range(4), partner.long()], share)
        torch.testing.assert_close(mixed_targets[range(4), label.long()], 1 - share)
        assert 0 < weight < 1


def taken(clips, mixed):
    """(top, left, bottom, right) of the partner's box, which must be the same in all clips and frames."""
    other = mixed != clips
    assert (other == other[:1, :1, :1]).all() and torch.equal(mixed[other], clips.flip(0)[other])
    rows, columns = other[0, 0, 0].any(1).nonzero().flatten(), other[0, 0, 0].any(0).nonzero().flatten()
    if len(rows) == 0:
        return 0, 0, 0, 0
    box = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
    assert other[0, 0, 0, box[0] : box[2], box[1] : box[3]].all()
    return box


def test_cutmix_equals_kornia_with_the_same_box_and_weighs_by_its_pixels():
    from kornia.augmentation import RandomCutMixV2

    clips, targets = batch()
    aug, seen = RandomCutMixV2(data_keys=["input", "class"], use_correct_lambda=True), set()
    for seed in range(20):
        mixed, mixed_targets = mix(clips, targets, 0, 1.0, seeded(seed))
        top, left, bottom, right = taken(clips, mixed)
        count = int((mixed[0] != clips[0]).sum()) / (3 * 2)
        assert own_weight(mixed_targets) == pytest.approx(1 - count / (12 * 16), abs=1e-6)
        seen.add(count)
        if count == 0:
            continue
        corners = [[left, top], [right - 1, top], [right - 1, bottom - 1], [left, bottom - 1]]
        theirs, labels = aug(
            clips.flatten(1, 2),
            torch.arange(4),
            params={
                "batch_prob": torch.ones(4),
                "mix_pairs": torch.tensor([[3, 2, 1, 0]]),
                "crop_src": torch.tensor(corners, dtype=torch.float32).expand(1, 4, 4, 2),
                "image_shape": torch.tensor([12.0, 16.0]),
            },
        )
        assert torch.equal(mixed, theirs.view_as(mixed))
        torch.testing.assert_close(mixed_targets[range(4), range(4)], labels[0, :, 2])
    assert len(seen) > 10


def test_the_weight_of_mixup_is_beta_distributed():
    clips, targets = batch(2, 1, 1)
    for alpha in (0.3, 0.8, 4.0):
        rng = seeded(1)
        weights = np.array([own_weight(mix(clips, targets, alpha, 0, rng)[1]) for _ in range(1500)])
        variance = 1 / (4 * (2 * alpha + 1))
        assert abs(weights.mean() - 0.5) < 4 * (variance / 1500) ** 0.5
        assert abs(weights.var() / variance - 1) < 0.12


def test_cutmix_boxes_have_the_area_of_the_weight_and_a_uniform_centre():
    """With alpha 1 the share s^2 of the uncut box is uniform; a side s around a centre that is uniform in
    [0, 1] keeps s - s^2 / 4 on average, so the mean area is E (s - s^2 / 4)^2 = 1/2 - 1/5 + 1/48."""
    clips, targets = batch(2, 60, 90)
    clips, rng, areas, middles = clips[:, :1, :1], seeded(2), [], []
    for _ in range(1200):
        mixed, mixed_targets = mix(clips, targets, 0, 1.0, rng)
        areas.append(1 - own_weight(mixed_targets))
        top, left, bottom, right = taken(clips, mixed)
        middles.append(((top + bottom) / 120, (left + right) / 180))
        if top > 0 and left > 0 and bottom < 60 and right < 90:  # uncut: the sides' ratio is the frame's
            assert abs((bottom - top) / 60 - (right - left) / 90) <= 0.5 / 60 + 0.5 / 90
    assert abs(np.mean(areas) - (1 / 2 - 1 / 5 + 1 / 48)) < 4 * np.std(areas) / 1200**0.5
    assert np.abs(np.mean(middles, axis=0) - 0.5).max() < 0.05 and np.std(middles, axis=0).min() > 0.1


def test_mixup_and_cutmix_take_half_of_the_batches_each():
    clips, targets = batch()
    rng, boxed = seeded(), 0
    for _ in range(400):
        mixed, _ = mix(clips, targets, 0.8, 1.0, rng)
        boxed += bool(((mixed == clips) | (mixed == clips.flip(0))).all())
    assert abs(boxed - 200) < 4 * 10


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0), (0, 1.0), (0.8, 1.0)])
def test_mixing_keeps_target_sums_and_input_and_depends_on_the_generator(mixup, cutmix):
    clips, _ = batch()
    targets = soft_targets(torch.tensor([0, 4, 2, 2]), 5, 0.1)
    before = clips.clone(), targets.clone()
    mixed, mixed_targets = mix(clips, targets, mixup, cutmix, seeded(7))
    assert torch.equal(clips, before[0]) and torch.equal(targets, before[1])
    assert mixed.dtype == clips.dtype and mixed_targets.dtype == targets.dtype
    torch.testing.assert_close(mixed_targets.sum(1), torch.ones(4))
    assert not torch.equal(mixed, clips) and not torch.equal(mixed_targets, targets)
    again, other = (
        mix(clips, targets, mixup, cutmix, seeded(7)),
        mix(clips, targets, mixup, cutmix, seeded(8)),
    )
    assert torch.equal(mixed, again[0]) and torch.equal(mixed_targets, again[1])
    assert not torch.equal(mixed, other[0])


def test_no_mixing_gives_the_same_batch_and_draws_nothing():
    clips, targets = batch()
    rng = seeded()
    mixed, mixed_targets = mix(clips, targets, 0, 0, rng)
    assert torch.equal(mixed, clips) and torch.equal(mixed_targets, targets)
    assert rng.random() == seeded().random()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_of_soft_targets_is_that_of_label_smoothing(smoothing):
    logits = torch.randn(6, 7, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 6, 3, 3, 1, 2])
    targets = soft_targets(labels, 7, smoothing)
    assert targets.shape == (6, 7) and targets.dtype == torch.float32
    torch.testing.assert_close(targets.sum(1), torch.ones(6))
    loss = -(targets * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, label_smoothing=smoothing))
    torch.testing.assert_close(F.cross_entropy(logits, targets), loss)
