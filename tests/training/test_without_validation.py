"""Few videos: with `val_fraction` 0 all of them train, and the last epoch is kept."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import videossp
from conftest import SSP_SMALL, write_video
from videossp.classifier import Classifier
from videossp.data.datasets import VideoDataset, read_data
from videossp.errors import DataError, DivergedError
from videossp.training.config import TrainConfig
from videossp.training.loop import Loop
from videossp.training.splits import choose_splits
from videossp.training.train import train
from videossp.training.train_step import TrainStep

CONFIG = TrainConfig(epochs=2, batch_size=2, lr=1e-2, seed=1, val_fraction=0)


def write_clips(folder, counts):
    """A folder with as many videos of each class."""
    for label, (name, count) in enumerate(counts.items()):
        for i in range(count):
            level = 40 + 60 * label + 3 * i
            write_video(folder / name / f"{i}.mp4", np.full((5, 32, 32, 3), level, np.uint8))
    return folder


@pytest.fixture(scope="module")
def one_each(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips") / "data", {"a": 1, "b": 1, "c": 1})


def make(backbone, classes="abc"):
    return Classifier.create(backbone, classes=list(classes), **SSP_SMALL)


def test_the_last_epoch_is_kept(small_backbone, one_each, tmp_path):
    last = {}
    real = Loop.end_epoch

    def note(self, epoch, stop):
        last[epoch] = {name: x.clone() for name, x in self.classifier.trainable().items()}
        real(self, epoch, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "end_epoch", note)
        classifier = make(small_backbone)
        run = train(classifier, one_each, CONFIG, out=tmp_path / "run")
    assert run.validation is None and run.best is run.history[-1] and len(run.history) == 2
    assert all(run.best[x] is None for x in ("val_top1", "val_loss", "val_mean_class_accuracy"))
    kept = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    for weights in (classifier.trainable(), kept):
        assert all(torch.equal(x, weights[name]) for name, x in last[1].items())
    assert not all(torch.equal(x, last[0][name]) for name, x in last[1].items())
    assert videossp.load(tmp_path / "run").metrics["best_epoch"] == 2
    assert (tmp_path / "run" / "split.csv").read_text().count(",train") == 3
    page = (tmp_path / "run" / "report.html").read_text()
    assert "the last: no validation" in page and "Learning curves" in page and "Confusion" not in page
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "run" / "confusion.png").exists()


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_an_interruption_changes_nothing(small_backbone, one_each, tmp_path, monkeypatch, ema):
    config, real = replace(CONFIG, ema_decay=ema), TrainStep.loss

    def loss(self, batch, number):
        if self.state.step == 3:
            raise KeyboardInterrupt
        return real(self, batch, number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainStep, "loss", loss)
        train(make(small_backbone), one_each, config, out=tmp_path / "run")
    resumed = train(make(small_backbone), one_each, config, out=tmp_path / "run", resume=True)
    quiet = train(make(small_backbone), one_each, config, out=tmp_path / "quiet")
    assert [x["loss"] for x in resumed.history] == [x["loss"] for x in quiet.history]
    files = [tmp_path / x / "adapter" / "adapter_model.safetensors" for x in ("run", "quiet")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_one_video_of_each_class_needs_val_fraction_0(small_backbone, one_each):
    for fraction in (0.2, 0.9):
        with pytest.raises(DataError, match="--val-fraction 0 trains on all of them, without validation"):
            train(make(small_backbone), one_each, replace(CONFIG, val_fraction=fraction))


def test_classes_without_a_validation_video_are_named(small_backbone, tmp_path, capsys):
    data = write_clips(tmp_path / "data", {"a": 4, "b": 1, "c": 2, "d": 1})
    config = replace(CONFIG, epochs=1, val_fraction=0.25)
    run = train(make(small_backbone, "abcd"), data, config, progress=True)
    assert "no validation video of b, d" in capsys.readouterr().err
    assert sorted({x.label for x in run.validation.samples}) == [0, 2]
    train(make(small_backbone, "abcd"), data, replace(config, val_fraction=0), progress=True)
    printed = capsys.readouterr().err
    assert "8 training videos, no validation videos" in printed and "validation video of" not in printed


def test_a_split_of_the_data_validates_whatever_the_fraction(one_each):
    data = read_data(one_each)
    members = data.splits["train"]
    data = VideoDataset(data.classes, {"train": members, "test": members[:1]})
    assert choose_splits(data, data.classes, CONFIG).validation == []
    assert choose_splits(data, data.classes, replace(CONFIG, select_on="test")).validation == members[:1]
    data.splits["val"] = members[2:]
    assert choose_splits(data, data.classes, CONFIG).validation == members[2:]


def test_weights_that_are_not_finite_are_detected_without_validation(small_backbone, one_each):
    config = replace(CONFIG, epochs=1, batch_size=4, lr=1e20, warmup_epochs=0)
    classifier = make(small_backbone)

    def spoil(self, epoch, stop):
        next(iter(self.state.parameters.values())).data.view(-1)[0] = math.nan
        return real(self, epoch, stop)

    real = Loop.end_epoch
    with pytest.MonkeyPatch.context() as patch, pytest.raises(DivergedError, match="epoch 1: not finite: "):
        patch.setattr(Loop, "end_epoch", spoil)
        train(classifier, one_each, config)


def test_the_command_says_what_is_kept(call, small_backbone, one_each, tmp_path):
    flags = [one_each, "--backbone", small_backbone, "--method", "linear", "--epochs", 2, "--val-fraction"]
    code, _, err = call("train", *flags[:-1], "--out", tmp_path / "run")
    assert code == 3 and err.splitlines()[-1].endswith("without validation") and "--val-fraction 0" in err
    code, out, err = call("train", *flags, "0.0", "--out", tmp_path / "run")
    assert code == 0 and "note: val_fraction 0: no validation, the last epoch is kept" in err
    table = {line[:20].strip(): line[20:] for line in out.splitlines()}
    assert table["epoch kept"] == "2 of 2, the last: no validation" and "95 % interval" not in table
    code, out, _ = call("train", *flags, 0, "--out", tmp_path / "again", "--json")
    assert code == 0 and json.loads(out)["val_top1"] is None
    code, out, _ = call("train", *flags, 0, "--dry-run", "--json")
    assert code == 0 and json.loads(out)["validation_videos"] == 0
    for wrong in (-0.1, 1):
        code, _, err = call("train", *flags, wrong, "--dry-run")
        assert code == 2 and "val_fraction must be at least 0 and below 1" in err
