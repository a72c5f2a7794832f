"""`videossp embed`, `similar` and `probe` on the command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import videossp
from conftest import numbered_frames, switch_on, write_video
from videossp.classifier import Classifier
from videossp.embedding.embed import embed
from videossp.embedding.embeddings import Embeddings

NANO = "videomamba_nano"


@pytest.fixture(scope="module")
def file(class_folder, tmp_path_factory):
    """Embeddings of the frozen nano, and its command line's output."""
    output = tmp_path_factory.mktemp("embeddings") / "nano.safetensors"
    embed(NANO, class_folder, output=output)
    return output


def test_embed_similar_probe_of_a_frozen_backbone(call, file, class_folder, tmp_path):
    output = shutil.copy(file, tmp_path / "x.safetensors")
    code, out, err = call("embed", class_folder, "--frozen", NANO, "--output", output)
    assert (code, err) == (0, "")
    assert (
        out
        == f"{output}: 24 videos, 0 of them computed now, 0 failed; 192 numbers each (cls of frozen {NANO})\n"
    )
    code, out, _ = call("probe", output, class_folder)
    assert code == 0 and out.splitlines()[0].split() == ["top-1,", "8", "videos", "95", "%", "interval"]
    code, out, _ = call("probe", output, class_folder, "--json", "--neighbours", 3)
    knn, ridge = json.loads(out)
    assert knn["name"] == "knn" and knn["setting"] == 3 and knn["top1"] == ridge["top1"] == 1.0
    assert ridge["videos"] == 8 and ridge["interval"][0] == pytest.approx(0.676, abs=1e-3)
    query = class_folder / "test/bright/0.mp4"
    code, out, _ = call("similar", query, output, "--top", 11, "--json")
    ranked = json.loads(out)["similar"]
    found = Embeddings.load(output)
    unit = found.vectors.numpy() / np.linalg.norm(found.vectors.numpy(), axis=1, keepdims=True)
    cosine = dict(zip(found.paths, unit @ unit[found.paths.index(str(query))], strict=True))
    assert str(query) not in [x["path"] for x in ranked] and len(ranked) == 11
    assert all("/bright/" in x["path"] for x in ranked)
    assert [x["similarity"] for x in ranked] == pytest.approx(sorted(cosine.values())[-2:-13:-1], abs=1e-6)
    copy = shutil.copy(query, tmp_path / "elsewhere.mp4")  # not in the file, of the same content
    code, out, _ = call("similar", copy, output, "--top", 1, "--device", "cpu")
    value, path = out.split()
    assert code == 0 and float(value) == pytest.approx(1, abs=1e-4) and path.endswith("test/bright/0.mp4")


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_shards_hold_the_vectors_of_one_file(call, file, class_folder, tmp_path, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    expected = Embeddings.load(file)
    (tmp_path / "list.txt").write_text("\n".join([*expected.paths, str(tmp_path / "none.mp4")]))
    flags = ["--list", tmp_path / "list.txt", "--out", tmp_path / "out", "--shard-size", 10]
    code, out, _ = call("embed", "--frozen", NANO, *flags, "--part-format", form, "--json")
    assert code == 3 and json.loads(out)["failed"] == 1
    parts = sorted((tmp_path / "out").glob(f"part-*.{form}"))
    assert len(parts) == 3
    if form == "jsonl":
        rows = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    else:
        from pyarrow.parquet import read_table

        rows = [row for part in parts for row in read_table(part).to_pylist()]
    assert [x["path"] for x in rows[:-1]] == list(expected.paths)
    assert rows[-1]["vector"] is None and "none.mp4" in rows[-1]["error"]
    vectors = torch.tensor([x["vector"] for x in rows[:-1]])
    assert torch.allclose(vectors, expected.vectors, atol=1e-5)
    code, _, err = call("embed", "--frozen", NANO, *flags, "--part-format", form, "--features", "mean")
    assert code == 2 and 'other settings (features: "cls", now "mean")' in err


def test_broken_videos_are_named_and_the_others_embedded(call, class_folder, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    output = tmp_path / "x.npz"
    good = class_folder / "test/dark"
    code, out, err = call("embed", good, tmp_path / "bad.mp4", "--frozen", NANO, "--output", output, "--json")
    summary = json.loads(out)
    assert code == 3 and "FAILED" in err and "bad.mp4" in err
    assert summary["videos"] == summary["computed"] == 5 and list(summary["failed"]) == [
        str(tmp_path / "bad.mp4")
    ]
    assert len(Embeddings.load(output)) == 4
    code, out, err = call("similar", tmp_path / "bad.mp4", output)
    assert (code, out) == (3, "") and "bad.mp4" in err


def test_an_adapter_is_found_again_or_asked_for(call, small_classifier, class_folder, tmp_path):
    small_classifier.save(tmp_path / "adapter")
    output, videos = tmp_path / "x.npz", class_folder / "test"
    code, out, err = call("embed", tmp_path / "adapter", videos, "--features", "moments", "--output", output)
    assert (code, err) == (0, "") and "(moments of " in out
    settings = Embeddings.load(output).settings
    assert (
        settings["adapter"]["folder"] == str(tmp_path / "adapter")
        and len(settings["adapter"]["sha256"]) == 64
    )
    query = class_folder / "train/dark/0.mp4"
    code, expected, _ = call("similar", query, output)
    assert code == 0 and len(expected.splitlines()) == 8
    (tmp_path / "adapter").rename(tmp_path / "moved")
    code, out, err = call("similar", query, output)
    assert (code, out) == (4, "") and "if it has moved, give --adapter" in err and len(err.splitlines()) == 1
    assert call("similar", query, output, "--adapter", tmp_path / "moved")[:2] == (0, expected)
    switch_on(small_classifier, 1)
    small_classifier.save(tmp_path / "moved")
    code, out, err = call("similar", query, output, "--adapter", tmp_path / "moved")
    assert (code, out) == (4, "") and "was made with another model (adapter.sha256" in err
    code, out, err = call("embed", tmp_path / "moved", videos, "--features", "moments", "--output", output)
    assert (code, out) == (2, "") and "was made with other settings (adapter.sha256" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["embed", "--frozen", NANO, "DATA", "--output", "x.csv"],
            2,
            "must end in .safetensors, .npz, .parquet",
        ),
        (["embed", "--frozen", NANO, "DATA"], 2, "give --output FILE, or --out FOLDER"),
        (
            ["embed", "--frozen", "videomamba_nono", "DATA", "--output", "x.npz"],
            4,
            "no backbone 'videomamba_nono'",
        ),
        (["embed", "--frozen", NANO, "EMPTY", "--output", "x.npz"], 3, "no videos in this folder"),
        (["embed", "EMPTY", "DATA", "--output", "x.npz"], 4, "no adapter here"),
        (
            ["embed", "--frozen", NANO, "--backbone", "x", "DATA", "--output", "x.npz"],
            2,
            "--frozen names a backbone",
        ),
        (
            ["embed", "--frozen", NANO, "DATA", "--features", "patches", "--output", "x.npz"],
            2,
            "--features must be one of cls, mean, moments, got patches",
        ),
        (["similar", "nowhere.mp4", "FILE"], 3, "no such file, and not in"),
        (["similar", "nowhere.mp4", "x.npz"], 3, "no such file; videossp embed writes it"),
        (["similar", "nowhere.mp4", "FILE", "--top", "0"], 2, "--top must be at least 1"),
        (["similar", "VIDEO", "FILE", "--adapter", "EMPTY"], 2, "was made with a frozen backbone"),
        (["similar", "", "FILE"], 2, "QUERY is empty"),
        (["probe", "FILE", "OTHER", "--neighbours", "1"], 3, "4 of 4 videos have no vector"),
    ],
)
def test_mistakes_are_one_line(call, file, class_folder, tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    names = {"DATA": class_folder, "EMPTY": tmp_path / "empty", "FILE": file, "OTHER": tmp_path / "other"}
    names["VIDEO"] = tmp_path / "v.mp4"
    write_video(tmp_path / "v.mp4", numbered_frames(4))
    if "OTHER" in arguments:
        for i, name in enumerate(("train/a/0", "train/a/1", "test/a/2", "train/b/3")):
            write_video(tmp_path / f"other/{name}.mp4", numbered_frames(6 + i))
    found, out, err = call(*(names.get(x, x) for x in arguments))
    assert (found, out, len(err.splitlines())) == (code, "", 1) and words in err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_killed_process_is_completed_to_the_same_file(class_folder, tmp_path):
    expected = embed(NANO, class_folder)
    output = tmp_path / "x.npz"
    command = [sys.executable, "-m", "videossp", "embed", "--frozen", NANO, str(class_folder)]
    command += ["--output", str(output), "--workers", "0", "--batch-size", "1"]
    kills = 0
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        journal = tmp_path / ".x.npz.journal"
        before = journal.stat().st_size if journal.exists() else 0
        deadline = time.monotonic() + 300
        while kills < 2 and process.poll() is None and time.monotonic() < deadline:
            if journal.exists() and journal.stat().st_size > max(before, 4000):
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.001)
        if process.wait(300) == 0:
            break
    found = Embeddings.load(output)
    assert kills == 2 and process.returncode == 0 and not journal.exists()
    assert found.paths == expected.paths and found.sha256 == expected.sha256
    torch.testing.assert_close(found.vectors, expected.vectors, atol=1e-4, rtol=1e-4)


def test_both_python_names_are_public(tmp_path, class_folder, small_backbone):
    classifier = Classifier.create(small_backbone, classes=["a", "b"], method="linear")
    found = videossp.embed(classifier, class_folder / "test/dark", features="mean")
    found.save(tmp_path / "x.parquet")
    assert torch.equal(videossp.Embeddings.load(tmp_path / "x.parquet").vectors, found.vectors)
