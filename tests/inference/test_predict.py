"""Predictions: one type, one rule for broken videos, the views and the precision of the adapter."""

import copy
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import videossp
from conftest import write_video
from videossp.data.clips import read_views
from videossp.errors import DataError
from videossp.inference.evaluate import evaluate
from videossp.inference.predict import Prediction


@pytest.fixture
def folder(tmp_path):
    """a.mp4, sub/b.mp4, and bad.mp4, which is no video."""
    for i, name in enumerate(("a.mp4", "sub/b.mp4")):
        frames = np.random.default_rng(i).integers(0, 256, (8, 40, 60, 3), dtype=np.uint8)
        write_video(tmp_path / name, frames)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    return tmp_path


def test_both_ways_to_predict_give_the_same(small_classifier, folder):
    paths = [folder / "a.mp4", str(folder / "sub")]
    for arguments in ({}, {"segments": 2, "crops": 3}):
        results = videossp.predict(small_classifier, paths, **arguments)
        assert results == small_classifier.predict(paths, **arguments)
        assert [x.path for x in results] == [str(folder / "a.mp4"), str(folder / "sub/b.mp4")]
        assert all(type(x) is Prediction and x.error is None for x in results)


def test_probabilities_are_those_of_the_views_most_probable_first(small_classifier, folder):
    (result,) = small_classifier.predict(folder / "a.mp4", segments=2, crops=3)
    views = read_views(str(folder / "a.mp4"), small_classifier.clip_format, 2, 3)
    with torch.no_grad():
        scores = torch.cat([small_classifier(view[None]).softmax(-1) for view in views]).mean(0)
    expected = dict(zip("abc", scores.tolist(), strict=True))
    assert result.probabilities == pytest.approx(expected, abs=1e-6)
    assert list(result.probabilities) == sorted(expected, key=expected.get, reverse=True)
    assert result.label == max(expected, key=expected.get)
    assert result.probability == result.probabilities[result.label] == max(result.probabilities.values())


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_a_single_path_is_one_path(small_classifier, folder, kind, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "a").mkdir()  # letters of the name must not be taken for paths
    (result,) = videossp.predict(small_classifier, kind("a.mp4"))
    assert result.path == "a.mp4" and (result,) == tuple(small_classifier.predict([kind("a.mp4")]))


def test_a_broken_video_stops_or_carries_its_error(small_classifier, folder):
    for predict in (small_classifier.predict, lambda *a, **k: videossp.predict(small_classifier, *a, **k)):
        with pytest.raises(DataError, match="bad.mp4"):
            predict([folder])
        results = predict([folder], on_error="skip")
        assert [Path(x.path).name for x in results] == ["a.mp4", "bad.mp4", "b.mp4"]
        broken = results[1]
        assert "bad.mp4" in broken.error and broken.probabilities == {}
        assert broken.label is None and broken.probability is None
        for on_error in ("error", "skip"):
            with pytest.raises(DataError, match="nowhere: no such file or folder"):
                predict(["nowhere"], on_error=on_error)
        with pytest.raises(ValueError, match="on_error is error or skip, got 'ignore'"):
            predict([folder], on_error="ignore")
    with pytest.raises(ValueError, match="on_error is error or skip"):
        evaluate(small_classifier, [videossp.Sample("a", "a", 0)], on_error="ignore")


@pytest.mark.parametrize("views", [(2, 3), (1, 2)])
def test_the_views_of_the_adapter_are_the_default(small_classifier, folder, tmp_path, views):
    small_classifier.clip_format = replace(small_classifier.clip_format, views=views)
    small_classifier.save(tmp_path / "adapter")
    loaded = videossp.load(tmp_path / "adapter")
    default = loaded.predict(folder / "a.mp4")
    assert default == loaded.predict(folder / "a.mp4", segments=views[0], crops=views[1])
    assert default != loaded.predict(folder / "a.mp4", segments=1, crops=1)
    scores = evaluate(loaded, [videossp.Sample(str(folder / "a.mp4"), "a", 0)]).scores[0]
    assert default[0].probabilities == pytest.approx(dict(zip("abc", scores.tolist(), strict=True)), abs=1e-6)


def test_the_precision_of_the_training_is_the_default(small_classifier, folder, tmp_path):
    exact = small_classifier.predict(folder / "a.mp4")
    copy.deepcopy(small_classifier).to_precision("bf16").save(tmp_path / "adapter")  # as `train` does
    loaded = videossp.load(tmp_path / "adapter")
    rounded = small_classifier.to_precision("bf16").predict(folder / "a.mp4")
    assert loaded.predict(folder / "a.mp4") == rounded != exact
    assert loaded.to_precision("float32").predict(folder / "a.mp4") == exact
