"""The probes against loops and closed forms of NumPy; what they train on; vectors that are missing."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import numbered_frames, write_video
from videossp import Sample, VideoDataset
from videossp.comparison.intervals import wilson
from videossp.data.clips import content_hash
from videossp.data.datasets import hold_out
from videossp.embedding.embeddings import Embeddings
from videossp.embedding.probes import PENALTIES, knn_scores, probe, ridge_scores, vectors_of
from videossp.errors import DataError


def draw(videos, width, classes=3, seed=0):
    """Vectors whose class means differ, and their labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, videos)
    x = rng.normal(size=(videos, width)) * rng.uniform(0.1, 5, width)
    return torch.from_numpy(x + np.eye(classes, width)[y]), torch.from_numpy(y)


@pytest.mark.parametrize(("videos", "width"), [(40, 7), (9, 30)])
def test_ridge_is_the_closed_form(videos, width):
    (x, y), (queries, _) = draw(videos, width), draw(5, width, seed=1)
    x[:, 2] = 4.0  # a feature without deviation
    found = ridge_scores(x, y, queries, 3, (0.01, 10.0))
    mean, deviation = x.numpy().mean(0), x.numpy().std(0)
    deviation[2] = 1
    z, q = ((v.numpy() - mean) / deviation for v in (x, queries))
    target = np.eye(3)[y]
    for penalty, scores in zip((0.01, 10.0), found, strict=True):
        gram = z.T @ z + penalty * videos * np.eye(width)
        weights = np.linalg.solve(gram, z.T @ (target - target.mean(0)))
        assert np.allclose(scores, q @ weights + target.mean(0), atol=1e-8)


def test_the_neighbours_vote_and_similarity_decides_between_equal_votes():
    (x, y), (queries, _) = draw(50, 6), draw(20, 6, seed=1)
    for k in (1, 4, 50):
        scores = knn_scores(x, y, queries, 3, k)
        for query, found in zip(queries.numpy(), scores.argmax(1).tolist(), strict=True):
            cosine = [v @ query / np.linalg.norm(v) / np.linalg.norm(query) for v in x.numpy()]
            voters = sorted(range(50), key=lambda i: -cosine[i])[:k]
            counts = [sum(int(y[i]) == c for i in voters) for c in range(3)]
            sums = [sum(cosine[i] for i in voters if int(y[i]) == c) for c in range(3)]
            assert found == max(range(3), key=lambda c: (counts[c], sums[c]))


@pytest.fixture
def made():
    """(embeddings, data set) of 60 training and 30 test videos that do not exist as files."""
    x, y = draw(90, 12)
    samples = [Sample(f"/nowhere/{i}.mp4", f"{i}.mp4", int(y[i])) for i in range(90)]
    data = VideoDataset(("a", "b", "c"), {"train": samples[:60], "test": samples[60:]})
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    paths = [samples[i].path for i in order]
    return Embeddings(paths, [""] * 90, x[order].float(), {}, {"width": 12}, [""] * 90), data


def test_the_penalty_is_chosen_on_held_out_training_videos(made):
    embeddings, data = made
    knn, ridge = probe(embeddings, data)
    row = {path: i for i, path in enumerate(embeddings.paths)}

    def arrays(samples):
        vectors = torch.stack([embeddings.vectors[row[x.path]] for x in samples]).double()
        return vectors, torch.tensor([x.label for x in samples])

    kept, held_out = hold_out(data.splits["train"], 0.2)
    (x, y), (x_val, y_val) = arrays(kept), arrays(held_out)
    right = [
        ((s.argmax(1) == y_val).sum().item(), -(s - torch.eye(3)[y_val]).square().mean().item())
        for s in ridge_scores(x, y, x_val, 3, PENALTIES)
    ]
    assert ridge.setting == PENALTIES[right.index(max(right))]
    (x, y), (queries, wanted) = arrays(data.splits["train"]), arrays(data.splits["test"])
    (scores,) = ridge_scores(x, y, queries, 3, (ridge.setting,))
    assert torch.equal(ridge.predictions, scores.argmax(1))
    assert ridge.top1 == pytest.approx((scores.argmax(1) == wanted).double().mean().item())
    assert ridge.interval == wilson(ridge.top1, 30) and knn.setting == 5 and 0 < knn.top1 <= 1


def test_labels_of_test_videos_change_no_prediction(made):
    embeddings, data = made
    other = [replace(x, label=(x.label + 1) % 3) for x in data.splits["test"]]
    changed = replace(data, splits={"train": data.splits["train"], "test": other})
    for one, two in zip(probe(embeddings, data), probe(embeddings, changed), strict=True):
        assert torch.equal(one.predictions, two.predictions) and one.setting == two.setting
        assert one.top1 != two.top1


def test_a_validation_split_is_used_and_not_trained_on(made):
    embeddings, data = made
    train, test = data.splits["train"], data.splits["test"]
    split = replace(data, splits={"train": train[:40], "val": train[40:], "test": test})
    only = replace(data, splits={"train": train[:40], "val": test, "test": test})
    assert torch.equal(probe(embeddings, split)[0].predictions, probe(embeddings, only)[0].predictions)


def test_missing_videos_and_splits_are_one_line(made):
    embeddings, data = made
    fewer = replace(embeddings, paths=["/other"] * 4 + embeddings.paths[4:])
    with pytest.raises(
        DataError, match=r"^4 of 90 videos have no vector .*, \.\.\.\): add them with"
    ) as error:
        probe(fewer, data)
    assert "\n" not in str(error.value)
    train, test = data.splits["train"], data.splits["test"]
    for splits, words in (({"train": train}, "no test split"), ({"test": test}, "no training split")):
        with pytest.raises(DataError, match=words):
            probe(embeddings, replace(data, splits=splits))
    with pytest.raises(DataError, match="no validation videos"):
        probe(embeddings, data, val_fraction=0)
    with pytest.raises(ValueError, match="neighbours must be 1 to 60"):
        probe(embeddings, data, neighbours=61)
    with pytest.raises(DataError, match="a part of a file"):
        vectors_of(embeddings, [replace(train[0], start=1.0)])


def test_a_moved_video_is_found_by_its_content(tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(4))
    sha256 = content_hash(tmp_path / "a.mp4")
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a.mp4", tmp_path / "b/c.mp4")
    embeddings = Embeddings(["/x", "/a.mp4"], ["", sha256], torch.eye(2), {}, {"width": 2}, ["", ""])
    moved = Sample(str(tmp_path / "b/c.mp4"), "c.mp4", 0)
    assert torch.equal(vectors_of(embeddings, [moved]), torch.tensor([[0.0, 1.0]]))
