"""benchmarks/clusters.py: clips of one origin say less than independent ones."""

import sys

import numpy as np
import pytest


@pytest.fixture
def clusters(benchmarks):
    return benchmarks("clusters")


def test_an_interval_by_origins_is_that_of_their_means(clusters):
    values = np.random.default_rng(0).random(200)
    alone = [str(i) for i in range(200)]
    assert clusters.widening(values, alone) == pytest.approx(1)
    # Every clip three times says what it says once: the standard error is that of a third as many.
    assert clusters.widening(np.repeat(values, 3), np.repeat(alone, 3)) == pytest.approx(3**0.5)
    # Origins that are all alike on the mean say more than their clips.
    assert clusters.widening([0, 1, 0, 1], ["a", "a", "b", "b"]) == 0


@pytest.mark.parametrize(
    ("folder", "column", "said"),
    [("motion", "style", "no column 'style'"), ("other", "take", "has no runs on these clips")],
)
def test_what_cannot_be_told_is_said_in_one_line(
    clusters, tmp_path, monkeypatch, capsys, folder, column, said
):
    own = tmp_path / folder
    for split in ("train", "test"):
        (own / split).mkdir(parents=True)
        for name in ("a", "b"):
            (own / split / f"{name}.mp4").touch()
        rows = "".join(f"{split}/{name}.mp4,{name},{name}1\n" for name in ("a", "b"))
        (own / f"{split}.csv").write_text(f"path,label,take\n{rows}")
    monkeypatch.setattr(sys, "argv", ["clusters.py", str(own), "--column", column])
    with pytest.raises(SystemExit, match="2"):
        clusters.main()
    assert said in capsys.readouterr().err.splitlines()[-1]
