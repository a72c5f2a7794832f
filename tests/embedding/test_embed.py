"""`embed`: vectors per video, their file in three formats, and which videos a second run computes."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import videossp
from conftest import write_video
from videossp.data.clips import content_hash, read_views
from videossp.embedding.embed import Embedder, embed, embedder
from videossp.embedding.embedding_file import EmbeddingFile
from videossp.embedding.embeddings import SUFFIXES, Embeddings
from videossp.embedding.features import features_of
from videossp.errors import DataError
from videossp.system import rows


def noise(path, seed):
    write_video(path, np.random.default_rng(seed).integers(0, 256, (6, 40, 48, 3), dtype=np.uint8))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for i in range(4):
        noise(root / f"{i}.mp4", i)
    return root


@pytest.fixture
def folder(made, tmp_path):
    """0.mp4 to 3.mp4."""
    return shutil.copytree(made, tmp_path / "videos")


@pytest.fixture
def computed(monkeypatch):
    """The names of the videos that were decoded, in order."""
    names = []
    each = Embedder.each

    def watched(self, videos, **options):
        for x in each(self, videos, **options):
            names.append(os.path.basename(x[0]))
            yield x

    monkeypatch.setattr(Embedder, "each", watched)
    return names


@pytest.mark.parametrize("kind", ["cls", "moments"])
def test_a_vector_is_the_mean_over_the_views_whatever_the_neighbours(small_classifier, folder, kind):
    (folder / "broken.mp4").write_bytes(b"no video")
    found = embed(
        small_classifier, folder, features=kind, segments=2, crops=3, on_error="skip", batch_size=13
    )
    assert [os.path.basename(x) for x in found.paths] == [f"{i}.mp4" for i in range(4)]
    for path, sha256, vector in zip(found.paths, found.sha256, found.vectors, strict=True):
        views = read_views(path, small_classifier.clip_format, 2, 3)
        with torch.no_grad():
            expected = sum(features_of(small_classifier, x[None], kind)[0] for x in views) / 6
        torch.testing.assert_close(vector, expected, atol=1e-5, rtol=1e-5)
        assert sha256 == content_hash(Path(path)) and len(sha256) == 64
    assert (
        list(found.errors) == [str(folder / "broken.mp4")]
        and "broken.mp4" in found.errors[str(folder / "broken.mp4")]
    )
    assert found.settings["clip"]["views"] == [2, 3]
    with pytest.raises(DataError, match="broken.mp4"):
        embed(small_classifier, folder)


def equal(one, other):
    return (
        (one.paths, one.sha256, one.states, one.errors)
        == (other.paths, other.sha256, other.states, other.errors)
        and torch.equal(one.vectors, other.vectors)
        and one.settings == other.settings
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("count", [0, 3])
def test_a_saved_file_holds_what_was_saved(tmp_path, suffix, count):
    torch.manual_seed(0)
    names = ["/a/ä.mp4", "/b c.mp4", "/d\udcff.mp4"][:count]  # a byte that is no UTF-8
    settings = {"features": "cls", "width": 5, "adapter": None, "clip": {"size": [4, 6]}}
    made = Embeddings(
        names,
        ["0" * 64] * count,
        torch.randn(count, 5),
        {"/broken.mp4": 'it is "broken"'},
        settings,
        ["s"] * count,
    )
    made.save(tmp_path / f"x{suffix}")
    loaded = Embeddings.load(tmp_path / f"x{suffix}")
    assert equal(made, loaded) and loaded.vectors.dtype == torch.float32
    assert count == 0 or loaded.paths[2] == "/d\\udcff.mp4"
    assert [x.name for x in tmp_path.iterdir()] == [f"x{suffix}"]


def test_other_programs_read_the_files(tmp_path):
    vectors = torch.randn(2, 3)
    made = Embeddings(["/a", "/b"], ["p", "q"], vectors, {"/c": "no"}, {"width": 3}, ["s", "t"])
    for suffix in SUFFIXES:
        made.save(tmp_path / f"x{suffix}")
    with np.load(tmp_path / "x.npz") as file:
        assert np.array_equal(file["vectors"], vectors) and file["paths"].tolist() == ["/a", "/b"]
    pyarrow = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.read_table(tmp_path / "x.parquet").to_pylist()
    assert [x["path"] for x in table] == ["/a", "/b", "/c"] and table[2]["vector"] is None
    assert np.array_equal(np.float32([x["vector"] for x in table[:2]]), vectors)
    from safetensors.numpy import load_file

    tensors = load_file(tmp_path / "x.safetensors")
    assert np.array_equal(tensors["vectors"], vectors)
    lines = [json.loads(x) for x in tensors["videos"].tobytes().splitlines()]
    assert [x["path"] for x in lines] == ["/a", "/b", "/c"] and lines[2]["error"] == "no"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_or_foreign_file_is_one_line(tmp_path, suffix):
    file = tmp_path / f"x{suffix}"
    with pytest.raises(DataError, match="no such file; videossp embed writes it"):
        Embeddings.load(file)
    made = Embeddings(["/a"], ["p"], torch.randn(1, 3), {}, {"width": 3}, ["s"])
    made.save(file)
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text of another program", whole[:-9]):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.\w+: (damaged|not a file)") as error:
            Embeddings.load(file)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"must end in \.safetensors, \.npz, \.parquet"):
        Embeddings.load(tmp_path / "x.csv")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_second_run_computes_new_and_changed_videos_only(small_classifier, folder, computed, suffix):
    output = folder.parent / f"x{suffix}"
    first = embed(small_classifier, folder, output=output)
    assert computed == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
    computed.clear()
    written = output.stat().st_mtime_ns
    assert equal(first, embed(small_classifier, folder, output=output))
    assert computed == [] and output.stat().st_mtime_ns == written
    noise(folder / "1.mp4", 7)  # another content
    os.utime(folder / "2.mp4")  # the same content, written again
    noise(folder / "new.mp4", 8)
    shutil.copy(folder / "0.mp4", folder / "copy.mp4")
    second = embed(small_classifier, folder, output=output)
    assert computed == ["1.mp4", "new.mp4"]
    row = {os.path.basename(x): y for x, y in zip(second.paths, second.vectors, strict=True)}
    assert torch.equal(row["copy.mp4"], row["0.mp4"]) and torch.equal(row["2.mp4"], first.vectors[2])
    assert not torch.allclose(row["1.mp4"], first.vectors[1])
    assert equal(second, embed(small_classifier, folder, output=output))
    stored = Embeddings.load(output)
    one = embed(small_classifier, folder / "3.mp4", output=output)  # the others stay in the file
    assert len(one) == 1 and equal(stored, Embeddings.load(output))
    assert sorted(x.name for x in folder.parent.iterdir()) == sorted(
        [f".x{suffix}.lock", output.name, "videos"]
    )


def test_a_video_that_failed_is_tried_again(small_classifier, folder, computed):
    output, bad = folder.parent / "x.npz", folder / "bad.mp4"
    bad.write_bytes(b"no video")
    assert list(embed(small_classifier, folder, output=output, on_error="skip").errors) == [str(bad)]
    assert list(Embeddings.load(output).errors) == [str(bad)]
    shutil.copy(folder / "0.mp4", bad)
    computed.clear()
    again = embed(small_classifier, folder, output=output)
    assert not again.errors and not Embeddings.load(output).errors and len(again) == 5
    assert computed == []  # it is now a copy of a video that has a vector


def test_other_settings_are_refused_in_one_line(small_classifier, folder, tmp_path):
    output = tmp_path / "x.npz"
    embed(small_classifier, folder / "0.mp4", output=output)
    for options, name in (({"features": "mean"}, "features"), ({"segments": 2}, "clip.views")):
        with pytest.raises(
            ValueError, match=f"x.npz: was made with other settings .{name}: .*, now .*give another"
        ):
            embed(small_classifier, folder / "0.mp4", output=output, **options)
    with torch.no_grad():
        small_classifier.head.linear.bias.add_(1)
    with pytest.raises(ValueError, match="adapter.sha256"):
        embed(small_classifier, folder / "0.mp4", output=output)
    with pytest.raises(ValueError, match="frozen: false, now true"), pytest.warns(match="RANDOM"):
        embed("videomamba_small_test", folder / "0.mp4", output=output)


def test_an_interrupted_run_keeps_what_is_done(small_classifier, folder, computed, monkeypatch):
    output, add = folder.parent / "x.safetensors", EmbeddingFile.add

    def interrupted(self, *row):
        add(self, *row)
        if len(self.rows) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(EmbeddingFile, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed(small_classifier, folder, output=output)
    assert len(Embeddings.load(output)) == 2
    monkeypatch.undo()
    whole = embed(small_classifier, folder, output=output)
    torch.testing.assert_close(whole.vectors, embed(small_classifier, folder).vectors, atol=1e-5, rtol=1e-5)


def test_the_journal_of_a_killed_process_is_used_up_to_a_line_cut_off(small_classifier, folder, computed):
    output = folder.parent / "x.parquet"
    model = embedder(small_classifier)
    with EmbeddingFile.open(output, model.settings) as file:
        names = [str(folder / f"{i}.mp4") for i in range(3)]
        for name, vector, _ in model.each(file.without_vector(names)):
            file.add(name, vector, None)
        left = file.journal_path.read_bytes()
    output.unlink()
    file.journal_path.write_bytes(left[:-9])  # as a process leaves it that is killed in the third line
    with pytest.raises(ValueError, match="features"):
        embed(small_classifier, folder, features="mean", output=output)
    computed.clear()
    assert len(embed(small_classifier, folder, output=output)) == 4
    assert computed == ["2.mp4", "3.mp4"] and not file.journal_path.exists()
    assert equal(Embeddings.load(output), embed(small_classifier, folder, output=output))


def test_a_second_process_is_refused(small_classifier, folder):
    output = folder.parent / "x.npz"
    opened = EmbeddingFile.open(output, embedder(small_classifier).settings)
    with opened, pytest.raises(ValueError, match="x.npz: another process writes it"):
        embed(small_classifier, folder, output=output)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_leaves_the_earlier_file(small_classifier, folder, monkeypatch):
    output = folder.parent / "x.npz"
    embed(small_classifier, folder / "0.mp4", output=output)
    before = output.read_bytes()
    opened = Path.open

    def full(self, mode="r", *arguments, **options):
        draft = self.name.startswith(".x.npz.") and self.name != ".x.npz.journal" and "x" in mode
        return opened(Path("/dev/full"), "wb") if draft else opened(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="x.npz: cannot be written .No space left on device.; .x.npz.journal"):
        embed(small_classifier, folder, output=output)
    monkeypatch.undo()
    assert output.read_bytes() == before and (folder.parent / ".x.npz.journal").exists()
    assert len(embed(small_classifier, folder, output=output)) == 4


def test_names_that_cannot_be_used_are_refused_before_anything_is_computed(
    small_classifier, folder, computed
):
    for name, words in (("x.csv", "must end in"), ("nowhere/x.npz", "its folder does not exist")):
        with pytest.raises(ValueError, match=words):
            embed(small_classifier, folder, output=folder.parent / name)
    (folder.parent / "d.npz").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        embed(small_classifier, folder, output=folder.parent / "d.npz")
    with pytest.raises(ValueError, match="on_error is error or skip"):
        embed(small_classifier, folder, on_error="ignore")
    assert computed == []


def test_parquet_without_pyarrow_is_one_line(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(rows.importlib, "import_module", missing)
    with pytest.raises(ValueError, match=r"Parquet needs pyarrow: pip install 'videossp\[parquet\]'"):
        Embeddings.load(tmp_path / "x.parquet")


def test_the_frozen_backbone_needs_no_adapter(small_classifier, folder):
    with pytest.warns(match="RANDOM"):
        found = videossp.embed("videomamba_small_test", folder / "0.mp4")
    linear = videossp.Classifier.create("videomamba_small_test", num_classes=3, method="linear")
    with linear.disable_adapter():
        expected = linear.features(read_views(folder / "0.mp4", linear.clip_format))
    torch.testing.assert_close(found.vectors, expected.detach(), atol=1e-5, rtol=1e-5)
    assert found.settings["adapter"] is None and found.settings["backbone"]["sha256"] == linear.sha256
