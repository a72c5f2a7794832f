"""Files of a run folder."""

import csv
import json

import pytest

from conftest import SMALL, SSP_SMALL
from videossp.classifier import Classifier
from videossp.data.datasets import Sample
from videossp.model.videomamba import VideoMamba
from videossp.training.run_folder import write_config, write_setup

NAMES = ("config.yaml", "env.json", "split.csv")


def test_files_of_a_run_replace_links_and_spare_their_targets(small_classifier, tmp_path):
    run, target = tmp_path / "run", tmp_path / "target"
    run.mkdir()
    target.write_text("precious")
    for name in NAMES:
        (run / name).symlink_to(target)
    training = [Sample("a.mp4", "bright, by day/ä.mp4", 0)]
    write_setup(run, small_classifier, {}, {"seed": 0}, training, [Sample("b.mp4", "b.mp4", 1)])
    assert target.read_text() == "precious" and sorted(x.name for x in run.iterdir()) == list(NAMES)
    assert not any((run / name).is_symlink() for name in NAMES)
    rows = list(csv.reader((run / "split.csv").read_text(encoding="utf-8").splitlines()))
    assert rows == [["video", "split"], ["bright, by day/ä.mp4", "train"], ["b.mp4", "val"]]
    assert json.loads((run / "env.json").read_text())["backbone_sha256"] == small_classifier.sha256


@pytest.mark.parametrize("given", ["name", "sizes", "module"])
@pytest.mark.parametrize("seed", [0, 3])
def test_config_notes_only_a_seed_of_creation_that_is_known_to_differ(small_backbone, tmp_path, given, seed):
    """The source of a module does not record the seed, so nothing can be said about it."""
    backbone = {"name": small_backbone, "sizes": SMALL, "module": VideoMamba(SMALL)}[given]
    classifier = Classifier.create(backbone, classes=["a", "b"], seed=seed, **SSP_SMALL)
    for trained in (0, 3):
        write_config(tmp_path, classifier, {}, {"seed": trained})
        text = (tmp_path / "config.yaml").read_text()
        noted = f"# The classifier was created with seed {seed}, which no flag sets." in text
        assert text.startswith("#") == noted == (trained != seed and given != "module")
