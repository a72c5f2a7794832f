"""Views in passes: as many as fit, halved where they do not; raw views; results that are read late."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conftest import SMALL, SSP_SMALL, switch_on, write_video
from videossp.classifier import Classifier
from videossp.data.clips import EvalViews, read_views
from videossp.data.crop import normalise_views, to_clip
from videossp.data.datasets import Sample
from videossp.data.sampling import ClipFormat
from videossp.errors import OutOfMemoryError
from videossp.inference import passes as module
from videossp.inference.evaluate import evaluate
from videossp.inference.passes import Passes, bytes_of_view, scoring, views_that_fit
from videossp.model.config import BACKBONES

CUDA = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB"


@pytest.fixture
def samples(tmp_path):
    """Seven videos, the third of which is broken."""
    found = []
    for k in range(7):
        path = tmp_path / f"{k}.mp4"
        frames = np.random.default_rng(k).integers(0, 256, (8, 40, 60, 3), dtype=np.uint8)
        if k == 2:
            path.write_bytes(b"no video")
        else:
            write_video(path, frames)
        found.append(Sample(str(path), path.name, k % 3))
    return found


@pytest.fixture
def limited(small_classifier):
    """A function that lets the classifier run out of memory above a number of views; gives those it tried."""

    def limit(most, error=torch.OutOfMemoryError, text=CUDA):
        tried, real = [], small_classifier.backbone.forward

        def forward(clip, *rest):
            tried.append(len(clip))
            if len(clip) > most:
                raise error(text)
            return real(clip, *rest)

        small_classifier.backbone.forward = forward
        return tried

    return limit


def test_passes_that_do_not_fit_are_halved_and_no_result_changes(small_classifier, samples, limited):
    clips = torch.cat([read_views(x.path, small_classifier.clip_format, 2) for x in samples[3:]])
    expected = small_classifier.probabilities(clips, 1)
    tried = limited(3)
    torch.testing.assert_close(small_classifier.probabilities(clips, 8), expected, rtol=0, atol=1e-6)
    assert tried == [8, 4, 2, 2, 2, 2]
    passes = scoring(small_classifier, 7)
    tried.clear()
    for _ in range(2):  # the second call begins with what the first has found
        torch.testing.assert_close(passes(clips).cpu(), expected, rtol=0, atol=1e-6)
    assert tried == [7, 3, 3, 2, 3, 3, 2]
    for size in (0, -1):
        with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {size}"):
            small_classifier.probabilities(clips, size)


@pytest.mark.parametrize("segments", [1, 3])
def test_an_evaluation_that_runs_out_of_memory_ends_with_the_same_scores(
    small_classifier, samples, limited, segments
):
    arguments = {"segments": segments, "on_error": "skip"}
    expected = evaluate(small_classifier, samples, **arguments)
    tried = limited(1)
    result = evaluate(small_classifier, samples, batch_size=6, **arguments)
    torch.testing.assert_close(result.view_scores, expected.view_scores, rtol=0, atol=1e-6)
    assert list(result.failures) == ["2.mp4"] and max(tried) > 1 and tried.count(1) == 6 * segments


def test_one_view_that_does_not_fit_is_one_line_with_the_levers(small_classifier, samples, limited):
    limited(0)
    words = (
        "too little memory on cpu for one view of 4 frames, 32 x 32: --precision bf16 or another --device "
        "helps, or an adapter of fewer --frames or a smaller --size"
    )
    with pytest.raises(OutOfMemoryError, match=f"^{re.escape(words)}$"):
        evaluate(small_classifier, samples[:2])
    with pytest.raises(OutOfMemoryError, match="another --device"):
        small_classifier.predict(samples[0].path)


def test_other_errors_are_not_taken_for_too_little_memory(small_classifier, limited):
    tried = limited(2, RuntimeError, "a CPU without that much memory: out of memory")
    with pytest.raises(RuntimeError, match="without that much"):
        small_classifier.probabilities(torch.zeros(4, 3, 4, 32, 32))
    assert tried == [4]


def test_a_batch_that_mixes_its_clips_is_never_halved(small_backbone, samples):
    classifier = Classifier.create(small_backbone, num_classes=2, importance="batch", **SSP_SMALL)
    sizes = []

    def run(views):
        sizes.append(len(views))
        raise torch.OutOfMemoryError(CUDA)

    with pytest.raises(OutOfMemoryError, match=r"for 4 views .* a smaller --batch-size \(the method mixes"):
        Passes(classifier, run)(torch.zeros(6, 3, 4, 32, 32))
    assert sizes == [4]


def test_items_share_passes_as_far_as_they_fit(small_classifier):
    sizes = []
    passes = Passes(small_classifier, lambda x: (sizes.append(len(x)), x.flatten(1).sum(1))[1], 5)
    views = {name: torch.full((2, 3), float(i)) for i, name in enumerate("abcde")}
    items = [("a", views["a"]), ("none", None), *((name, views[name]) for name in "bcde")]
    found = list(passes.by_item(items))
    assert sizes == [4, 4, 2] and [name for name, _ in found] == ["none", *"abcde"]
    assert all(torch.equal(x, 3 * views[name][:, 0]) for name, x in found if x is not None)
    sizes.clear()
    assert dict(passes.by_item(items, per_batch=3)).keys() == {"none", *"abcde"}
    assert sizes == [4, 5, 1]  # a, b; then c, d, e in passes of at most 5 views


@pytest.mark.parametrize("late", [True, False])
def test_a_batch_is_read_after_the_next_is_queued_only_where_the_device_computes_on(
    small_classifier, monkeypatch, late
):
    events, real = [], module.read_later

    def read_later(x):
        events.append(f"queued {x[0].item():g}")
        return lambda: (events.append(f"read {x[0].item():g}"), real(x)())[1]

    monkeypatch.setattr(module, "reads_late", lambda device: late)
    monkeypatch.setattr(module, "read_later", read_later)
    passes = Passes(small_classifier, lambda x: x[:, 0], 2)
    items = [(i, torch.full((2, 1), float(i))) for i in range(3)]
    assert [(i, x[0].item()) for i, x in passes.by_item(items)] == [(0, 0.0), (1, 1.0), (2, 2.0)]
    in_turn = ["queued 0", "read 0", "queued 1", "read 1", "queued 2", "read 2"]
    assert events == (["queued 0", "queued 1", "read 0", "queued 2", "read 1", "read 2"] if late else in_turn)


@pytest.mark.parametrize("shape", [(32, 32), (40, 60), (57, 33), (20, 90)], ids=str)
@pytest.mark.parametrize("crops", [1, 3])
def test_raw_crops_that_are_normalised_later_have_the_same_digits(shape, crops):
    frames = np.random.default_rng(0).integers(0, 256, (3, *shape, 3), dtype=np.uint8)
    clip_format = ClipFormat(frames=3, size=(32, 32), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    for crop in range(crops):
        raw = to_clip(frames, clip_format, crop, crops, raw=True)
        assert raw.dtype == torch.uint8 and raw.is_contiguous()
        expected = to_clip(frames, clip_format, crop, crops)
        assert torch.equal(normalise_views(raw, clip_format), expected)
        assert torch.equal(normalise_views(torch.stack([raw, raw]), clip_format)[1], expected)


@pytest.mark.parametrize("method", ["ssp", "attentive"])
def test_raw_views_give_the_same_logits_and_features_bit_for_bit(small_backbone, samples, method):
    options = SSP_SMALL if method == "ssp" else {"heads": 4}
    classifier = Classifier.create(small_backbone, num_classes=3, method=method, **options)
    switch_on(classifier)
    raw, views = (read_views(samples[0].path, classifier.clip_format, 2, 3, raw=raw) for raw in (True, False))
    assert raw.dtype == torch.uint8 and raw.shape == views.shape
    assert torch.equal(classifier.probabilities(raw), classifier.probabilities(views))
    with torch.no_grad():
        assert torch.equal(classifier(raw), classifier(views))
        assert torch.equal(classifier.frozen_features(raw), classifier.frozen_features(views))


def test_raw_items_of_a_data_set_are_the_raw_views(small_classifier, samples):
    clip_format = small_classifier.clip_format
    raw = EvalViews(samples, clip_format, 2, 1, raw=True)
    assert torch.equal(raw[0][0], read_views(samples[0].path, clip_format, 2, raw=True))
    assert raw[2][0] is None and "2.mp4" in raw[2][1]
    assert raw.identity(0) == EvalViews(samples, clip_format, 2, 1).identity(0)  # they share cached features


@pytest.mark.parametrize(
    ("free", "unused", "views"),
    [(80e9, 0, 64), (1e6, 0, 1), (0, 0, 1), (20.5 * 2, 0, 20), (10.5 * 2, 10 * 2, 20)],
)
def test_a_gpu_takes_as_many_views_as_half_of_its_free_memory_holds(monkeypatch, free, unused, views):
    config = BACKBONES["videomamba_middle"]
    scale = 1 if free in (80e9, 1e6, 0) else bytes_of_view(config)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free * scale), 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: int(unused * scale) + 5)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5)
    gpu = SimpleNamespace(device=torch.device("cuda", 0), backbone=SimpleNamespace(config=config))
    assert views_that_fit(gpu) == views


def test_the_memory_of_a_view_is_about_that_of_a_forward_pass():
    """Measured by torch's profiler on the CPU, whose kernels keep the same tensors."""
    classifier = Classifier.create(SMALL, num_classes=2).eval()
    views = torch.zeros(4, 3, SMALL.frames, *SMALL.size, dtype=torch.uint8)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.no_grad(), torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        classifier(views)
    events = [x for x in profile.profiler.kineto_results.events() if x.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda x: x.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    assert 0.5 < peak / len(views) / bytes_of_view(SMALL) < 1.5
