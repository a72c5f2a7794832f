"""`explain`: the prediction, the class, times, arrays and errors."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import clip_of, made

import videossp
from conftest import SMALL, numbered_frames, switch_on, write_video
from videossp.data.clips import read_views
from videossp.data.video import read_video
from videossp.explanation.explain import ExplainSettings, explain, explain_classes


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    rng = np.random.default_rng(0)
    frames = numbered_frames(16) // 2 + rng.integers(0, 100, (16, 48, 64, 3), dtype=np.uint8)
    write_video(path, frames, rate=8)
    return path


def test_the_predicted_class_is_explained_and_the_probabilities_are_those_of_predict(video):
    classifier = made("ssp")
    found = explain(classifier, video)
    expected = classifier.predict(video)[0]
    assert [*found.probabilities] == [*expected.probabilities]
    assert found.probabilities == pytest.approx(expected.probabilities, rel=1e-4)
    assert found.target == found.label == expected.label and found.path == str(video)
    assert found.map.shape == (SMALL.frames, *SMALL.grid) and found.frame_drops.shape == (SMALL.frames,)
    assert found.mechanism == () and found.faithfulness is None
    # Frames at the middles of four parts of 16 frames, at eight frames a second.
    assert found.seconds == pytest.approx([2 / 8, 6 / 8, 10 / 8, 14 / 8])
    raw = read_views(str(video), classifier.clip_format, raw=True)[0]
    np.testing.assert_array_equal(found.frames, raw.permute(1, 2, 3, 0).numpy())


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_video_path_uint8_clip_and_normalised_clip_have_the_same_explanation(video, method):
    classifier = made("ssp")
    raw = read_views(str(video), classifier.clip_format, raw=True)[0]
    normal = read_views(str(video), classifier.clip_format)[0]
    first = explain(classifier, video, method=method, steps=4)
    for other in (read_video(video), raw, normal):
        found = explain(classifier, other, method=method, steps=4)
        np.testing.assert_allclose(found.map, first.map, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.frame_drops, first.frame_drops, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(found.frames, first.frames)
    assert found.seconds is None and found.path is None


def test_another_class_and_several_classes_at_once(video):
    classifier = made("ssp")
    together = explain_classes(
        classifier, video, ["c", "a"], ExplainSettings(steps=3, baseline="mean_colour")
    )
    for found in together:
        alone = explain(classifier, video, target=found.target, steps=3, baseline="mean_colour")
        np.testing.assert_allclose(found.map, alone.map, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(found.frame_drops, alone.frame_drops, rtol=1e-4, atol=1e-6)
        assert found.change == pytest.approx(alone.change) and found.gap == pytest.approx(alone.gap, rel=0.01)
    assert [x.target for x in together] == ["c", "a"] and together[0].passes in (
        (2 + 4 + 3, 6),
        (2 + 4 + 9, 18),
    )


def test_change_and_gap_are_those_of_the_logits():
    classifier, clip = made("ssp"), clip_of()
    found = explain(classifier, clip, target="b", baseline="mean_colour", steps=2)
    with torch.no_grad():
        logits = classifier(torch.stack([clip, torch.zeros_like(clip)]))[:, 1]
    change = (logits[0] - logits[1]).item()
    assert found.change == pytest.approx(change, rel=1e-4)
    assert found.gap == pytest.approx(abs(found.map.sum() - change) / abs(change), rel=1e-3)


def test_frames_that_decide_are_those_without_which_another_class_is_predicted():
    classifier, clip = made("ssp"), clip_of()
    found = explain(classifier, clip, baseline="mean_colour", steps=1)
    for t in range(SMALL.frames):
        edited = clip.clone()
        edited[:, t] = 0
        with torch.no_grad():
            logits = classifier(edited[None])[0]
        assert found.without_frame[t] == classifier.classes[int(logits.argmax())]
        log_p = logits.log_softmax(-1)[classifier.classes.index(found.target)].item()
        with torch.no_grad():
            before = classifier(clip[None])[0].log_softmax(-1).max().item()
        assert found.frame_drops[t] == pytest.approx(before - log_p, abs=1e-5)
    assert found.deciding_frames == [t for t, x in enumerate(found.without_frame) if x != found.label]


def test_a_part_of_a_video_keeps_the_times_of_the_file(video):
    found = explain(made("linear"), read_video(video, 1.0, 2.0), steps=1)
    assert found.seconds == pytest.approx([1 + x / 8 for x in (1, 3, 5, 7)])


def test_a_folder_of_frames_has_no_times(tmp_path):
    from matplotlib.image import imsave

    for i in range(4):
        imsave(tmp_path / f"{i:03}.png", np.full((40, 40, 3), 60 * i, np.uint8))
    assert explain(made("linear"), tmp_path, steps=1).seconds is None


def test_the_arrays_of_the_file_are_those_of_the_explanation(video, tmp_path):
    found = explain(made("ssp"), video, steps=2, mechanism=True, check=True)
    found.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as file:
        np.testing.assert_array_equal(file["map"], found.map)
        np.testing.assert_array_equal(file["frames"], found.frames)
        np.testing.assert_array_equal(file["frame_drops"], found.frame_drops)
        summary = json.loads(str(file["summary"]))
        for i, x in enumerate(found.mechanism):
            np.testing.assert_array_equal(file[f"mechanism_{i}"], x.values.numpy())
            assert summary["mechanism"][i] == {"name": x.name, "per": x.per}
    assert summary["target"] == found.target and summary["gap"] == found.gap
    assert summary["insertion"] == found.faithfulness.insertion


def test_the_explanation_ignores_batch_mates_and_grad_mode(video):
    classifier = made("ssp")
    first = explain(classifier, video, steps=2)
    with torch.no_grad():
        other = explain(classifier, video, steps=2, batch_size=1)
    np.testing.assert_allclose(first.map, other.map, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(first.frame_drops, other.frame_drops, rtol=1e-4, atol=1e-5)


def test_a_classifier_in_training_is_explained_in_eval_mode_and_can_still_train(video, small_backbone):
    classifier = videossp.Classifier.create(small_backbone, num_classes=2, method="linear", dropout=0.5)
    switch_on(classifier)
    classifier.train()
    first, again = (explain(classifier, video, steps=2) for _ in range(2))
    np.testing.assert_array_equal(first.map, again.map)
    classifier.train()(torch.zeros(1, 3, SMALL.frames, *SMALL.size)).sum().backward()
    assert all(x.grad is not None for x in classifier.trainable().values())


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_maps_are_finite_in_the_precision_of_the_classifier(video, precision):
    found = explain(made("ssp").to_precision(precision), video, steps=2, mechanism=True)
    assert np.isfinite(found.map).all() and found.map.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "d"}, "no class 'd'; the classes are a, b, c"),
        ({"method": "saliency"}, "method is integrated_gradients or occlusion, got 'saliency'"),
        ({"baseline": "black"}, "baseline is mean_colour or median_frame or both, got 'black'"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused_before_the_video_is_read(arguments, message):
    with pytest.raises(ValueError, match=message):
        explain(made("linear"), "nothing.mp4", **arguments)


def test_a_clip_of_another_shape_and_a_missing_video_are_refused():
    with pytest.raises(
        ValueError, match=r"must be \(3, frames, height, width\) = \(3, 4, 32, 32\), got \(1,"
    ):
        explain(made("linear"), clip_of()[None])
    with pytest.raises(videossp.DataError, match=r"nothing\.mp4: no such file"):
        explain(made("linear"), "nothing.mp4")


def test_weights_that_are_not_finite_are_an_error(video):
    classifier = made("linear")
    classifier.head.linear.weight.data[0] = float("nan")
    with pytest.raises(FloatingPointError):
        explain(classifier, video)


def test_a_clip_without_changes_has_no_map_from_its_median_frame_and_a_warning_says_so():
    clip = clip_of()[:, :1].expand(-1, SMALL.frames, -1, -1).contiguous()
    with pytest.warns(videossp.VideoSSPWarning, match="use baseline mean_colour"):
        found = explain(made("ssp"), clip, steps=2, baseline="median_frame")
    assert not found.map.any() and found.change == found.gap == 0 and not found.frame_drops.any()
    assert explain(made("ssp"), clip, baseline="mean_colour", steps=2).map.any()


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_with_both_baselines_the_map_is_the_mean_of_both_maps(method):
    classifier, clip = made("ssp"), clip_of()
    colour, frame, both = (
        explain(classifier, clip, method=method, baseline=x, steps=3)
        for x in ("mean_colour", "median_frame", "both")
    )
    np.testing.assert_allclose(both.map, (colour.map + frame.map) / 2, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(both.frame_drops, frame.frame_drops, rtol=1e-4, atol=1e-6)
    assert both.change == pytest.approx((colour.change + frame.change) / 2, rel=1e-4)
    assert both.without_frame == frame.without_frame
    windows = 0 if method == "integrated_gradients" else SMALL.frames
    steps = both.passes[1]  # 3 for a baseline, or three times as many
    assert (
        both.passes[0] == 3 + SMALL.frames + 2 * windows + steps
        and steps == colour.passes[1] + frame.passes[1]
    )


def test_clips_of_inference_mode_and_clips_with_gradients_are_explained():
    classifier, clip = made("ssp"), clip_of()
    expected = explain(classifier, clip, steps=2).map
    with torch.inference_mode():
        found = explain(classifier, clip_of(), steps=2).map
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(explain(classifier, clip.requires_grad_(), steps=2).map, expected)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (
            torch.ones(3, 4, 32, 32, dtype=torch.int64),
            "must be uint8 pixels or normalised floats, got torch.int64",
        ),
        (torch.full((3, 4, 32, 32), float("nan")), "the clip to explain has values that are not finite"),
    ],
)
def test_tensors_that_are_no_clips_are_refused(clip, message):
    with pytest.raises(ValueError, match=message):
        explain(made("linear"), clip)


def test_of_many_classes_the_nearest_names_are_given(small_backbone):
    classifier = videossp.Classifier.create(
        small_backbone, classes=[f"class {i}" for i in range(400)], method="linear"
    )
    with pytest.raises(ValueError, match=r"no class 'klass 7' among 400; the nearest are class 7, ") as error:
        explain(classifier, clip_of(), target="klass 7")
    assert len(str(error.value)) < 120


def test_the_sum_is_off_if_its_error_is_large_also_beside_values_that_cancel():
    found = explain(made("ssp"), clip_of(), steps=2)
    off = replace(found, map=np.full_like(found.map, 1.0), change=float(found.map.size) / 2, gap=1.0)
    assert off.sum_is_off and not replace(off, gap=None).sum_is_off
    cancelling = np.full_like(found.map, 1.0)
    cancelling[::2] = -1.0
    assert not replace(off, map=cancelling, change=0.1).sum_is_off  # the gap is 100 % of almost nothing
