"""Trainings from start to end: what is learned, written, warned of, and left untouched."""

import json
import math
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import videossp
from conftest import SSP_SMALL, write_video
from videossp.classifier import Classifier
from videossp.data.datasets import Sample, VideoDataset, read_data
from videossp.errors import DataError, VideoSSPWarning
from videossp.training.batches import epoch_order
from videossp.training.config import TrainConfig
from videossp.training.train import train

QUICK = TrainConfig(epochs=3, batch_size=4, lr=1e-2, seed=1)


def make(backbone, **options):
    return Classifier.create(backbone, classes=["bright", "dark"], **SSP_SMALL, **options)


def test_two_easy_classes_are_learned_and_the_run_folder_is_complete(small_backbone, class_folder, tmp_path):
    classifier = make(small_backbone)
    before = {name: x.clone() for name, x in classifier.backbone.state_dict().items()}
    run = train(classifier, class_folder, QUICK, out=tmp_path / "run")
    assert all(torch.equal(x, before[name]) for name, x in classifier.backbone.state_dict().items())
    result = videossp.evaluate(classifier, read_data(class_folder).splits["test"])
    assert result.top(1) == 1.0
    folder = tmp_path / "run"
    assert {x.name for x in folder.iterdir() if x.name != ".lock"} == {
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
        videossp.evaluate(loaded, read_data(class_folder).splits["test"]).scores, result.scores
    )
    assert loaded.metrics["best_epoch"] == run.best["epoch"] and loaded.metrics["precision"] == "float32"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["epochs"] == 3 and config["ssp"].items() >= SSP_SMALL.items()
    assert config["lr"] == 1e-2
    split = (folder / "split.csv").read_text()
    assert "test/" not in split and split.count(",val") == 4 and split.count(",train") == 12


def test_the_same_seed_gives_the_same_numbers(small_backbone, class_folder):
    config = TrainConfig(epochs=2, batch_size=4, lr=1e-2, seed=3)

    def run(**change):
        classifier = make(small_backbone, drop_path=0.2, dropout=0.2)
        history = train(classifier, class_folder, TrainConfig(**(config.__dict__ | change))).history
        return [row["loss"] for row in history], classifier.trainable()

    (losses, weights), (again, same), (other, _) = run(), run(), run(seed=4)
    assert losses == again and losses != other
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_training_leaves_the_generators_of_the_caller_as_they_were(small_backbone, class_folder):
    """Also if it fails; and earlier draws do not change its numbers."""

    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    def seed(number):
        random.seed(number), np.random.seed(number), torch.manual_seed(number)

    losses = []
    for number in (5, 6):
        seed(number)
        expected = draw()
        seed(number)
        losses.append([row["loss"] for row in train(make(small_backbone), class_folder, QUICK).history])
        assert draw() == expected
    assert losses[0] == losses[1]
    seed(7)
    expected = draw()
    seed(7)
    with pytest.raises(DataError):
        lost = [Sample("/nowhere.mp4", "lost", i % 2) for i in range(8)]
        train(make(small_backbone), VideoDataset(("bright", "dark"), {"train": lost, "val": lost}), QUICK)
    assert draw() == expected


def test_the_best_epoch_on_validation_is_kept(small_backbone, class_folder, monkeypatch, tmp_path):
    """Validation figures that peak at the second epoch: its weights are kept."""
    module = sys.modules["videossp.training.loop"]
    real = module.evaluate
    classifier, seen, figures = make(small_backbone), [], iter([0.5, 0.9, 0.7])

    def fake(*args, **kwargs):
        result = real(*args, **kwargs)
        seen.append({name: x.detach().clone() for name, x in classifier.trainable().items()})
        figure = next(figures)
        monkeypatch.setattr(type(result), "top", lambda self, k: figure)
        return result

    monkeypatch.setattr(module, "evaluate", fake)
    run = train(classifier, class_folder, QUICK, out=tmp_path / "run")
    assert run.best["epoch"] == 2
    assert all(torch.equal(x, seen[1][name]) for name, x in classifier.trainable().items())
    kept = videossp.load(tmp_path / "run")
    assert all(torch.equal(x, seen[1][name]) for name, x in kept.trainable().items())


def test_the_test_split_is_never_read(small_backbone, class_folder):
    data = read_data(class_folder)
    lost = [Sample("/nowhere.mp4", x.name, x.label) for x in data.splits["test"]]
    train(make(small_backbone), VideoDataset(data.classes, data.splits | {"test": lost}), QUICK)


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


def issued(record):
    """The texts of the warnings of this package."""
    return [str(x.message) for x in record if x.category is VideoSSPWarning]


def test_an_epoch_selected_on_the_test_split_is_a_warning(small_backbone, class_folder, tmp_path):
    config = TrainConfig(epochs=2, select_on="test")
    with pytest.warns(VideoSSPWarning, match="selected on the TEST split") as record:
        run = train(make(small_backbone), class_folder, config, out=tmp_path / "run")
    assert sum("TEST" in text for text in issued(record)) == 1
    assert sum("TEST" in text for text in run.warnings) == 1
    assert "TEST split" in (tmp_path / "run" / "report.html").read_text()
    assert {Path(x.filename).name for x in record if "TEST" in str(x.message)} == {Path(__file__).name}


def test_validation_videos_that_are_test_videos_are_a_warning(small_backbone, class_folder):
    data = read_data(class_folder)
    shared = VideoDataset(data.classes, data.splits | {"val": data.splits["test"][:3]})
    with pytest.warns(VideoSSPWarning, match="3 of 3 validation videos are also test videos"):
        run = train(make(small_backbone), shared, TrainConfig(epochs=2))
    assert any("3 of 3 validation videos" in text for text in run.warnings)


def test_a_warm_up_as_long_as_the_run_is_a_warning(small_backbone, class_folder):
    with pytest.warns(VideoSSPWarning, match="never decays"):
        run = train(make(small_backbone), class_folder, TrainConfig(epochs=1))
    assert any("never decays" in text for text in run.warnings)


def test_skipped_videos_are_warnings_in_training_and_in_validation(
    small_backbone, folder_with_a_broken_video
):
    data = read_data(folder_with_a_broken_video)
    members = data.splits["train"]
    broken = [x for x in members if "broken" in x.name]
    config = TrainConfig(epochs=2, batch_size=2, on_error="skip")
    for splits in ({"train": members, "val": members[:2]}, {"train": members[:4], "val": members}):
        with pytest.warns(VideoSSPWarning, match=r"broken\.mp4: not a readable video") as record:
            run = train(make(small_backbone), VideoDataset(data.classes, splits), config)
        assert sum("broken" in text for text in issued(record)) == 1  # once, not in each epoch
        expected = f"skipped because they cannot be decoded: 1 videos ({broken[0].name})"
        assert [text for text in run.warnings if "broken" in text] == [expected]


def test_missing_videos_and_warnings_of_the_classifier_are_those_of_the_run(small_backbone, class_folder):
    data = read_data(class_folder)
    lost = VideoDataset(data.classes, data.splits, missing=("bright/77.mp4",))
    classifier = make(small_backbone)
    classifier.warnings = ("its weights are random",)
    with pytest.warns(VideoSSPWarning, match=r"left out: 1 videos \(bright/77.mp4\)"):
        run = train(classifier, lost, TrainConfig(epochs=2))
    assert run.warnings == ("its weights are random", "not on disk and left out: 1 videos (bright/77.mp4)")


def test_a_run_without_cause_for_warnings_has_none(small_backbone, class_folder):
    classifier = make(small_backbone)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = train(classifier, class_folder, TrainConfig(epochs=2))
    assert run.warnings == classifier.warnings


def test_a_run_without_readable_videos_can_be_resumed_when_they_are_repaired(
    small_backbone, class_folder, tmp_path
):
    config = TrainConfig(epochs=2, batch_size=8, on_error="skip")
    data = read_data(class_folder)
    expected = train(make(small_backbone), data, config)
    places = [Path(x.path) for x in data.splits["train"]]
    content = [x.read_bytes() for x in places]
    for place in places:
        place.write_bytes(b"no video")
    for resume in (False, True):
        with pytest.raises(DataError, match="none of the .* training videos can be decoded"):
            train(make(small_backbone), data, config, out=tmp_path / "run", resume=resume)
    for place, video in zip(places, content, strict=True):
        place.write_bytes(video)
    again = train(make(small_backbone), data, config, out=tmp_path / "run", resume=True)
    assert [x["loss"] for x in again.history] == [x["loss"] for x in expected.history]


def test_a_run_whose_validation_videos_all_fail_ends(small_backbone, class_folder):
    data = read_data(class_folder)
    lost = [Sample("/nowhere.mp4", "lost", 0)]
    config = TrainConfig(epochs=1, on_error="skip")
    with pytest.raises(DataError, match="none of the 1 validation videos can be decoded"):
        train(make(small_backbone), VideoDataset(data.classes, data.splits | {"val": lost}), config)


def test_an_existing_run_is_never_overwritten(small_backbone, class_folder, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is not empty"):
        train(make(small_backbone), class_folder, QUICK, out=tmp_path)
    assert [x.name for x in tmp_path.iterdir()] == ["precious.txt"]


def test_accumulated_batches_are_one_large_batch(small_backbone, class_folder):
    """Also the last step of an epoch, which 12 videos in steps of 8 fill only by half."""

    def weights(**change):
        classifier = make(small_backbone)
        config = TrainConfig(epochs=1, lr=1e-2, seed=1, num_sample=2, **change)
        return train(classifier, class_folder, config).history, classifier.trainable()

    (whole, large), (parts, small) = weights(batch_size=8), weights(batch_size=2, grad_accum_steps=4)
    assert parts[0]["loss"] == pytest.approx(whole[0]["loss"], rel=1e-5)
    for name, x in large.items():
        torch.testing.assert_close(small[name], x, rtol=1e-4, atol=1e-5)


def test_a_video_that_fails_does_not_weaken_the_step(small_backbone, folder_with_a_broken_video, monkeypatch):
    """Gradients are averaged over the clips that there are."""
    steps = []

    def record(self, *args, **kwargs):
        steps.append([x.grad.clone() for group in self.param_groups for x in group["params"]])

    monkeypatch.setattr(torch.optim.AdamW, "step", record)
    samples = read_data(folder_with_a_broken_video)
    good = [x for x in samples.splits["train"] if "broken" not in x.name]
    broken = [x for x in samples.splits["train"] if "broken" in x.name]
    config = TrainConfig(
        epochs=1, batch_size=1, grad_accum_steps=8, on_error="skip", flip="off", crop_scale=(1, 1)
    )
    for members in (good, good + broken):
        data = VideoDataset(samples.classes, {"train": members, "val": good[:2]})
        classifier = make(small_backbone)
        train(classifier, data, config)
    assert len(steps) == 2
    for a, b in zip(*steps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_drop_last_leaves_out_what_does_not_fill_a_step(small_backbone, class_folder, monkeypatch):
    module, sizes = sys.modules["videossp.training.loop"], []
    real = module.collate
    monkeypatch.setattr(module, "collate", lambda items: (sizes.append(len(items)), real(items))[1])
    train(make(small_backbone), class_folder, TrainConfig(epochs=1, batch_size=5, drop_last=True))
    assert sizes == [5, 5]  # of 12
    sizes.clear()
    train(make(small_backbone), class_folder, TrainConfig(epochs=1, batch_size=5))
    assert sizes == [5, 5, 2]


def test_mixing_trains_and_is_repeatable(small_backbone, class_folder):
    config = TrainConfig(epochs=2, batch_size=4, lr=1e-2, mixup=0.8, cutmix=1.0, num_sample=2, erasing=0.5)

    def losses(**change):
        settings = TrainConfig(**config.__dict__ | change)
        return [row["loss"] for row in train(make(small_backbone), class_folder, settings).history]

    assert losses() == losses() != losses(mixup=0.0, cutmix=0.0)


def test_validation_takes_one_central_view_whatever_the_test_views(small_backbone, class_folder, monkeypatch):
    module, views = sys.modules["videossp.training.loop"], []
    real = module.evaluate

    def spy(*args, **kwargs):
        result = real(*args, **kwargs)
        views.append(result.views)
        return result

    monkeypatch.setattr(module, "evaluate", spy)
    train(make(small_backbone, views=(3, 2)), class_folder, TrainConfig(epochs=1, batch_size=4))
    assert views == [(1, 1)]


def test_data_wait_is_a_fraction_of_the_time(small_backbone, class_folder):
    (row,) = train(make(small_backbone), class_folder, TrainConfig(epochs=1, batch_size=4)).history
    assert 0 < row["data_wait"] < 1


def test_validating_the_moving_average_leaves_the_trained_weights_unchanged(
    small_backbone, class_folder, monkeypatch
):
    """a_0 = w_0, a_k = d a_{k-1} + (1 - d) w_k, in float64 of what is there after each step."""
    classifier, decay = make(small_backbone), 0.7

    def weights():
        return {name: x.detach().double() for name, x in classifier.trainable().items()}

    average, trained, validated = weights(), [], 0
    module, step, evaluate = sys.modules["videossp.training.loop"], torch.optim.AdamW.step, videossp.evaluate

    def spy_on_step(self):
        if trained:
            assert all(torch.equal(x, trained[-1][name]) for name, x in weights().items())
        step(self)
        trained.append(weights())
        for name, x in trained[-1].items():
            average[name] = decay * average[name] + (1 - decay) * x

    def spy_on_evaluate(*args, **kwargs):
        nonlocal validated
        validated += 1
        for name, x in weights().items():
            torch.testing.assert_close(x, average[name], rtol=1e-5, atol=1e-7)
        assert any(not torch.equal(x, trained[-1][name]) for name, x in weights().items())
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy_on_step)
    monkeypatch.setattr(module, "evaluate", spy_on_evaluate)
    train(classifier, class_folder, TrainConfig(**QUICK.__dict__ | {"ema_decay": decay}))
    assert len(trained) == 9 and validated == 3


def test_an_unknown_tracker_is_one_line_and_leaves_nothing(small_backbone, class_folder, tmp_path):
    config = TrainConfig(**QUICK.__dict__ | {"trackers": ("tensorbored",)})
    with pytest.raises(
        ValueError, match=r"^Unsupported logging capability: tensorbored\. Choose between .+$"
    ):
        train(make(small_backbone), class_folder, config, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_between_the_ends_of_epochs_a_checkpoint_is_written_after_save_minutes_only(
    small_backbone, class_folder, tmp_path, monkeypatch
):
    module, written = sys.modules["videossp.training.train"], []
    monkeypatch.setattr(module, "save_state", lambda folder, step, *rest: written.append(step))
    for minutes in (1000, 0):
        config = TrainConfig(epochs=2, batch_size=4, save_minutes=minutes)
        train(make(small_backbone), class_folder, config, out=tmp_path / str(minutes))
    rare, often = written[:4], written[4:]
    assert rare == [3, 3, 6, 6]  # before and after each validation
    assert often == [1, 2, 3, 3, 3, 4, 5, 6, 6, 6]


def test_the_order_of_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_alone():
    orders = {(seed, epoch): tuple(epoch_order(20, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert all(sorted(order) == list(range(20)) for order in orders.values())
    assert len(set(orders.values())) == 9
    torch.manual_seed(7)
    torch.rand(3)  # whatever else is drawn
    assert all(tuple(epoch_order(20, *key)) == order for key, order in orders.items())
