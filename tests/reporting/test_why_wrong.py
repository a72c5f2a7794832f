"""`eval --report` explains wrong predictions: maps of both classes, nearest clips, deciding frames."""

import json
import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from conftest import switch_on
from videossp.classifier import Classifier
from videossp.data.clips import read_views
from videossp.data.datasets import read_data
from videossp.embedding.neighbourhood import Neighbourhood
from videossp.explanation.explain import explain
from videossp.inference.evaluate import evaluate
from videossp.reporting.why_wrong import deciding, explain_wrong, spread_out, wrong_samples


@pytest.fixture
def classifier(small_backbone):
    """Takes almost every video for a dark one."""
    classifier = Classifier.create(small_backbone, classes=["bright", "dark"], method="linear")
    switch_on(classifier)
    classifier.head.linear.bias.data[1] += 1
    return classifier.eval()


@pytest.fixture
def evaluation(classifier, class_folder):
    return evaluate(classifier, read_data(class_folder).splits["test"])


def test_the_wrong_predictions_come_in_the_order_of_their_confidence(evaluation):
    wrong = wrong_samples(evaluation)
    assert {i for i, hit in enumerate(evaluation.hits) if not hit} == set(wrong) != set()
    confidence = evaluation.scores.max(1).values[wrong].tolist()
    assert confidence == sorted(confidence, reverse=True)


def test_each_wrong_video_has_both_classes_and_the_nearest_clips(classifier, class_folder, evaluation):
    training = read_data(class_folder).splits["train"]
    page = "\n".join(explain_wrong(classifier, evaluation, training, most=2))
    wrong = [evaluation.samples[i] for i in wrong_samples(evaluation)]
    titles = [f"{x.name}: is {classifier.classes[x.label]}, predicted as dark" for x in wrong[:2]]
    assert re.findall("<h3>(.*)</h3>", page) == titles and f"2 of {len(wrong)} wrong predictions" in page
    # The neighbours are those of features that are computed one by one.
    vectors = torch.cat(
        [classifier.features(read_views(x.path, classifier.clip_format)) for x in [*training, wrong[0]]]
    )
    similar = F.normalize(vectors.detach(), dim=1) @ F.normalize(vectors[-1].detach(), dim=0)
    for label, name in enumerate(classifier.classes):
        own = [i for i, x in enumerate(training) if x.label == label]
        best = sorted(own, key=lambda i: -similar[i])[:2]
        found = re.findall(rf"training clip of {name}, similarity ([\d.]+): (\S+)</figcaption>", page)[:2]
        assert [x for _, x in found] == [training[i].name for i in best]
        assert [float(x) for x, _ in found] == pytest.approx([similar[i].item() for i in best], abs=1e-3)


def test_without_training_videos_or_wrong_ones_the_page_says_so(classifier, evaluation):
    page = "\n".join(explain_wrong(classifier, evaluation, [], most=1))
    assert (
        "there is no training split beside the evaluated videos" in page
        and "training clip of" not in page
        and page.count("<h3>") == 1
    )
    right = [i for i, hit in enumerate(evaluation.hits) if hit][:1]
    only = type(evaluation)(
        evaluation.classes,
        tuple(evaluation.samples[i] for i in right),
        evaluation.view_scores[right],
        {},
        (1, 1),
    )
    assert "No prediction is wrong" in "".join(explain_wrong(classifier, only, [], most=1))


def test_training_clips_that_cannot_be_decoded_are_no_neighbours(classifier, class_folder, tmp_path):
    training = read_data(class_folder).splits["train"]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    damaged = [replace(training[0], path=str(broken)), *training]
    vector = torch.randn(32)
    found = Neighbourhood(classifier, damaged).nearest(vector, 0, 20)
    assert len(found) == 8 and broken not in {x.path for x, _ in found}
    assert Neighbourhood(classifier, []).nearest(vector, 0, 2) == []


def test_deciding_frames_are_named_with_the_class_without_them(classifier, class_folder):
    x = explain(classifier, class_folder / "test/bright/0.mp4", target="bright", steps=1)
    object.__setattr__(x, "without_frame", ("dark", "bright", "dark", "dark"))
    assert x.label == "dark"
    assert deciding(x) == (
        "Frames that decide (dark with all frames): "
        f"without the frame at {x.seconds[1]:.2f} s: bright, which is correct."
    )
    object.__setattr__(x, "without_frame", ("dark",) * 4)
    assert deciding(x) == "No single frame decides: without any one of them, the prediction stays dark."


def test_eval_writes_the_explanations_into_its_report(call, classifier, class_folder, tmp_path):
    classifier.save(tmp_path / "adapter")
    report = "--report", tmp_path / "x.html"
    code, out, err = call("eval", tmp_path / "adapter", class_folder, *report, "--json")
    wrong = round(8 * (1 - json.loads(out)["top1"]))
    page = (tmp_path / "x.html").read_text()
    assert code == 0 and page.count("<h3>") == wrong > 0, err
    call("eval", tmp_path / "adapter", class_folder, *report, "--explain", 1)
    assert (tmp_path / "x.html").read_text().count("<h3>") == 1
    for arguments in (["--explain", 1], [*report, "--explain", -1]):
        code, _, err = call("eval", tmp_path / "adapter", class_folder, *arguments)
        assert code == 2 and "it needs --report" in err


def test_a_video_is_no_neighbour_of_itself(call, classifier, class_folder, tmp_path):
    classifier.save(tmp_path / "adapter")
    for arguments in ([class_folder, "--split", "train"], [class_folder / "train"]):
        code, *_ = call(
            "eval", tmp_path / "adapter", *arguments, "--report", tmp_path / "x.html", "--explain", 1
        )
        page = (tmp_path / "x.html").read_text()
        assert code == 0 and "similarity" not in page and "there is no training split beside" in page


def test_a_clip_that_is_predicted_otherwise_than_its_video_says_so(classifier, class_folder, evaluation):
    wrong = wrong_samples(evaluation)[0]
    scores = evaluation.view_scores.clone()
    scores[:, :, 0], scores[:, :, 1] = 0.9, 0.1  # of other views: all are bright
    other = replace(evaluation, view_scores=scores, views=(2, 3))
    page = "\n".join(explain_wrong(classifier, other, [], most=1))
    assert "is dark, predicted as bright" in page and evaluation.samples[wrong].label == 0
    assert "This clip alone is predicted as dark; the mean of 2 x 3 views is bright." in page


def test_a_video_that_is_gone_is_named(classifier, class_folder, evaluation, tmp_path):
    gone = [replace(x, path=str(tmp_path / "gone.mp4")) for x in evaluation.samples]
    page = "\n".join(explain_wrong(classifier, replace(evaluation, samples=tuple(gone)), [], most=2))
    assert page.count("not explained: ") == 2 and "gone.mp4: no such file" in page


def test_at_most_a_hundred_training_videos_of_a_class_are_compared():
    assert spread_out(range(7)) == [*range(7)]
    spread = spread_out(range(250))
    assert len(spread) == 100 and spread[0] == 0 and spread[-1] >= 247 and spread == sorted({*spread})


def test_a_report_whose_explanations_are_interrupted_has_the_rest(
    call, classifier, class_folder, tmp_path, monkeypatch
):
    classifier.save(tmp_path / "adapter")

    def press(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("videossp.reporting.why_wrong.explain_wrong", press)
    report = "--report", tmp_path / "x.html"
    assert call("eval", tmp_path / "adapter", class_folder, *report, "--explain", 0)[0] == 0  # not called
    (tmp_path / "x.html").unlink()
    assert call("eval", tmp_path / "adapter", class_folder, *report)[0] == 130
    assert "Confusion matrix" in (tmp_path / "x.html").read_text()
