"""The loop: what it learns, what it leaves, what it never touches."""

import json
import math
import sys

import numpy as np
import pytest
import torch
import yaml

import videossp
from conftest import SSP_SMALL, write_video
from videossp.classifier import Classifier
from videossp.datasets import Sample, Samples, read_folder
from videossp.train import TrainConfig, choose_splits, learning_rate, parameter_groups, train
from videossp.video import DataError

QUICK = TrainConfig(epochs=3, batch_size=4, lr=1e-2, seed=1)


def make(backbone, **options):
    return Classifier.create(backbone, classes=["bright", "dark"], **SSP_SMALL, **options)


def test_two_easy_classes_are_learned_and_the_run_folder_is_complete(small_backbone, class_folder, tmp_path):
    classifier = make(small_backbone)
    before = {name: x.clone() for name, x in classifier.backbone.state_dict().items()}
    run = train(classifier, class_folder, QUICK, out=tmp_path / "run")
    assert all(torch.equal(x, before[name]) for name, x in classifier.backbone.state_dict().items())
    result = videossp.evaluate(classifier, read_folder(class_folder).splits["test"])
    assert result.top(1) == 1.0
    folder = tmp_path / "run"
    assert {x.name for x in folder.iterdir()} == {
        "adapter",
        "checkpoints",
        "config.yaml",
        "confusion.png",
        "curves.png",
        "env.json",
        "metrics.jsonl",
        "report.html",
        "split.csv",
    }
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows == run.history and len(rows) == 3
    loaded = videossp.load(folder)  # a run folder stands for its adapter
    assert torch.equal(
        videossp.evaluate(loaded, read_folder(class_folder).splits["test"]).scores, result.scores
    )
    assert loaded.metrics["best_epoch"] == run.best["epoch"]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["epochs"] == 3 and config["ssp"] == SSP_SMALL and config["lr"] == 1e-2
    split = (folder / "split.csv").read_text()
    assert "test/" not in split and split.count(",val") == 4 and split.count(",train") == 12


def test_the_same_seed_gives_the_same_numbers(small_backbone, class_folder):
    config = TrainConfig(epochs=2, batch_size=4, lr=1e-2, seed=3)

    def run(**change):
        classifier = make(small_backbone, drop_path=0.2, dropout=0.2)
        history = train(classifier, class_folder, TrainConfig(**(config.__dict__ | change))).history
        return [row["loss"] for row in history], classifier.tuned()

    (losses, weights), (again, same), (other, _) = run(), run(), run(seed=4)
    assert losses == again and losses != other
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_the_best_epoch_on_validation_is_kept(small_backbone, class_folder, monkeypatch, tmp_path):
    """Validation figures that peak at the second epoch: its weights are what comes back."""
    module = sys.modules["videossp.train"]
    real = module.evaluate
    classifier, seen, figures = make(small_backbone), [], iter([0.5, 0.9, 0.7])

    def fake(*args, **kwargs):
        result = real(*args, **kwargs)
        seen.append({name: x.detach().clone() for name, x in classifier.tuned().items()})
        figure = next(figures)
        monkeypatch.setattr(type(result), "top", lambda self, k: figure)
        return result

    monkeypatch.setattr(module, "evaluate", fake)
    run = train(classifier, class_folder, QUICK, out=tmp_path / "run")
    assert run.best["epoch"] == 2
    assert all(torch.equal(x, seen[1][name]) for name, x in classifier.tuned().items())
    kept, last = videossp.load(tmp_path / "run"), videossp.load(tmp_path / "run" / "checkpoints" / "last")
    assert all(torch.equal(x, seen[1][name]) for name, x in kept.tuned().items())
    assert all(torch.equal(x, seen[2][name]) for name, x in last.tuned().items())


def test_the_test_split_is_never_read(small_backbone, class_folder):
    data = read_folder(class_folder)
    lost = [Sample("/nowhere.mp4", x.name, x.label) for x in data.splits["test"]]
    train(make(small_backbone), Samples(data.classes, data.splits | {"test": lost}), QUICK)


def test_a_val_folder_is_used_whole():
    samples = Samples(
        ("a", "b"), {s: [Sample(f"/{s}{i}", f"{s}{i}", i % 2) for i in range(4)] for s in ("train", "val")}
    )
    training, validation, how = choose_splits(samples, ("a", "b"), QUICK)
    assert (training, validation) == (samples.splits["train"], samples.splits["val"]) and "val" in how


def test_nothing_to_train_on_or_to_validate_with():
    with pytest.raises(DataError, match="no train split"):
        choose_splits(Samples(("a",), {"test": []}), ("a",), QUICK)
    one = Samples(("a", "b"), {"train": [Sample("/a", "a", 0), Sample("/b", "b", 1)]})
    with pytest.raises(DataError, match="too few videos"):
        choose_splits(one, ("a", "b"), QUICK)


@pytest.fixture
def folder_with_a_broken_video(tmp_path):
    for name, level in (("bright", 220), ("dark", 40)):
        for i in range(3):
            write_video(tmp_path / name / f"{i}.mp4", np.full((5, 32, 32, 3), level, np.uint8))
    (tmp_path / "dark" / "broken.mp4").write_bytes(b"no video")
    return tmp_path


def test_a_broken_video_stops_the_run_or_is_listed(small_backbone, folder_with_a_broken_video):
    with pytest.raises(DataError, match="broken.mp4: not a readable video"):
        train(make(small_backbone), folder_with_a_broken_video, QUICK)
    config = TrainConfig(epochs=1, batch_size=2, on_error="skip")
    run = train(make(small_backbone), folder_with_a_broken_video, config)
    assert list(run.failures) == ["dark/broken.mp4"] and math.isfinite(run.history[0]["loss"])


def test_an_epoch_is_never_chosen_on_nothing(small_backbone, class_folder):
    data = read_folder(class_folder)
    lost = [Sample("/nowhere.mp4", "lost", 0)]
    config = TrainConfig(epochs=1, on_error="skip")
    with pytest.raises(DataError, match="none of the 1 validation videos can be decoded"):
        train(make(small_backbone), Samples(data.classes, data.splits | {"val": lost}), config)


def test_a_loss_that_is_not_finite_stops_the_run(small_backbone, class_folder):
    classifier = make(small_backbone)
    with torch.no_grad():
        classifier.head.linear.bias.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="the loss is nan in epoch 1"):
        train(classifier, class_folder, QUICK)


def test_an_existing_run_is_never_overwritten(small_backbone, class_folder, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is not empty"):
        train(make(small_backbone), class_folder, QUICK, out=tmp_path)
    assert [x.name for x in tmp_path.iterdir()] == ["precious.txt"]


def test_the_learning_rate_warms_up_and_falls_along_a_cosine():
    config = TrainConfig(epochs=10, lr=2.0, min_lr=0.2, warmup_epochs=2)
    factor = learning_rate(config, steps_per_epoch=5)
    rates = [2.0 * factor(step) for step in range(51)]
    assert rates[9] == pytest.approx(2.0) and rates[4] == pytest.approx(0.2 + 1.8 / 2)
    assert rates[30] == pytest.approx(1.1) and rates[50] == pytest.approx(0.2)
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)


def test_only_matrices_are_decayed(small_backbone):
    classifier = make(small_backbone)
    decayed, free = parameter_groups(classifier, 0.05)
    assert decayed["weight_decay"] == 0.05 and free["weight_decay"] == 0.0
    names = {id(x): name for name, x in classifier.tuned().items()}
    assert len(decayed["params"]) + len(free["params"]) == len(names)
    assert all(names[id(x)].endswith("weight") for x in decayed["params"])
    assert {"tuner.gain", "tuner.spread.0.scale", "head.norm.weight"} <= {
        names[id(x)] for x in free["params"]
    }


IMPOSSIBLE = [
    {"epochs": 0},
    {"lr": 0.0},
    {"seed": -1},
    {"label_smoothing": 3.0},
    {"val_share": 1.0},
    {"scale": (0.9, 0.1)},
    {"workers": -1},
]


@pytest.mark.parametrize("change", IMPOSSIBLE)
def test_impossible_settings_are_refused(change):
    with pytest.raises(ValueError):
        TrainConfig(**change)
