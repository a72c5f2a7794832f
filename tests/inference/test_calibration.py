"""Calibration: errors by arithmetic, temperatures that are known, and the same probabilities everywhere."""

import json
from dataclasses import replace

import pytest
import torch

import videossp
from conftest import SSP_SMALL, switch_on
from videossp import Classifier, TrainConfig, predict
from videossp.comparison.folder import comparable
from videossp.convert_official import from_official, to_official
from videossp.data.datasets import read_data
from videossp.errors import WeightsError
from videossp.inference.calibration import BINS, MOST, Reliability, fit_temperature, with_temperature
from videossp.inference.evaluate import evaluate
from videossp.inference.predict import predict_each
from videossp.training.loop import Loop
from videossp.training.train import train

QUICK = TrainConfig(epochs=2, batch_size=4, lr=1e-2, seed=1)


def test_the_calibration_error_is_the_mean_gap_of_the_bins():
    scores = torch.tensor([[0.9, 0.1], [0.91, 0.09], [0.42, 0.58], [0.45, 0.55], [0.0, 1.0]])
    labels = torch.tensor([0, 1, 1, 0, 1])
    found = Reliability.of(scores, labels)
    assert len(found.counts) == BINS and found.counts.sum() == 5
    # of bins of 1/15, (13/15, 14/15] has 0.9 and 0.91, (8/15, 9/15] has 0.58 and 0.55, the last has 1
    gaps = [abs(1 / 2 - (0.9 + 0.91) / 2) * 2, abs(1 / 2 - (0.58 + 0.55) / 2) * 2, 0.0]
    assert found.error == pytest.approx(sum(gaps) / 5, abs=1e-6)


def test_no_predictions_have_no_calibration_error():
    assert Reliability.of(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)).error is None
    assert fit_temperature(torch.zeros(0, 1, 3), torch.zeros(0, dtype=torch.long)) == 1.0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_drawn_labels_is_found(temperature):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    scores = (temperature * logits).softmax(1)  # as of a classifier that is too sure, or not sure enough
    found = fit_temperature(scores[:, None], labels)
    assert found == pytest.approx(temperature, rel=0.05)
    after = with_temperature(scores, found)
    assert Reliability.of(after, labels).error < 0.02
    if temperature != 1:
        assert Reliability.of(after, labels).error < Reliability.of(scores, labels).error / 3


def test_a_temperature_divides_the_logits():
    logits = torch.randn(3, 2, 5)
    torch.testing.assert_close(with_temperature(logits.softmax(-1), 2.5), (logits / 2.5).softmax(-1))


def test_few_videos_and_probabilities_of_zero_give_no_extreme_temperature():
    sure = torch.tensor([[1.0, 0.0], [0.0, 1.0]])[:, None]
    assert 0.5 < fit_temperature(sure, torch.tensor([0, 1])) <= 1
    assert 1 < fit_temperature(sure, torch.tensor([0, 0])) <= MOST
    assert with_temperature(sure, 2.0).isfinite().all()


@pytest.fixture(scope="module")
def calibrated(class_folder, tmp_path_factory):
    """A trained classifier, its run folder and its run; the temperature is far from 1."""
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    classifier = Classifier.create(
        "videomamba_nano", classes=["bright", "dark"], frames=2, size=32, **SSP_SMALL
    )
    run = train(classifier, class_folder, QUICK, out=folder)
    assert classifier.head.temperature != 1
    return classifier, folder, run


def test_the_temperature_is_saved_and_the_figures_of_validation_are_those_of_the_adapter(
    calibrated, class_folder
):
    classifier, folder, run = calibrated
    loaded = videossp.load(folder)
    assert loaded.head.temperature == classifier.head.temperature
    again = evaluate(loaded, run.validation.samples)
    torch.testing.assert_close(again.scores, run.validation.scores, rtol=1e-5, atol=1e-6)
    for key, value in again.summary().items():
        saved = loaded.metrics["validation"][key]
        assert saved == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value)
    raw = again.at_temperature(1 / loaded.head.temperature)
    assert raw.loss == pytest.approx(run.best["val_loss"], rel=1e-4)
    assert raw.top(1) == again.top(1)
    assert raw.fitted_temperature == pytest.approx(loaded.head.temperature, rel=1e-3)


def test_every_way_to_predict_has_the_temperature(calibrated, class_folder, tmp_path):
    classifier, folder, _ = calibrated
    video = str(next((class_folder / "test").rglob("*.mp4")))
    (wanted,) = predict(classifier, video)
    classifier.head.temperature, temperature = 1.0, classifier.head.temperature
    (raw,) = predict(classifier, video)
    classifier.head.temperature = temperature
    ratio = {k: x ** (1 / temperature) for k, x in raw.probabilities.items()}
    by_hand = {k: x / sum(ratio.values()) for k, x in ratio.items()}
    assert wanted.probabilities == pytest.approx(by_hand, rel=1e-4)
    both = Classifier.create("videomamba_nano", classes=["x", "y"], frames=2, size=32, method="moments")
    switch_on(both)
    ((found, _),) = predict_each([videossp.load(folder), both], [video])
    assert found.probabilities == pytest.approx(by_hand, rel=1e-4)
    merged = videossp.load(folder)
    merged.merge()
    assert predict(merged, video)[0].probabilities == pytest.approx(by_hand, rel=1e-4)


def test_a_classifier_in_the_published_format_has_the_temperature_in_its_head():
    classifier = Classifier.create("videomamba_nano", num_classes=3, method="linear", frames=2, size=32)
    switch_on(classifier)
    classifier.head.temperature = 1.7
    clip = torch.randn(1, 3, 2, 32, 32)
    again = from_official(to_official(classifier))
    torch.testing.assert_close(again.eval()(clip), classifier.eval()(clip))


@pytest.mark.parametrize(
    "settings",
    [{"calibrate": False}, {"val_fraction": 0.0}, {"select_on": "test"}],
)
def test_no_temperature_without_validation_on_the_test_split_or_if_it_is_off(
    settings, small_backbone, class_folder, tmp_path
):
    classifier = Classifier.create(small_backbone, classes=["bright", "dark"], method="linear")
    classifier.head.temperature = 3.0  # of an earlier training
    train(classifier, class_folder, replace(QUICK, **settings))
    assert classifier.head.temperature == 1


def test_a_training_that_continues_a_calibrated_adapter_starts_without_its_temperature(
    small_backbone, class_folder
):
    weights = []
    for temperature in (1.0, 2.0):
        classifier = Classifier.create(small_backbone, classes=["bright", "dark"], method="linear")
        classifier.head.temperature = temperature
        train(classifier, class_folder, QUICK)
        weights.append(classifier.head.linear.weight)
    assert torch.equal(*weights)


def test_adapters_of_older_versions_have_temperature_1_and_a_wrong_one_is_refused(calibrated, tmp_path):
    classifier, _, _ = calibrated
    classifier.save(tmp_path / "adapter")
    path = tmp_path / "adapter/adapter_config.json"
    config = json.loads(path.read_text())
    del config["temperature"]
    path.write_text(json.dumps(config))
    assert videossp.load(tmp_path / "adapter").head.temperature == 1
    for wrong in (0, -1, "hot", None, 1e999):
        path.write_text(json.dumps(config | {"temperature": wrong}))
        with pytest.raises(WeightsError, match="config is damaged"):
            videossp.load(tmp_path / "adapter")


def test_eval_prints_the_calibration_error(calibrated, class_folder, call):
    _, folder, _ = calibrated
    code, out, _ = call("eval", folder, class_folder)
    result = evaluate(videossp.load(folder), read_data(class_folder).splits["test"])
    assert code == 0 and f"calibration error {100 * result.reliability.error:.1f} %" in out


def test_runs_of_older_versions_count_as_runs_without_a_temperature():
    settings = {"training": {"epochs": 3}}
    assert comparable(settings)["training"]["calibrate"] is False
    assert comparable({"training": {"epochs": 3, "calibrate": True}})["training"]["calibrate"] is True


def test_a_refused_resume_leaves_the_temperature(small_backbone, class_folder, tmp_path):
    def made():
        return Classifier.create(small_backbone, classes=["bright", "dark"], method="linear")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "end_epoch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(made(), class_folder, QUICK, out=tmp_path / "run")
    classifier = made()
    classifier.head.temperature = 2.0
    with pytest.raises(ValueError, match="these settings differ"):
        train(classifier, class_folder, replace(QUICK, lr=0.5), out=tmp_path / "run", resume=True)
    assert classifier.head.temperature == 2.0
