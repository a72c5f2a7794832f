"""benchmarks/real_folds.py: every clip is in the test of one fold, and no speaker is in two splits."""

import csv

import numpy as np
import pytest

from conftest import write_video
from videossp.data.datasets import read_data


@pytest.fixture
def real(benchmarks):
    return benchmarks("real_folds")


def rows(speakers=10, folds=5):
    return [
        {"file": f"a/{i}_{word}.mp4", "class": word, "speaker": f"s{i}", "fold": str(i % folds)}
        for i in range(speakers)
        for word in ("yes", "no")
    ]


def test_every_clip_is_tested_once_and_no_speaker_is_in_two_splits(real):
    found = real.folds(rows())
    assert len(found) == 5
    tested = [x["file"] for splits in found.values() for x in splits["test"]]
    assert sorted(tested) == sorted(x["file"] for x in rows())
    for splits in found.values():
        speakers = {split: {x["speaker"] for x in members} for split, members in splits.items()}
        assert sum(map(len, speakers.values())) == 10 and [*map(len, speakers.values())] == [6, 2, 2]


def test_data_that_does_not_fit_is_refused(real):
    for wrong, message in [
        ([], "no column class, file, fold, speaker"),
        (rows(folds=2), "2 folds; there must be at least 3"),
        ([*rows(), rows()[0] | {"fold": "3"}], "a speaker in two folds"),
    ]:
        with pytest.raises(ValueError, match=message):
            real.folds(wrong)


def test_the_folders_can_be_read_as_data(real, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(real, "SETS", ("lips_words",))
    source = tmp_path / "data" / "lips_words"
    for x in rows(3, 3):
        write_video(source / x["file"], np.zeros((2, 16, 16, 3), np.uint8))
    with (source / "clips.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "class", "speaker", "fold"])
        writer.writeheader()
        writer.writerows(rows(3, 3))
    arguments = ["real_folds", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", arguments)
    assert real.main() == 0
    data = read_data(tmp_path / "out" / "lips_words_1")
    assert {split: len(x) for split, x in data.splits.items()} == {"train": 2, "val": 2, "test": 2}
    monkeypatch.setattr("sys.argv", [*arguments[:2], str(tmp_path / "none"), *arguments[3:]])
    assert real.main() == 2 and "No such file" in capsys.readouterr().err
