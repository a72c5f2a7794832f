"""`videossp predict --list FILE`, alone and with --out: the rows of `predict --json`, in parts."""

import json

import pytest

from videossp.classifier import Classifier


@pytest.fixture
def folder(small_classifier, class_folder, tmp_path, monkeypatch):
    """A folder with an adapter, and list.txt of 16 videos, a broken one and a URI of a file."""
    monkeypatch.chdir(tmp_path)
    small_classifier.save(tmp_path / "adapter")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    videos = sorted(map(str, (class_folder / "train").rglob("*.mp4")))
    lines = [*videos[:5], str(tmp_path / "broken.mp4"), *videos[5:15], f"file://{videos[15]}"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    return tmp_path


def rows_in(folder, shards):
    """The rows of the parts, in order."""
    files = [folder / f"part-{i:05d}.jsonl" for i in shards]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_parts_are_the_rows_of_predict_and_stay_as_they_are(call, folder):
    code, stdout, _ = call("predict", "adapter", "--list", "list.txt", "--json")
    rows = [*map(json.loads, stdout.splitlines())]
    assert code == 3 and [x["path"] for x in rows] == (folder / "list.txt").read_text().splitlines()
    bulk = ["predict", "adapter", "--list", "list.txt", "--out", "out", "--shard-size", 8]
    code, stdout, stderr = call(*bulk)
    assert code == 3 and "out: 3 of 3 parts are there; 3 with 17 videos, 17 of them read now" in stdout
    assert "part-00000.jsonl: 8 videos, 1 failed\n" in stderr and "1 of 17 videos could not be read" in stderr
    assert rows_in(folder / "out", range(3)) == rows  # batches of 8, as above
    (folder / "out" / "part-00001.jsonl").unlink()
    code, stdout, stderr = call(*bulk, "--json")
    assert code == 3 and "out: has 2 of 3 parts already" in stderr and stderr.count("part-0") == 1
    summary = {"out": "out", "parts": 3, "parts_in_all": 3, "parts_there": 3, "videos": 17, "failed": 1}
    assert json.loads(stdout) == {**summary, "videos_read_now": 8}
    again = rows_in(folder / "out", range(3))
    assert [(x["path"], x["error"], x["top"][:1] and x["top"][0]["class"]) for x in again] == [
        (x["path"], x["error"], x["top"][:1] and x["top"][0]["class"]) for x in rows
    ]
    code, _, stderr = call(*bulk, "--top", 1)
    assert code == 2 and "out: was made with other settings (top: 3, now 1)" in stderr


def test_shares_make_the_whole_and_the_code_is_that_of_the_share(call, folder):
    codes = []
    for i in range(3):
        command = ["predict", "adapter", "--list", "list.txt", "--out", "out", "--shard-size", 4]
        code, stdout, _ = call(*command, "--shard", f"{i}/3")
        codes.append(code)
        assert f"{[2, 4, 5][i]} of 5 parts are there; {[2, 2, 1][i]} of --shard {i}/3" in stdout
    assert codes == [0, 3, 0]
    paths = [x["path"] for x in rows_in(folder / "out", range(5))]
    assert paths == (folder / "list.txt").read_text().splitlines()


def test_parquet_parts_of_two_adapters_have_a_row_for_each(call, folder, small_backbone):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    other = Classifier.create(small_backbone, classes=["x", "y"], method="linear")
    other.save(folder / "other")
    adapters = ["--adapter", "adapter", "--adapter", "other", "--list", "list.txt"]
    bulk = ["--out", "out", "--shard-size", 8, "--part-format", "parquet", "--top", 2]
    assert call("predict", *adapters, *bulk)[0] == 3
    rows = [
        row
        for i in range(3)
        for row in parquet.read_table(folder / "out" / f"part-0000{i}.parquet").to_pylist()
    ]
    code, stdout, _ = call("predict", *adapters, "--top", 2, "--json")
    expected = [*map(json.loads, stdout.splitlines())]
    assert len(rows) == len(expected) == 34
    for row, other in zip(rows, expected, strict=True):
        assert (row["path"], row["adapter"], row["error"]) == (
            other["path"],
            other["adapter"],
            other["error"],
        )
        for i in range(2):
            top = other["top"][i] if other["top"] else {"class": None, "probability": None}
            assert (row[f"class_{i + 1}"], row[f"probability_{i + 1}"]) == (top["class"], top["probability"])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--out", "out"], 2, "--out needs its videos in a file: --list FILE"),
        (["x.mp4", "--out", "out", "--list", "list.txt"], 2, "--out needs its videos in a file: --list FILE"),
        (["--shard", "0/2", "--list", "list.txt"], 2, "--shard needs --out FOLDER and --list FILE"),
        (["--ray", "local", "x.mp4"], 2, "--ray needs --out FOLDER and --list FILE"),
        (["--shard", "2/2", "--list", "list.txt", "--out", "out"], 2, "--shard must be I/N with I from 0 to"),
        (["--shard", "/2", "--list", "list.txt", "--out", "out"], 2, "--shard must be I/N with I from 0 to"),
        (
            ["--shard", "0/2", "--ray", "local", "--list", "list.txt", "--out", "out"],
            2,
            "--shard and --ray both divide the shards",
        ),
        (["--list", "none.txt", "--out", "out"], 3, "none.txt: cannot be read: No such file"),
        (["--list", "none.txt"], 3, "none.txt: cannot be read: No such file"),
        (["--list", "list.txt", "--out", "out", "--shard-size", "0"], 2, "the shard size must be at least 1"),
        (["--list", "list.txt", "--out", "no/out"], 2, "no/out: its parent folder does not exist"),
        (["--list", "list.txt", "--out", "out", "--output", "a.csv"], 2, "--output FILE and --out FOLDER"),
        (["--list", "unknown.txt", "--out", "out"], 2, "nonsense://: fsspec knows no such file system"),
        (["nonsense://a.mp4"], 2, "nonsense://: fsspec knows no such file system"),
        ([], 2, "missing: VIDEO"),
        (["--list", "empty.txt"], 2, "empty.txt: is empty"),
    ],
)
def test_wrong_flags_are_one_line(call, folder, arguments, code, message):
    (folder / "unknown.txt").write_text("nonsense://a.mp4\n")
    (folder / "empty.txt").touch()
    found, stdout, stderr = call("predict", "adapter", *arguments)
    assert (found, stdout) == (code, "") and message in stderr.splitlines()[-1]
    assert not [*folder.glob("out/part*")]
