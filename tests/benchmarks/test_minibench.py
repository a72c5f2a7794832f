"""benchmarks/minibench: clips depend only on their identity in the set; splits share no look."""

import csv
import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from videossp.data.datasets import read_data

MINIBENCH = Path(__file__).parents[2] / "benchmarks/minibench"

# A set without a simulator: noise in the colour of its class, and the frames as targets.
PLAIN = """
import numpy as np
from clipset import Made

SPLITS, CLASSES = {"train": 3, "val": 1}, ("dark", "light")


class Maker:
    def __init__(self, label):
        self.level = 60 if label == "dark" else 160

    def make(self, split, rng):
        frames = (self.level + rng.integers(0, 60, (4, 32, 32, 3))).astype(np.uint8)
        return Made(frames, {"drawn": int(rng.integers(1000))}, {"mean": frames.mean((1, 2, 3))})

    def close(self):
        pass
"""


@pytest.fixture
def minibench(minibench, monkeypatch, tmp_path):
    """Gives modules of benchmarks/minibench by name, and the set `plain`."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/plain.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.delitem(sys.modules, "plain", raising=False)
    return minibench


@pytest.fixture
def simulated(drawn):
    """The same, for what needs the simulator."""
    if importlib.util.find_spec("metaworld") is None:
        pytest.skip("the simulator, metaworld, is in the extra bench")
    return drawn


def contents(folder):
    files = (x for x in folder.rglob("*") if x.is_file() and not x.name.startswith("."))
    return {x.relative_to(folder).as_posix(): x.read_bytes() for x in files}


def test_an_interrupted_set_ends_with_the_same_bytes(minibench, tmp_path):
    make_set = minibench("clipset").make_set
    clips = make_set("plain", tmp_path / "a", 0, {"train": 3, "val": 1}, 2)
    whole = contents(tmp_path / "a")
    for clip in clips[1::2]:
        (tmp_path / "a" / clip.path).unlink()
    (tmp_path / "a/train.csv").unlink()
    make_set("plain", tmp_path / "a", 0, {"train": 3, "val": 1}, 1)
    assert contents(tmp_path / "a") == whole


def test_a_clip_depends_neither_on_the_number_of_clips_nor_of_processes(minibench, tmp_path):
    make_set = minibench("clipset").make_set
    make_set("plain", tmp_path / "few", 0, {"train": 1}, 1)
    make_set("plain", tmp_path / "many", 0, {"train": 3, "val": 1}, 2)
    few, many = contents(tmp_path / "few"), contents(tmp_path / "many")
    videos = [x for x in few if x.endswith((".mp4", ".npz"))]
    assert len(videos) == 4
    assert all(few[x] == many[x] for x in videos)


def test_another_seed_makes_other_clips_and_does_not_mix_with_the_first(minibench, tmp_path):
    make_set = minibench("clipset").make_set
    make_set("plain", tmp_path / "a", 0, {"train": 1}, 1)
    make_set("plain", tmp_path / "b", 1, {"train": 1}, 1)
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert all(a[x] != b[x] for x in a if x.endswith(".mp4"))
    with pytest.raises(ValueError, match="another folder"):
        make_set("plain", tmp_path / "a", 1, {"train": 1}, 1)


def test_the_annotation_is_read_and_names_the_targets(minibench, tmp_path):
    minibench("clipset").make_set("plain", tmp_path, 0, {"train": 3, "val": 1}, 1)
    samples = read_data(tmp_path)
    assert samples.classes == ("dark", "light")
    assert {split: len(x) for split, x in samples.splits.items()} == {"train": 6, "val": 2}
    rows = list(csv.DictReader((tmp_path / "train.csv").read_text().splitlines()))
    assert list(rows[0]) == ["path", "label", "drawn", "targets"]
    with np.load(tmp_path / rows[0]["targets"]) as targets:
        assert targets["mean"].shape == (4,)


def test_any_part_of_a_set_covers_its_classes(minibench):
    clipset = minibench("clipset")
    clips = [clipset.Clip("train", label, i) for label in "abc" for i in range(25)]
    blocks = list(clipset.blocks(clips))
    assert [x[0].label for x in blocks] == list("abcabcabc")
    assert sorted(x.number for x in itertools.chain(*blocks)) == sorted(list(range(25)) * 3)


def test_a_contact_sheet_is_drawn(minibench, tmp_path):
    clips = minibench("clipset").make_set("plain", tmp_path, 0, {"train": 1}, 1)
    minibench("sheet").draw_sheet(
        tmp_path / "sheet.png", [(x.label, tmp_path / x.path) for x in clips], "plain"
    )
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_tabletop_has_13_pairs_and_source_the_other_24_tasks(simulated):
    robot, tabletop, source = simulated("robot"), simulated("tabletop"), simulated("source")
    assert len(tabletop.PAIRS) == 13 and all(len(pair) == 2 for pair in tabletop.PAIRS)
    assert len(set(tabletop.CLASSES)) == 26 and len(set(source.CLASSES)) == 24
    assert sorted(tabletop.CLASSES + source.CLASSES) == sorted(robot.TASKS)


@pytest.mark.parametrize("name", ["tabletop", "fresh_tabletop"])
def test_the_looks_of_the_splits_of_tabletop_are_disjoint(name, simulated):
    looks = simulated(name).LOOKS
    assert looks.keys() == {"train", "val", "test"}
    for ranges in zip(*looks.values(), strict=True):  # of hue, azimuth, elevation
        ordered = sorted(ranges)
        assert all(low < high for low, high in ordered)
        assert all(a[1] < b[0] for a, b in itertools.pairwise(ordered))


@pytest.mark.parametrize("name", ["tabletop", "fresh_tabletop"])
def test_a_pair_is_seen_from_angles_that_the_splits_do_not_share(name, simulated):
    tabletop, face = simulated("tabletop"), simulated("robot").FACE
    looks_of_splits = simulated(name).LOOKS.values()
    for view in tabletop.PAIRS.values():
        spans = [
            sorted(azimuth + np.sign(azimuth - face) * x for x in looks.azimuth)
            for azimuth in view.azimuths
            for looks in looks_of_splits
        ]
        assert all(a[1] < b[0] for a, b in itertools.pairwise(sorted(spans)))


@pytest.fixture
def robot(simulated):
    """A robot that pushes a puck."""
    robot = simulated("robot").Robot("push-wall")
    yield robot
    robot.close()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_episode_depends_on_its_stream_alone(robot):
    first = robot.run(np.random.default_rng(1), 0.1, (0.05, 0.05, 0.03))
    robot.run(np.random.default_rng(2), 0.1, (0.05, 0.05, 0.03))
    again = robot.run(np.random.default_rng(1), 0.1, (0.05, 0.05, 0.03))
    assert np.array_equal(first.qpos, again.qpos) and first.row() == again.row()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_failed_episode_is_not_used(robot, simulated, monkeypatch):
    episode = robot.run(np.random.default_rng(1), 0, (0, 0, 0))
    puck, goal = episode.points[-1, 1], episode.points[-1, 3]
    assert np.linalg.norm(puck - goal) < 0.07 < np.linalg.norm(episode.points[0, 1] - goal)
    monkeypatch.setattr(simulated("robot"), "LONGEST", 10)  # steps: too few for any
    with pytest.raises(RuntimeError, match="failed"):
        robot.run(np.random.default_rng(1), 0, (0, 0, 0))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_each_material_has_a_separate_colour_and_goal_markers_are_hidden(robot, simulated):
    module = simulated("robot")
    look = module.Look((0, 1), (0.2, 0.5), (0.4, 0.9), bleach=0.5, plain=True, light=1, seed=0)
    robot.render(
        robot.run(np.random.default_rng(1), 0, (0, 0, 0)), module.Camera(215, -35, 0.8, (0, 0.7, 0.1)), look
    )
    shown = robot.renderer.scene.geoms[: robot.renderer.scene.ngeom]
    kinds = {(robot.materials[x.objid], tuple(robot.paints[robot.paint_of.ravel()[x.objid]])) for x in shown}
    assert len({tuple(x.rgba[:3]) for x in shown if x.rgba[:3].any()}) >= len(kinds) - 1  # black stays black
    assert all(x.objtype == module.mujoco.mjtObj.mjOBJ_GEOM for x in shown)  # a site is none


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_points_are_where_the_renderer_draws_the_object(robot, simulated):
    module = simulated("robot")
    episode = robot.run(np.random.default_rng(1), 0, (0, 0, 0))
    camera = module.Camera(215, -35, 0.8, (0, 0.7, 0.1))
    look = module.Look((0, 0), (0, 0), (1, 1), bleach=0, plain=False, light=1, seed=0)
    seen = robot.render(episode, camera, look)[0].astype(int)
    robot.model.geom("objGeom").size = 1e-4
    changed = np.abs(seen - robot.render(episode, camera, look)[0]).max(-1) > 20
    rows, columns = np.nonzero(changed)
    x, y = robot.targets(episode, camera)["points"][0, 1]
    assert len(rows) > 10
    assert np.hypot(columns.mean() + 0.5 - x, rows.mean() + 0.5 - y) < 1.5


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_simulated_clip_has_the_same_bytes_whatever_was_made_before(simulated, made_twice):
    after, alone = made_twice("tabletop", "test", "handle-press")
    assert after == alone
