"""The feature cache: correct values, computed once, invalidated when an input changes, bounded in size."""

import hashlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from conftest import write_video
from videossp.classifier import Classifier
from videossp.data.clips import EvalViews, TrainClips
from videossp.data.datasets import Sample, read_data
from videossp.methods import METHODS
from videossp.system.progress import Messages
from videossp.system.versions import versions
from videossp.training import feature_cache, loop
from videossp.training.config import TrainConfig
from videossp.training.feature_cache import FeatureCache, remove_unused
from videossp.training.train import train

CONFIG = TrainConfig(epochs=4, batch_size=4, lr=1e-2, fixed_augmentations=2, num_sample=2)


def make(backbone, method="linear", **options):
    return Classifier.create(backbone, classes=["bright", "dark"], method=method, **options)


def features_in(folder, **change):
    return TrainConfig(**CONFIG.__dict__ | {"features": str(folder)} | change)


def count_clips(monkeypatch):
    """How many clips go through the backbone."""
    seen, real = [], Classifier.frozen_features

    def count(self, clip):
        seen.append(len(clip))
        return real(self, clip)

    monkeypatch.setattr(Classifier, "frozen_features", count)
    return seen


@pytest.mark.parametrize(("method", "options"), [("linear", {}), ("mean", {}), ("attentive", {"heads": 4})])
def test_training_on_cached_features_is_training_on_clips(
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


@pytest.mark.parametrize("damage", ["empty", "cut at 10", "one bit", "without a hash"])
def test_damaged_features_are_computed_again_once(
    small_backbone, class_folder, tmp_path, monkeypatch, damage
):
    config = features_in(tmp_path, epochs=2)
    first = train(make(small_backbone), class_folder, config)
    intact = {path: path.read_bytes() for path in tmp_path.rglob("*.npy")}
    for path, content in intact.items():
        spoiled = {
            "empty": b"",
            "cut at 10": content[:10],
            "one bit": content[:150] + bytes([content[150] ^ 1]) + content[151:],
            "without a hash": content[:-32],
        }
        path.write_bytes(spoiled[damage])
    seen = count_clips(monkeypatch)
    second = train(make(small_backbone), class_folder, config)
    assert sum(seen) == 2 * 2 * 12 + 4
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.npy")} == intact
    assert [row["val_loss"] for row in second.history] == [row["val_loss"] for row in first.history]
    assert np.load(path).dtype == np.float32  # NumPy reads the files, too


def test_a_cache_that_cannot_be_written_is_one_line_that_names_the_flag(
    small_backbone, sample, tmp_path, monkeypatch
):
    """Its file was damaged, and the folder may only be read (which does not stop root)."""
    (name,) = names_of(small_backbone, [sample], tmp_path / "cache")
    file = tmp_path / "cache" / name[:2] / name
    file.write_bytes(b"")

    def refuse(path, data):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(feature_cache, "atomic_write", refuse)
    with pytest.raises(OSError, match=rf"{name}: cannot be written \(Permission denied\); .* --features"):
        names_of(small_backbone, [sample], tmp_path / "cache")


@pytest.fixture
def sample(tmp_path):
    for name, level in (("a", 100), ("b", 200)):
        write_video(tmp_path / "data" / name / "0.mp4", np.full((6, 32, 32, 3), level, np.uint8))
    return read_data(tmp_path / "data").splits["train"][0]


def test_features_are_computed_again_if_anything_they_depend_on_changes(
    small_backbone, sample, tmp_path, monkeypatch
):
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
    write_video(sample.path, np.full((6, 32, 32, 3), 130, np.uint8))  # the video has changed
    assert files() != first
    changed = files()
    monkeypatch.setattr("videossp.training.feature_cache.versions", lambda: {"av": "0.1"})
    assert files() != changed


def test_features_of_another_kind_of_device_have_files_of_their_own(small_backbone, tmp_path, monkeypatch):
    """Those of a CPU keep the names that they had before devices were part of them."""
    classifier = make(small_backbone)
    plain = f"{classifier.sha256} float32 cls {versions()}"
    kinds = {}
    for name in ("cpu", "cuda:0", "cuda:1", "mps"):
        monkeypatch.setattr(Classifier, "device", torch.device(name))
        kinds[name] = FeatureCache(classifier, tmp_path, Messages(False)).kind
    assert kinds == {
        "cpu": plain,
        "cuda:0": f"{plain} cuda",
        "cuda:1": f"{plain} cuda",
        "mps": f"{plain} mps",
    }


def names_of(backbone, samples, folder):
    """The files of the features of videos."""
    cache = FeatureCache(make(backbone), folder, Messages(False))
    return [x.name for x in cache.of(EvalViews(samples, make(backbone).clip_format, 1, 1)).files]


def test_a_copy_of_a_video_in_another_folder_shares_its_features(
    small_backbone, sample, tmp_path, monkeypatch
):
    """As where an archive is unpacked again: another path, another time of change."""
    first = names_of(small_backbone, [sample], tmp_path / "cache")
    copy = tmp_path / "again" / "other.mp4"
    copy.parent.mkdir()
    copy.write_bytes(Path(sample.path).read_bytes())
    os.utime(copy, (1, 1))
    seen = count_clips(monkeypatch)
    assert names_of(small_backbone, [replace(sample, path=str(copy))], tmp_path / "cache") == first
    assert not seen
    assert names_of(small_backbone, [replace(sample, end=0.2)], tmp_path / "cache") != first


def test_a_folder_of_frames_is_known_by_its_names_and_contents(small_backbone, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)

    def frames(name, order):
        folder = tmp_path / name
        folder.mkdir()
        for number, i in enumerate(order):
            Image.fromarray(pixels[i]).save(folder / f"{number:03}.png")
        return Sample(str(folder), name, 0)

    samples = [frames("a", range(6)), frames("b", range(6)), frames("c", (1, 0, 2, 3, 4, 5))]
    one, same, other = names_of(small_backbone, samples, tmp_path / "cache")
    assert one == same != other


def test_a_run_reads_each_video_once_for_its_key(small_backbone, class_folder, tmp_path, monkeypatch):
    looked, real = [], feature_cache.video_identity
    monkeypatch.setattr(feature_cache, "video_identity", lambda x: (looked.append(x.name), real(x))[1])
    train(make(small_backbone), class_folder, features_in(tmp_path))
    assert len(looked) == len(set(looked)) == 16  # 12 for training, 4 for validation, in 4 epochs


def filled(folder, count, size, day):
    """Files of a cache that were used one day after another, the last `day` days ago."""
    files = []
    for i in range(count):
        name = hashlib.sha256(f"{i}".encode()).hexdigest()
        file = folder / name[:2] / f"{name}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(size))
        used = time.time() - 86400 * (day + count - 1 - i)
        os.utime(file, (used, used))
        files.append(file)
    return files


def test_pruning_removes_the_files_unused_for_longest_and_nothing_else(small_backbone, tmp_path):
    folder = tmp_path / "cache"
    files = filled(folder, 6, 1000, 2)
    partial = files[0].with_name(f".{files[0].name}.77.1")
    foreign = [folder / "notes.txt", files[0].with_name("mine.npy"), files[0].with_name(".hidden")]
    for file in (partial, *foreign):
        file.write_bytes(bytes(5000))
        os.utime(file, (1, 1))
    cache = FeatureCache(make(small_backbone), folder, Messages(False))
    cache.prune(1.0)
    assert all(x.is_file() for x in files) and not partial.exists()
    cache.prune(3.5e-6)
    assert [x.is_file() for x in files] == [False] * 3 + [True] * 3
    assert all(x.is_file() for x in foreign)


def test_pruning_never_removes_files_used_within_a_day(small_backbone, tmp_path):
    files = filled(tmp_path, 4, 1000, 0.2)  # 0.2 to 3.2 days ago
    cache = FeatureCache(make(small_backbone), tmp_path, Messages(False))
    assert cache._use(files[1])  # a run begins to use it
    cache.prune(0.0)
    assert [x.is_file() for x in files] == [False, True, False, True]
    remove_unused(files[3], time.time() - 86400)  # one process has seen it as old, another has used it since
    assert files[3].is_file()


def test_several_processes_prune_one_cache(small_backbone, tmp_path):
    files = filled(tmp_path, 300, 1000, 2)
    cache = FeatureCache(make(small_backbone), tmp_path, Messages(False))
    with ThreadPoolExecutor(4) as pool:
        assert [x.result() for x in [pool.submit(cache.prune, 1e-4) for _ in range(4)]] == [None] * 4
    assert sum(x.is_file() for x in files) <= 100
    assert {x for x in tmp_path.rglob("*") if x.is_file()} <= set(files)


def test_a_run_prunes_its_cache_to_the_limit(small_backbone, class_folder, tmp_path):
    old = filled(tmp_path, 3, 1000, 30)
    train(make(small_backbone), class_folder, features_in(tmp_path, features_limit=0.0, epochs=2))
    assert not any(x.is_file() for x in old)
    assert len(list(tmp_path.rglob("*.npy"))) == 2 * 12 + 4  # its own were used just now


def test_processes_that_divide_the_work_leave_nothing_out(small_backbone, class_folder, tmp_path):
    samples = read_data(class_folder).splits["train"]
    views = EvalViews(samples, make(small_backbone).clip_format, 1, 1)
    for rank in (0, 1):  # the second looks when the first has done its share
        cache = FeatureCache(make(small_backbone), tmp_path / "cache", Messages(False))
        files = cache.of(views, rank, 2).files
    assert len(files) == 16 and all(x.is_file() for x in files)


def test_a_video_that_cannot_be_decoded_gives_the_reason(small_backbone, sample, tmp_path):
    with open(sample.path, "wb") as file:
        file.write(b"no video")
    cache = FeatureCache(make(small_backbone), tmp_path / "cache", Messages(False))
    x, reason = cache.of(EvalViews([sample], make(small_backbone).clip_format, 1, 1))[0]
    assert x is None and "not a readable video" in reason


def test_methods_that_work_inside_the_backbone_cache_no_features(small_backbone, class_folder, tmp_path):
    assert {name for name in METHODS if METHODS[name].depends_on != "blocks"} == {
        "linear",
        "mean",
        "moments",
        "attentive",
    }
    for classifier in (make(small_backbone, "full"), make(small_backbone, drop_path=0.5)):
        with pytest.raises(ValueError, match="cannot be cached"):
            FeatureCache(classifier, tmp_path, Messages(False))
    with pytest.raises(ValueError, match="mix pixels"):
        train(make(small_backbone), class_folder, features_in(tmp_path, mixup=0.5))


def test_a_chain_depends_on_the_most_of_its_members(small_backbone):
    assert make(small_backbone, "linear+attentive", attentive={"heads": 4}).tuner.depends_on == "tokens"
    assert make(small_backbone, "linear+lora").tuner.depends_on == "blocks"


def test_features_are_what_the_classifier_makes_of_the_clip(small_backbone):
    clip = torch.randn(2, 3, 4, 32, 32)
    for method, options in (("linear", {}), ("attentive", {"heads": 4})):
        classifier = make(small_backbone, method, **options).eval()
        torch.testing.assert_close(
            classifier(classifier.frozen_features(clip)), classifier(clip), rtol=1e-5, atol=1e-6
        )


def test_by_default_processes_decode_for_a_gpu_but_do_not_read_features(
    small_backbone, class_folder, tmp_path, monkeypatch
):
    used = {"loop": [], "feature_cache": [], "evaluate": []}

    def recording(name):
        def loader(*arguments, num_workers, **named):
            used[name].append(num_workers)
            return DataLoader(*arguments, **named | {"timeout": 0})

        return loader

    for module in (loop, feature_cache, sys.modules["videossp.inference.evaluate"]):
        monkeypatch.setattr(module, "DataLoader", recording(module.__name__.rpartition(".")[2]))
    monkeypatch.setattr(loop, "default_workers", lambda device: 7)
    train(make(small_backbone), class_folder, features_in(tmp_path, epochs=2, fixed_augmentations=1))
    assert used == {"loop": [0, 0], "feature_cache": [7, 7], "evaluate": [0, 0]}
