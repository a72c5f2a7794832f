"""Figures against arithmetic and torchmetrics; broken videos count; equal names do not collide."""

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import SSP_SMALL, switch_on, write_video
from videossp.classifier import Classifier
from videossp.data.clips import read_views
from videossp.data.datasets import Sample, VideoDataset
from videossp.errors import DataError
from videossp.inference.evaluate import Evaluation, evaluate, relabel


def evaluation(scores, labels, failed=()):
    samples = tuple(Sample(f"/{i}", f"{i}", label) for i, label in enumerate(labels))
    classes = tuple("abcdefg"[: len(scores[0])])
    failures = {f"{i}": "broken" for i in failed}
    return Evaluation(classes, samples, torch.tensor(scores)[:, None], failures, (1, 1))


def test_figures_are_those_of_arithmetic():
    # 7 classes; ranks of the true class: 1, 2, 6, 1
    row = [0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05]
    result = evaluation([row] * 4, [0, 1, 5, 0])
    assert result.top(1) == pytest.approx(2 / 4) and result.top(2) == pytest.approx(3 / 4)
    assert result.top(5) == pytest.approx(3 / 4) and result.top(6) == 1.0
    assert result.mean_class_accuracy == pytest.approx((1 + 0 + 0) / 3)  # over the classes that occur
    assert result.loss == pytest.approx(-np.log([0.3, 0.2, 0.08, 0.3]).mean(), rel=1e-5)
    expected = torch.zeros(7, 7, dtype=torch.long)
    expected[0, 0], expected[1, 0], expected[5, 0] = 2, 1, 1
    assert torch.equal(result.confusion, expected)


def test_a_video_that_failed_counts_as_wrong():
    scores = [[0.9, 0.1], [0.9, 0.1], [0.0, 0.0], [0.1, 0.9]]
    result = evaluation(scores, [0, 0, 0, 1], failed=[2])
    assert result.top(1) == pytest.approx(3 / 4) and result.summary()["failed"] == 1
    assert result.mean_class_accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert result.confusion.sum() == 3 and result.summary()["top5"] is None
    nothing = evaluation([[0.0, 0.0]] * 2, [0, 1], failed=[0, 1])
    assert nothing.top(1) == 0.0 and nothing.mean_class_accuracy == 0.0


def test_scores_that_are_not_finite_are_no_prediction(small_classifier, class_folder):
    samples = [Sample(str(x), x.name, 0) for x in class_folder.rglob("*.mp4")]
    with torch.no_grad():
        small_classifier.head.linear.bias[0] = torch.nan
    with pytest.raises(FloatingPointError, match="not finite: the weights are damaged"):
        evaluate(small_classifier, samples)
    with pytest.raises(FloatingPointError):
        small_classifier.predict([samples[0].path])


def test_figures_equal_those_of_numpy():
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(7), 200).astype(np.float32)
    labels = rng.integers(0, 7, 200).tolist()
    result = evaluation(scores.tolist(), labels)
    order = scores.argsort(1)[:, ::-1]
    for k in (1, 3, 5):
        hits = [label in row[:k] for label, row in zip(labels, order, strict=True)]
        assert result.top(k) == pytest.approx(np.mean(hits))
    assert result.predicted == order[:, 0].tolist()
    losses = -np.log(scores[np.arange(200), labels])
    assert result.losses == pytest.approx(losses.tolist()) and result.loss == pytest.approx(losses.mean())
    per_class = [np.mean([order[i, 0] == c for i in range(200) if labels[i] == c]) for c in range(7)]
    assert result.mean_class_accuracy == pytest.approx(np.mean(per_class))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("failed", [(), (0, 7, 40)])
def test_figures_equal_those_of_torchmetrics_bit_for_bit(ties, failed):
    """With ties, and with classes that no video has or that are never predicted."""
    accuracy = importlib.import_module("torchmetrics.functional.classification").multiclass_accuracy
    matrix = importlib.import_module("torchmetrics.functional.classification").multiclass_confusion_matrix
    generator = torch.Generator().manual_seed(2)
    for videos, classes in ((1, 2), (50, 3), (301, 7), (120, 60)):
        scores = torch.rand(videos, classes, generator=generator)
        scores = (scores * 4).round() / 4 if ties else scores.softmax(1)
        labels = torch.randint(0, max(1, classes - 2), (videos,), generator=generator)
        names = {f"{i}": "broken" for i in failed if i < videos - 1}
        samples = tuple(Sample(f"/{i}", f"{i}", label) for i, label in enumerate(labels.tolist()))
        result = Evaluation(tuple(map(str, range(classes))), samples, scores[:, None], names, (1, 1))
        kept = torch.tensor([x.name not in names for x in samples])
        for k in (1, 2, 5):
            if k <= classes:
                expected = accuracy(scores[kept], labels[kept], classes, average="micro", top_k=k).item()
                assert result.top(k) == expected * int(kept.sum()) / videos
        assert torch.equal(result.confusion, matrix(scores[kept], labels[kept], classes))
        assert result.confusion.dtype == torch.long
        right = [a == b for a, b in zip(result.predicted, labels.tolist(), strict=True)]
        assert right == result.hits.tolist()
        assert [x is None for x in result.predicted] == [x is None for x in result.losses]
        assert [x is None for x in result.predicted] == [not x for x in kept]


@pytest.fixture
def videos(tmp_path):
    """Two videos of the same base name in two folders, and a broken one."""
    samples = []
    for label, folder in enumerate(("cam1", "cam2")):
        frames = np.random.default_rng(label).integers(0, 256, (8, 40, 60, 3), dtype=np.uint8)
        write_video(tmp_path / folder / "001.mp4", frames)
        samples.append(Sample(str(tmp_path / folder / "001.mp4"), f"{folder}/001.mp4", label))
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    return samples, Sample(str(tmp_path / "bad.mp4"), "bad.mp4", 0)


def test_views_are_averaged_per_path(small_classifier, videos):
    samples, _ = videos
    result = evaluate(small_classifier, samples, segments=12, crops=2)
    with torch.no_grad():
        for sample, scores in zip(samples, result.scores, strict=True):
            views = read_views(sample.path, small_classifier.clip_format, 12, 2)
            each = torch.stack([small_classifier(view[None])[0].softmax(-1) for view in views])
            assert len(views) == 24
            torch.testing.assert_close(scores, each.mean(0), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(result.scores[0], result.scores[1], atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_do_not_change_the_numbers(small_classifier, videos):
    samples, bad = videos
    plain = evaluate(small_classifier, [*samples, bad], on_error="skip")
    ahead = evaluate(small_classifier, [*samples, bad], on_error="skip", workers=2)
    assert torch.equal(plain.scores, ahead.scores) and plain.failures == ahead.failures


@pytest.mark.parametrize("importance", ["clip", "batch"])
def test_videos_go_through_together_unless_their_predictions_would_mix(small_backbone, tmp_path, importance):
    samples = []
    for k in range(6):
        frames = np.random.default_rng(k).integers(0, 256, (8, 40, 60, 3), dtype=np.uint8)
        write_video(tmp_path / f"{k}.mp4", frames)
        samples.append(Sample(str(tmp_path / f"{k}.mp4"), f"{k}.mp4", 0))
    samples.insert(2, Sample(str(tmp_path / "no.mp4"), "no.mp4", 0))
    classifier = Classifier.create(small_backbone, classes=["a", "b"], importance=importance, **SSP_SMALL)
    switch_on(classifier)
    sizes = []
    hook = classifier.backbone.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    result = evaluate(classifier, samples, on_error="skip")
    assert sizes == ([1] * 6 if importance == "batch" else [3, 3])  # of the first four, one is broken
    hook.remove()
    for sample, scores in zip(samples, result.view_scores, strict=True):
        if sample.name == "no.mp4":
            assert not scores.any() and result.failures.keys() == {"no.mp4"}
        else:
            alone = classifier.probabilities(read_views(sample.path, classifier.clip_format))
            torch.testing.assert_close(scores, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("batch_size", "views", "sizes"),
    [
        (None, 1, [4, 1]),
        (1, 1, [1, 1, 1, 1, 1]),
        (3, 1, [3, 2]),
        (64, 1, [5]),
        (5, 2, [4, 4, 2]),  # whole videos
        (2, 3, [2, 1] * 5),  # one video has more views than a batch
    ],
)
def test_the_batch_size_is_chosen_and_changes_no_score(small_classifier, videos, batch_size, views, sizes):
    samples = [replace(x, name=f"{i}/{x.name}") for i in range(3) for x in videos[0]][:5]
    expected = evaluate(small_classifier, samples, segments=views)
    passed = []
    hook = small_classifier.backbone.register_forward_pre_hook(
        lambda module, args: passed.append(len(args[0]))
    )
    arguments = {} if batch_size is None else {"batch_size": batch_size}
    result = evaluate(small_classifier, samples, segments=views, **arguments)
    hook.remove()
    assert passed == sizes
    torch.testing.assert_close(result.view_scores, expected.view_scores, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        evaluate(small_classifier, samples, batch_size=0)


def test_the_views_of_the_classifier_are_the_default(small_classifier, videos):
    samples, _ = videos
    small_classifier.clip_format = replace(small_classifier.clip_format, views=(2, 3))
    result = evaluate(small_classifier, samples)
    assert result.views == (2, 3) and result.view_scores.shape == (2, 6, 3)
    assert evaluate(small_classifier, samples, segments=1, crops=1).views == (1, 1)
    with pytest.raises(ValueError, match="at least 1"):
        evaluate(small_classifier, samples, segments=0)


PROCESSES = """
import json, sys, datetime, torch, torch.distributed as distributed
sys.path, rank, size, file, adapter, samples = json.loads(sys.argv[1])
import videossp
from videossp.data.datasets import Sample, VideoDataset
from videossp.model.config import BACKBONES
from conftest import SMALL
BACKBONES["videomamba_small_test"] = SMALL
torch.set_num_threads(1)
limit = datetime.timedelta(seconds=300)
where = f"file://{file}"
distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=size, timeout=limit)
samples = [Sample(*x) for x in samples]
result = videossp.evaluate(videossp.load(adapter), samples, segments=2, on_error="skip")
torch.save((result.view_scores, result.failures, result.top(1)), f"{file}.{rank}")
try:
    videossp.evaluate(videossp.load(adapter), samples)
except videossp.DataError as error:
    open(f"{file}.{rank}.error", "w").write(str(error))
distributed.destroy_process_group()
"""


def test_three_processes_give_the_evaluation_of_one_to_the_last_digit(small_classifier, videos, tmp_path):
    """Five videos and three processes: none is padded, counted twice or lost; every process knows all."""
    samples, bad = videos
    more = [Sample(x.path, f"{i}/{x.name}", x.label) for i in range(2) for x in samples] + [bad]
    small_classifier.save(tmp_path / "adapter")
    alone = evaluate(small_classifier, more, segments=2, on_error="skip")
    arguments = [[x.path, x.name, x.label] for x in more]
    file, path = str(tmp_path / "group"), [str(Path(__file__).parents[1]), *sys.path]
    children = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                PROCESSES,
                json.dumps([path, k, 3, file, str(tmp_path / "adapter"), arguments]),
            ]
        )
        for k in range(3)
    ]
    assert [child.wait(timeout=300) for child in children] == [0, 0, 0]
    for k in range(3):
        scores, failures, top1 = torch.load(f"{file}.{k}")
        assert torch.equal(scores, alone.view_scores) and failures == alone.failures
        assert top1 == alone.top(1)
        assert "bad.mp4" in Path(f"{file}.{k}.error").read_text()  # all stop where one cannot decode


def test_the_published_score_of_equal_base_names_takes_one_video_for_each_view():
    """Two activities seen by two cameras, two views. One process: always the first camera of the list."""
    names = ["P03/cam01/P03_tea.avi", "P03/cam02/P03_tea.avi", "P03/cam01/P03_milk.avi"]
    samples = tuple(Sample(f"/{x}", x, label) for x, label in zip(names, (0, 0, 1), strict=True))
    right, wrong = [0.9, 0.1], [0.2, 0.8]
    views = torch.tensor([[wrong, wrong], [right, right], [wrong, wrong]])
    result = Evaluation(("tea", "milk"), samples, views, {}, (2, 1))
    assert result.top(1) == pytest.approx(2 / 3)  # one per video: our own score
    assert result.per_base_name() == {"top1": 0.5, "base_names": 2}
    # Two processes: the list of 6 views is 0..5, the first process has the even ones. Of P03_tea's first view
    # it has video 0, of its second (numbers 3, 4) video 1: the cameras are averaged, (0.2 + 0.9) / 2.
    assert result.per_base_name(processes=2) == {"top1": 1.0, "base_names": 2}


def test_a_video_without_scores_is_wrong_in_the_published_score_too():
    samples = (Sample("/a", "a/x.avi", 0), Sample("/b", "b/y.avi", 0))
    views = torch.tensor([[[0.0, 0.0]], [[0.9, 0.1]]])
    result = Evaluation(("c", "d"), samples, views, {"a/x.avi": "broken"}, (1, 1))
    assert result.per_base_name()["top1"] == 0.5


def test_a_broken_video_stops_or_is_listed(small_classifier, videos):
    samples, bad = videos
    with pytest.raises(DataError, match="bad.mp4"):
        evaluate(small_classifier, [*samples, bad])
    result = evaluate(small_classifier, [*samples, bad], on_error="skip")
    assert list(result.failures) == ["bad.mp4"] and len(result.scores) == 3
    with pytest.raises(DataError, match="no videos"):
        evaluate(small_classifier, [])


def test_evaluation_is_in_eval_mode_whatever_came_before(small_backbone, videos):
    samples, _ = videos
    classifier = Classifier.create(small_backbone, num_classes=2, method="linear", dropout=0.9, drop_path=0.9)
    first = evaluate(classifier.train(), samples)
    assert torch.equal(first.scores, evaluate(classifier.train(), samples).scores)


def test_labels_are_matched_by_class_name():
    samples = [Sample("/x", "x", 0), Sample("/y", "y", 1)]
    assert [x.label for x in relabel(samples, ("b", "c"), ("a", "b", "c"))] == [1, 2]
    with pytest.raises(DataError, match="does not know: z; it knows a, b"):
        relabel(samples, ("b", "z"), ("a", "b"))


def test_the_picture_of_the_confusion_accepts_any_class_name(tmp_path):
    from videossp.reporting.figures import draw_confusion

    samples = (Sample("/0", "0", 0), Sample("/1", "1", 1))
    result = Evaluation(("$_$", "<a>_{b"), samples, torch.eye(2)[:, None], {}, (1, 1))
    draw_confusion(result, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("samples", ["videos", Path("videos"), VideoDataset(("a", "b"), {})])
def test_samples_that_are_no_sequence_are_refused_with_advice(small_classifier, samples):
    with pytest.raises(ValueError, match=r"as read_data\(DATA\).splits\['test'\]; got a "):
        evaluate(small_classifier, samples)
