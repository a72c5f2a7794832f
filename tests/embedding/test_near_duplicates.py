"""Near-duplicates against a loop over all pairs, and the doctor's check on real copies."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import write_video
from videossp import Sample, VideoDataset
from videossp.embedding.embeddings import Embeddings
from videossp.embedding.near_duplicates import RATIO, near_duplicate_findings, near_duplicates
from videossp.embedding.similar import most_similar, nearest
from videossp.errors import DataError


def made(vectors, splits, sha256=None):
    """(embeddings, data set) of videos with these vectors and splits."""
    samples = [Sample(f"/n/{i}.mp4", f"{i}.mp4", 0) for i in range(len(vectors))]
    members = {
        split: [x for x, own in zip(samples, splits, strict=True) if own == split]
        for split in ("train", "val", "test")
        if split in splits
    }
    count = len(vectors)
    hashes = sha256 or [str(i) for i in range(count)]
    paths = [x.path for x in samples]
    settings = {"width": vectors.shape[1]}
    return Embeddings(paths, hashes, vectors.float(), {}, settings, hashes), VideoDataset(("a",), members)


def by_loops(vectors, splits, here, later):
    """(i, j, ratio) of the reported pairs, by loops over all pairs."""
    unit = [v / np.linalg.norm(v) for v in vectors.numpy()]
    used = [i for i, x in enumerate(splits) if x == here or x in later]

    def distance(i, j):
        return 1 - unit[i] @ unit[j]

    found = []
    one, two = ([i for i in used if (splits[i] == here) == first] for first in (True, False))
    for i in one:
        j = min(two, key=lambda k: distance(i, k))
        if min(one, key=lambda k: distance(k, j)) != i:
            continue
        usual = min(sorted(distance(x, y) for y in used if y != x)[2] for x in (i, j))
        if distance(i, j) < RATIO * usual:
            found.append((i, j, distance(i, j) / usual))
    return sorted(found, key=lambda x: x[2])


def test_the_pairs_are_those_of_a_loop_over_all():
    rng = np.random.default_rng(0)
    vectors = torch.from_numpy(rng.normal(size=(60, 3)))
    splits = [*rng.choice(["train", "val", "test"], 60)]
    for i in range(0, 12, 2):  # look-alikes next to each other
        vectors[i + 1] = vectors[i] + 0.01 * torch.from_numpy(rng.normal(size=3))
    embeddings, data = made(vectors, splits)
    found = near_duplicates(embeddings, data)
    expected = by_loops(vectors, splits, "train", ("val", "test")) + by_loops(
        vectors, splits, "val", ("test",)
    )
    expected.sort(key=lambda x: x[2])
    assert len(expected) > 3
    assert [(x.one[1].name, x.other[1].name) for x in found] == [
        (f"{i}.mp4", f"{j}.mp4") for i, j, _ in expected
    ]
    assert [x.ratio for x in found] == pytest.approx([x[2] for x in expected], rel=1e-3)


def test_a_second_copy_does_not_hide_a_pair_and_equal_content_is_not_reported():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(20, 8, generator=generator)
    splits = ["train"] * 10 + ["test"] * 10
    vectors[10] = vectors[0] + 0.02 * torch.randn(8, generator=generator)
    vectors[11] = vectors[0] + 0.03 * torch.randn(8, generator=generator)
    names = [(x.one[1].name, x.other[1].name) for x in near_duplicates(*made(vectors, splits))]
    assert names == [("0.mp4", "10.mp4")]
    same = [str(i) for i in range(20)]
    same[10] = same[0]  # found by the check of the contents
    assert near_duplicates(*made(vectors, splits, same)) == []


def test_videos_without_a_vector_parts_and_tiny_sets():
    embeddings, data = made(torch.eye(3), ["train", "train", "test"])
    assert near_duplicates(replace(embeddings, paths=["/n/0.mp4", "/n/1.mp4", "/x"]), data) == []
    assert near_duplicates(*made(torch.eye(2), ["train", "test"])) == []
    part = replace(data.splits["test"][0], frames=(0, 4))
    with pytest.raises(DataError, match="a part of a file; embeddings are of whole files"):
        near_duplicates(embeddings, replace(data, splits={**data.splits, "test": [part]}))


def test_exact_search_equals_a_loop_across_blocks(monkeypatch):
    monkeypatch.setattr("videossp.embedding.similar.BLOCK", 4)
    x = torch.nn.functional.normalize(torch.randn(11, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    values, places = nearest(x, x, 3, same=True)
    for i in range(11):
        order = sorted((j for j in range(11) if j != i), key=lambda j: -float(x[i] @ x[j]))
        assert places[i].tolist() == order[:3]
        assert values[i].tolist() == pytest.approx([float(x[i] @ x[j]) for j in order[:3]], abs=1e-6)
    embeddings, _ = made(3 * x, ["train"] * 11)
    ranked = most_similar(x[4] * 7, embeddings, 20)
    assert ranked[0] == ("/n/4.mp4", pytest.approx(1, abs=1e-6)) and len(ranked) == 11
    assert [v for _, v in ranked] == sorted((v for _, v in ranked), reverse=True)


def scene(seed):
    """Ten frames of coloured shapes that move."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((10, 64, 64, 3), np.uint8) + rng.integers(0, 256, 3, dtype=np.uint8)
    for _ in range(4):
        (top, left), colour, step = rng.integers(0, 40, 2), rng.integers(0, 256, 3), rng.integers(-2, 3, 2)
        for t in range(10):
            y, x = (int(v) for v in np.clip((top, left) + t * step, 0, 44))
            frames[t, y : y + 20, x : x + 20] = colour
    return frames


def test_the_doctor_finds_a_changed_copy_and_shows_it(call, tmp_path):
    data = tmp_path / "data"
    for i in range(6):
        write_video(data / "train" / "ab"[i % 2] / f"{i}.mp4", scene(i))
        write_video(data / "test" / "ab"[i % 2] / f"{i + 10}.mp4", scene(i + 10))
    copy = (1.1 * scene(3)[:, 2:-2, 2:-2] + 8).clip(0, 255).astype(np.uint8)
    write_video(data / "test/b/copy.mp4", copy, options={"crf": "35"})
    file, page = tmp_path / "e.safetensors", tmp_path / "pairs.html"
    command = ["doctor", data, "--only", "split", "--json", "--workers", 1, "--near-duplicates", file]
    for _ in range(2):  # the second time all vectors are there
        code, out, _ = call(*command, "--report", page)
        found = json.loads(out)
        assert code == 0 and "split.leak-near-duplicate" in found["checks"]
        first = found["findings"][0]
        assert first["check"] == "split.leak-near-duplicate" and first["severity"] == "info"
        assert first["videos"] == ["train/b/3.mp4"] and "test/b/copy.mp4 (test)" in first["message"]
        assert first["message"].endswith("; look at both, and leave one out if it is a copy")
    text = page.read_text()
    assert text.count("<img") == len(found["findings"]) and "train/b/3.mp4 (train, b)" in text
    assert Embeddings.load(file).settings["features"] == "moments" and len(Embeddings.load(file)) == 13
    assert [x.check for x in near_duplicate_findings([])] == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--only", "split.leak-near"], "needs a file of embeddings"),
        (["--report", "x.html"], "it needs --near-duplicates FILE"),
        (["--near-duplicates", "x.csv"], "must end in .safetensors, .npz, .parquet"),
        (["--near-duplicates", "x.npz", "--report", "x.png"], "must be a .html in a folder that exists"),
    ],
)
def test_wrong_flags_of_the_doctor_are_refused_before_videos_are_read(call, class_folder, flags, words):
    code, out, err = call("doctor", class_folder, *flags)
    assert (code, out) == (2, "") and words in err
