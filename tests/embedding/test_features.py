"""The definitions of the features, against loops over frames and patches."""

import math

import pytest
import torch

from conftest import SMALL
from videossp.classifier import Classifier
from videossp.embedding.features import check_kind, features_of
from videossp.model.videomamba import VideoMamba


def final_tokens(classifier, clips):
    """The tokens (batch, length, d_model) after the last block of the frozen backbone: both streams."""
    tokens = VideoMamba.encode(classifier.backbone, clips)
    return tokens.residual + tokens.hidden


def unit_rms(x):
    return x / math.sqrt(x.square().mean().item() + 1e-5)


@pytest.fixture
def linear(small_backbone):
    classifier = Classifier.create(small_backbone, classes=["a", "b"], method="linear").eval()
    with torch.no_grad():
        classifier.head.norm.weight.uniform_(0.5, 2)
    return classifier


@pytest.fixture
def clips():
    torch.manual_seed(0)
    return torch.randn(2, 3, SMALL.frames, *SMALL.size)


@torch.no_grad()
def test_the_features_are_their_definitions(linear, clips):
    x = final_tokens(linear, clips)
    (rows, columns), frames = SMALL.grid, SMALL.frames
    cls = torch.stack([unit_rms(y[0]) * linear.head.norm.weight for y in x])
    means = torch.zeros(2, frames, SMALL.d_model)
    for i in range(2):
        for t in range(frames):
            for p in range(rows * columns):
                means[i, t] += unit_rms(x[i, 1 + t * rows * columns + p]) / (rows * columns)
    moments = []
    for k in range(min(4, frames)):
        phi = [
            1.0 if k == 0 else math.sqrt(2) * math.cos(math.pi * k * (t + 0.5) / frames)
            for t in range(frames)
        ]
        moments.append(sum(phi[t] * means[:, t] for t in range(frames)) / frames)
    for kind, expected in (("cls", cls), ("mean", moments[0]), ("moments", torch.cat(moments, 1))):
        found = features_of(linear, clips, kind)
        assert found.dtype == torch.float32 and found.shape == expected.shape
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(features_of(linear, clips, "cls"), linear.features(clips))


@torch.no_grad()
def test_a_tuned_model_has_other_features_and_a_disabled_one_those_of_the_backbone(small_classifier, clips):
    classifier = small_classifier.eval()
    frozen = Classifier.create("videomamba_small_test", classes=["a", "b"], method="linear").eval()
    for kind in ("mean", "moments"):
        tuned = features_of(classifier, clips, kind)
        assert (tuned - features_of(frozen, clips, kind)).abs().max() > 1e-3
        with classifier.disable_adapter():
            torch.testing.assert_close(features_of(classifier, clips, kind), features_of(frozen, clips, kind))


def test_unknown_features_are_refused():
    with pytest.raises(ValueError, match="features are cls, mean, moments, got 'patches'"):
        check_kind("patches")
