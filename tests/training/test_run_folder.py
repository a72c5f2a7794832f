"""Files of a run folder."""

import csv
import json

from videossp.data.datasets import Sample
from videossp.training.run_folder import write_setup

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
