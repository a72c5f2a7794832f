"""Features that are kept: the numbers of a run that computes them anew, made once, never out of date."""

import os

import numpy as np
import pytest
import torch

from conftest import write_video
from videossp.classifier import Classifier
from videossp.data.clips import EvalViews, TrainClips
from videossp.data.datasets import read_data
from videossp.methods import METHODS
from videossp.system.progress import Messages
from videossp.training.config import TrainConfig
from videossp.training.feature_cache import FeatureCache
from videossp.training.train import train

CONFIG = TrainConfig(epochs=4, batch_size=4, lr=1e-2, fixed_augmentations=2, num_sample=2)


def make(backbone, method="linear", **options):
    return Classifier.create(backbone, classes=["bright", "dark"], method=method, **options)


def features_in(folder, **change):
    return TrainConfig(**CONFIG.__dict__ | {"features": str(folder)} | change)


def count_clips(monkeypatch):
    """How many clips go through the backbone."""
    seen, real = [], Classifier.frozen
    monkeypatch.setattr(Classifier, "frozen", lambda self, x: (seen.append(len(x)), real(self, x))[1])
    return seen


@pytest.mark.parametrize(("method", "options"), [("linear", {}), ("mean", {}), ("attentive", {"heads": 4})])
def test_training_on_kept_features_is_training_on_clips(
    small_backbone, class_folder, tmp_path, monkeypatch, method, options
):
    """The same two augmentations of each video in turn; the second pass over them is from the disk."""
    seen = count_clips(monkeypatch)
    kept = train(make(small_backbone, method, **options), class_folder, features_in(tmp_path))
    assert sum(seen) == 2 * 2 * 12 + 4  # draws, clips of each video, and validation
    monkeypatch.setattr("videossp.training.loop.FeatureCache.of", lambda self, clips, *rest: clips)
    fresh = train(make(small_backbone, method, **options), class_folder, features_in(tmp_path))
    for row, wanted in zip(kept.history, fresh.history, strict=True):
        assert row["loss"] == pytest.approx(wanted["loss"], rel=1e-4)
        assert row["val_loss"] == pytest.approx(wanted["val_loss"], rel=1e-4)


def test_a_second_run_computes_nothing_and_gives_the_same(
    small_backbone, class_folder, tmp_path, monkeypatch
):
    first = train(make(small_backbone), class_folder, features_in(tmp_path))
    seen = count_clips(monkeypatch)
    second = train(make(small_backbone), class_folder, features_in(tmp_path))
    assert not seen
    assert [row["val_loss"] for row in first.history] == [row["val_loss"] for row in second.history]
    train(make(small_backbone), class_folder, features_in(tmp_path, lr=0.1, epochs=1))
    assert not seen  # the learning rate changes no feature
    train(make(small_backbone), class_folder, features_in(tmp_path, seed=5, epochs=1))
    assert seen  # the seed does


@pytest.fixture
def sample(tmp_path):
    for name, level in (("a", 100), ("b", 200)):
        write_video(tmp_path / "data" / name / "0.mp4", np.full((6, 32, 32, 3), level, np.uint8))
    return read_data(tmp_path / "data").splits["train"][0]


def test_whatever_features_depend_on_makes_them_anew(small_backbone, sample, tmp_path, monkeypatch):
    clip_format = make(small_backbone).clip_format

    def files(clips=None, **options):
        cache = FeatureCache(make(small_backbone, **options), tmp_path / "cache", Messages(False))
        return cache.of(clips or EvalViews([sample], clip_format, 1, 1)).files

    def clips(**change):
        return TrainClips(
            [sample],
            clip_format,
            **{"crop_scale": (0.5, 1.0), "flip": True, "seed": 0, "fixed_augmentations": 3} | change,
        )

    first = files()
    assert files() == first and files(seed=1) != first
    assert files(EvalViews([sample], clip_format, 2, 1)) != first
    assert files(method="attentive", heads=4) != first
    changes = ({}, {"crop_scale": (0.4, 1.0)}, {"flip": False}, {"seed": 1}, {"erasing": 0.5})
    found = [files(clips(**x)) for x in changes]
    again = clips()
    again.epoch = 1
    found.append(files(again))
    assert len({str(x) for x in [first, *found]}) == 7
    again.epoch = 3  # the first of the three draws again
    assert files(again) == found[0]
    os.utime(sample.path, (1, 1))  # the video has changed
    assert files() != first
    changed = files()
    monkeypatch.setattr("videossp.training.feature_cache.versions", lambda: {"av": "0.1"})
    assert files() != changed


def test_processes_that_look_at_different_moments_leave_nothing_out(small_backbone, class_folder, tmp_path):
    samples = read_data(class_folder).splits["train"]
    views = EvalViews(samples, make(small_backbone).clip_format, 1, 1)
    for rank in (0, 1):  # the second looks when the first has done its share
        cache = FeatureCache(make(small_backbone), tmp_path / "cache", Messages(False))
        files = cache.of(views, rank, 2).files
    assert len(files) == 16 and all(x.is_file() for x in files)


def test_a_video_that_cannot_be_decoded_is_told_as_ever(small_backbone, sample, tmp_path):
    with open(sample.path, "wb") as file:
        file.write(b"no video")
    cache = FeatureCache(make(small_backbone), tmp_path / "cache", Messages(False))
    x, reason = cache.of(EvalViews([sample], make(small_backbone).clip_format, 1, 1))[0]
    assert x is None and "not a readable video" in reason


def test_methods_that_work_inside_the_backbone_keep_no_features(small_backbone, class_folder, tmp_path):
    assert {name for name in METHODS if METHODS[name].depends_on != "blocks"} == {
        "linear",
        "mean",
        "attentive",
    }
    for classifier in (make(small_backbone, "full"), make(small_backbone, drop_path=0.5)):
        with pytest.raises(ValueError, match="cannot be kept"):
            FeatureCache(classifier, tmp_path, Messages(False))
    with pytest.raises(ValueError, match="mix pixels"):
        train(make(small_backbone), class_folder, features_in(tmp_path, mixup=0.5))


def test_what_a_chain_depends_on_is_the_most_of_its_members(small_backbone):
    assert make(small_backbone, "linear+attentive", attentive={"heads": 4}).tuner.depends_on == "tokens"
    assert make(small_backbone, "linear+lora").tuner.depends_on == "blocks"


def test_features_are_what_the_classifier_makes_of_the_clip(small_backbone):
    clip = torch.randn(2, 3, 4, 32, 32)
    for method, options in (("linear", {}), ("attentive", {"heads": 4})):
        classifier = make(small_backbone, method, **options).eval()
        torch.testing.assert_close(
            classifier(classifier.frozen(clip)), classifier(clip), rtol=1e-5, atol=1e-6
        )
