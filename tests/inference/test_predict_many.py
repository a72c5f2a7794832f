"""Many videos: several per pass, decoded ahead, in their order; neighbours change nothing."""

import os
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import torch

import videossp
from conftest import SSP_SMALL, switch_on, write_video
from videossp.classifier import Classifier
from videossp.data.clips import read_views
from videossp.errors import DataError
from videossp.inference.decode_ahead import Reading, decode_ahead
from videossp.inference.predict import predict_each

BROKEN = (3, 4)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Twelve videos; 3 and 4 are broken."""
    folder = tmp_path_factory.mktemp("videos")
    for i in range(12):
        frames = np.random.default_rng(i).integers(0, 256, (6, 32, 40, 3), dtype=np.uint8)
        write_video(folder / f"{i:02}.mp4", frames)
    for i in BROKEN:
        (folder / f"{i:02}.mp4").write_bytes(b"no video")
    return sorted(map(str, folder.iterdir()))


@contextmanager
def crashing(name):
    """A file that ends its worker as a crash of a decoder does."""
    if name.endswith("05.mp4"):
        os.kill(os.getpid(), signal.SIGSEGV)
    yield name


def each(classifier, videos, **options):
    return [x for (x,) in predict_each([classifier], videos, on_error="skip", **options)]


def test_predictions_are_in_order_and_neighbours_and_batches_change_only_rounding(small_classifier, videos):
    alone = [small_classifier.predict([x], on_error="skip")[0] for x in videos]
    for options in ({}, {"batch_size": 3}, {"batch_size": 1}, {"workers": 2, "batch_size": 4}):
        results = each(small_classifier, videos, **options)
        assert [x.path for x in results] == videos
        assert [x.error for x in results] == [x.error for x in alone]
        assert [i for i, x in enumerate(results) if x.error] == [*BROKEN]
        for one, other in zip(alone, results, strict=True):
            assert one.label == other.label
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_at_one_batch_shape_predictions_are_equal_to_the_bit(small_classifier, videos):
    """Six good videos make two passes of three, in any order and whoever decodes."""
    good = [x for i, x in enumerate(videos) if i not in BROKEN][:6]
    expected = {x.path: x for x in each(small_classifier, good, batch_size=3)}
    for order, options in ((good[::-1], {}), (good[3:] + good[:3], {"workers": 1})):
        assert {x.path: x for x in each(small_classifier, order, batch_size=3, **options)} == expected


def test_a_method_that_mixes_the_clips_of_a_batch_gets_one_video_at_a_time(small_backbone, videos):
    options = {**SSP_SMALL, "importance": "batch"}
    classifier = Classifier.create(small_backbone, classes=["a", "b"], **options)
    switch_on(classifier)
    alone = [x for video in videos for x in each(classifier, [video])]
    assert each(classifier, videos) == alone
    views = read_views(videos[0], classifier.clip_format, 2, 3, raw=True)
    expected = classifier.probabilities(views).mean(0)  # passes of four views and of two
    (found,) = each(classifier, videos[:1], segments=2, crops=3)
    assert [found.probabilities[x] for x in classifier.classes] == expected.tolist()


def test_a_crash_of_the_decoder_is_the_error_of_one_video(small_classifier, videos):
    results = each(small_classifier, videos, fetch=crashing, workers=2)
    assert [x.path for x in results] == videos
    assert results[5].error == f"{videos[5]}: the process that read it died (SIGSEGV)"
    assert [i for i, x in enumerate(results) if x.error] == [*BROKEN, 5]


def test_videos_are_taken_and_decoded_only_as_far_ahead_as_is_needed(small_classifier, videos):
    taken = []
    good = [x for i, x in enumerate(videos) if i not in BROKEN]

    def names():
        for x in 10 * good:
            taken.append(x)
            yield x

    for workers, most in ((0, 3), (1, 3 + 2 * 2 + 1)):
        taken.clear()
        results = predict_each([small_classifier], names(), batch_size=2, workers=workers)
        for number, _ in zip(range(1, 20), results):  # noqa: B905
            assert len(taken) <= number + most
        results.close()


def test_several_adapters_decode_each_video_once(small_backbone, videos, tmp_path):
    several = [Classifier.create(small_backbone, num_classes=2 + i, method="linear") for i in range(3)]
    for i, x in enumerate(several):
        switch_on(x, seed=i)
    opened = tmp_path / "opened"
    fetch = Logged(str(opened))
    results = list(predict_each(several, videos, on_error="skip", fetch=fetch))
    assert opened.read_text().splitlines() == videos
    for i, classifier in enumerate(several):
        assert [x[i] for x in results] == each(classifier, videos)


class Logged:
    """Writes the name of each video that is opened."""

    def __init__(self, file):
        self.file = file

    @contextmanager
    def __call__(self, name):
        with open(self.file, "a") as file:
            print(name, file=file)
        yield name


@pytest.mark.parametrize("difference", ["frames", "views", "device"])
def test_adapters_that_read_clips_differently_are_refused(small_backbone, videos, difference):
    one = Classifier.create(small_backbone, num_classes=2, method="linear")
    changes = {"frames": {"frames": 2}, "views": {"views": (2, 1)}, "device": {}}[difference]
    other = Classifier.create(small_backbone, num_classes=2, method="linear", **changes)
    if difference == "device":
        other = other.to("meta")
    message = {"frames": "read different clips", "views": "give segments and crops", "device": "cpu and meta"}
    with pytest.raises(ValueError, match=message[difference]):
        next(predict_each([one, other], videos))
    if difference == "views":
        assert len(next(predict_each([one, other], videos, segments=1, on_error="skip"))) == 2


def test_the_first_broken_video_stops_or_is_skipped(small_classifier, videos):
    with pytest.raises(DataError, match="03.mp4"):
        videossp.predict(small_classifier, videos)
    assert len(videossp.predict(small_classifier, videos, on_error="skip")) == 12


def test_views_that_were_decoded_ahead_are_those_of_this_process(small_classifier, videos):
    reading = Reading(small_classifier.clip_format, 2, 3)
    here, there = (list(decode_ahead(videos, reading, workers=x, timeout=300)) for x in (0, 1))
    for one, other in zip(here, there, strict=True):
        assert one[0] == other[0] and one[2] == other[2]
        assert (one[1] is None and other[1] is None) or torch.equal(one[1], other[1])
