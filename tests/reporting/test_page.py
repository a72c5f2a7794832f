"""The page of a training or an evaluation shows the results, and the frames that the model saw."""

import base64
import io
import os
import re

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from videossp.data.clips import read_views
from videossp.data.datasets import read_data
from videossp.data.sampling import ClipFormat
from videossp.inference.evaluate import Evaluation
from videossp.reporting.page import STRIPS, write_report

FORM = ClipFormat(4, (32, 32))
SCORES = [(0.9, 0.1), (0.6, 0.4), (0.3, 0.7), (0.8, 0.2), (0.45, 0.55), (0.05, 0.95), (0.2, 0.8), (0.4, 0.6)]


@pytest.fixture
def evaluation(class_folder):
    """Four videos of bright, two of them predicted dark, and four of dark, one of them predicted bright."""
    data = read_data(class_folder)
    scores = torch.tensor(SCORES)[:, None]
    samples = sorted(data.splits["test"], key=lambda x: x.name)
    assert [x.label for x in samples] == [0] * 4 + [1] * 4
    return Evaluation(("bright", "dark"), tuple(samples), scores[[0, 1, 2, 4, 3, 5, 6, 7]], {}, (1, 1))


def pictures(page, kind):
    """The images of a class, as arrays of uint8."""
    images = re.findall(rf'class="{kind}" src="data:image/png;base64,([^"]+)"', page)
    return [np.round(255 * imread(io.BytesIO(base64.b64decode(x)))).astype(np.uint8)[..., :3] for x in images]


def write(tmp_path, evaluation, **more):
    write_report(tmp_path / "a.html", "A title", {"top-1": "62.5 %"}, {"ssp": evaluation}, FORM, **more)
    return (tmp_path / "a.html").read_text()


def test_predictions_have_probabilities_and_the_most_confident_of_each_class_come_first(tmp_path, evaluation):
    page = write(tmp_path, evaluation)
    parts = page.split("<h2>Correct")[1].split("<h2>Wrong")
    shown = [re.findall(r"</b>: (\w+) \(.*?\), predicted (.*?)</figcaption>", part) for part in parts]
    assert shown == [
        [
            ("dark", "dark 95.0 %, bright 5.0 %"),
            ("bright", "bright 90.0 %, dark 10.0 %"),
            ("dark", "dark 80.0 %, bright 20.0 %"),
            ("bright", "bright 60.0 %, dark 40.0 %"),
            ("dark", "dark 60.0 %, bright 40.0 %"),
        ],
        [
            ("dark", "bright 80.0 %, dark 20.0 %"),
            ("bright", "dark 70.0 %, bright 30.0 %"),
            ("bright", "dark 55.0 %, bright 45.0 %"),
        ],
    ]
    assert len(shown[0]) <= STRIPS


def test_a_strip_shows_the_frames_that_the_model_saw(tmp_path, evaluation):
    first = pictures(write(tmp_path, evaluation), "strip")[0]
    clip = read_views(evaluation.samples[5].path, FORM)[0]  # the most confident
    mean, std = (np.array(x)[:, None, None, None] for x in (FORM.mean, FORM.std))
    frames = (255 * (clip.numpy() * std + mean)).transpose(1, 2, 3, 0)
    assert first.shape == (32, 4 * 32 + 3 * 2, 3)
    for k, frame in enumerate(frames):
        shown = first[:, k * 34 : k * 34 + 32]
        assert np.abs(shown - np.clip(frame, 0, 255)).max() <= 0.51


def test_names_are_text_not_markup(tmp_path, evaluation):
    renamed = Evaluation(("<b>", "dark & $x$"), *list(evaluation.__dict__.values())[1:5])
    page = write(tmp_path, renamed)
    assert "&lt;b&gt; (bright/" in page.replace("test/", "") and "(<b>" not in page
    assert "dark &amp; $x$ 95.0 %" in page


def test_control_characters_in_names_are_escaped(tmp_path, evaluation):
    undecodable = os.fsdecode(b"\xff")  # a name of a folder that is no UTF-8
    renamed = Evaluation(
        (f"esc\x1b[31m{undecodable}", "two\nlines"), *list(evaluation.__dict__.values())[1:5]
    )
    page = write(tmp_path, renamed)
    assert r"esc\x1b[31m\udcff (bright/" in page.replace("test/", "") and r"two\nlines 95.0 %" in page
    assert "\x1b" not in page


def test_a_video_that_was_not_decoded_has_no_strip(tmp_path, evaluation):
    lost = Evaluation(
        evaluation.classes,
        evaluation.samples,
        evaluation.view_scores,
        {evaluation.samples[5].name: "x"},
        (1, 1),
    )
    assert len(pictures(write(tmp_path, lost), "strip")) == 7


def test_no_wrong_predictions_are_reported_as_none(tmp_path, evaluation):
    kept = [i for i in range(8) if evaluation.scores[i].argmax() == evaluation.samples[i].label]
    samples = tuple(evaluation.samples[i] for i in kept)
    page = write(tmp_path, Evaluation(evaluation.classes, samples, evaluation.view_scores[kept], {}, (1, 1)))
    assert "<p>None.</p>" in page.split("<h2>Wrong")[1] and "<p>None.</p>" not in page.split("<h2>Wrong")[0]


def test_accuracy_by_class_is_the_share_of_its_videos(evaluation):
    assert evaluation.counts.tolist() == [4, 4]
    assert evaluation.class_accuracy.tolist() == [0.5, 0.75]


def test_the_page_is_self_contained(tmp_path, evaluation):
    rows = [{"epoch": k, "loss": 1 / k, "val_top1": 0.5} for k in (1, 2)]
    page = write(tmp_path, evaluation, histories={"ssp": rows})
    assert all(x.startswith("data:image/png;base64,") for x in re.findall(r'src="([^"]*)"', page))
    assert "http" not in page and "<h2>Learning curves</h2>" in page and "62.5 %" in page
