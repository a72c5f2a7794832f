"""benchmarks/clusters.py: clips of one origin contain less information than independent ones."""

import sys

import numpy as np
import pytest


@pytest.fixture
def clusters(benchmarks):
    return benchmarks("clusters")


def test_widening_by_origins(clusters):
    values = np.random.default_rng(0).random(200)
    alone = [str(i) for i in range(200)]
    assert clusters.widening(values, alone) == pytest.approx(1)
    # Three copies of every clip add no information: the standard error is that of a third as many.
    assert clusters.widening(np.repeat(values, 3), np.repeat(alone, 3)) == pytest.approx(3**0.5)
    # Origins with equal means contain more information than their clips.
    assert clusters.widening([0, 1, 0, 1], ["a", "a", "b", "b"]) == 0


@pytest.mark.parametrize(
    ("folder", "column", "message"),
    [("motion", "style", "no column 'style'"), ("other", "take", "has no runs on these clips")],
)
def test_an_unusable_set_ends_in_one_line(clusters, tmp_path, monkeypatch, capsys, folder, column, message):
    root = tmp_path / folder
    for split in ("train", "test"):
        (root / split).mkdir(parents=True)
        for name in ("a", "b"):
            (root / split / f"{name}.mp4").touch()
        rows = "".join(f"{split}/{name}.mp4,{name},{name}1\n" for name in ("a", "b"))
        (root / f"{split}.csv").write_text(f"path,label,take\n{rows}")
    monkeypatch.setattr(sys, "argv", ["clusters.py", str(root), "--column", column])
    with pytest.raises(SystemExit, match="2"):
        clusters.main()
    assert message in capsys.readouterr().err.splitlines()[-1]
