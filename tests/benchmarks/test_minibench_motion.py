"""benchmarks/minibench, motion and recipes: people move as captured; the splits share nothing."""

import collections
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

MINIBENCH = Path(__file__).parents[2] / "benchmarks/minibench"
TREE = {  # somebody who stands, in the files' centimetres: to the left, up, forward
    "joint_Root": (0, 0, 0),
    **{
        "Hips": (0, 80, 0),
        "Spine": (0, 95, 0),
        "Chest": (0, 104, 0),
        "Neck": (0, 120, 0),
        "Head": (0, 127, 0),
    },
    **{
        "Shoulder_L": (5, 117, 0),
        "UpperArm_L": (11, 117, 0),
        "LowerArm_L": (22, 97, 0),
        "Hand_L": (30, 79, 0),
    },
    **{"UpperLeg_L": (6, 78, 0), "LowerLeg_L": (8, 45, 2), "Foot_L": (8, 11, 0), "Toes_L": (8, 4, 10)},
}
TREE |= {x.replace("_L", "_R"): (-left, up, front) for x, (left, up, front) in TREE.items() if "_L" in x}
BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 7 7 7
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Spine
  {
    OFFSET 0 10 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 0 5
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
1 2 3 0 0 0 0 0 0
1 2 3 90 90 0 0 0 90
"""


def take(action, number):
    """A motion in the axes of the files: hands rise and fall; a walker or runner moves to the left."""
    motion = np.tile(np.array(list(TREE.values()), float), (50 + 20 * number, 1, 1))
    part = np.linspace(0, 1, len(motion))
    for side in "LR":
        if {"L": "left", "R": "right"}[side] in action or "both" in action:
            motion[:, list(TREE).index(f"Hand_{side}"), 1] += 60 * np.sin(np.pi * part)
    if action.startswith(("walk", "run")):
        motion = motion[..., [2, 1, 0]] * (1, 1, -1)  # facing x, whose left is -z
        motion[..., 0] += 200 * part[:, None]
    return motion


@pytest.fixture
def takes(minibench):
    """Three takes of each action in each style, by the names of the data set."""
    capture = minibench("capture")
    styles = [x for styles in capture.STYLES.values() for x in styles]
    names = itertools.product(capture.ACTIONS, styles, (1, 2, 3))
    return {f"dataset-2_{action}_{style}_{i:03}": take(action, i) for action, style, i in names}


@pytest.fixture
def archive(takes, tmp_path):
    """The takes as a .npz."""
    path = tmp_path / "takes.npz"
    np.savez(path, _names=list(TREE), **{name: x.astype(np.float16) for name, x in takes.items()})
    return path


def as_bvh(motion):
    """A BVH file with all joints directly below the root, so that positions are in world axes."""
    joints = [f"JOINT {x}\n{{\nOFFSET 9 9 9\nCHANNELS 3 Xposition Yposition Zposition\n}}\n" for x in TREE]
    rows = "\n".join(" ".join(f"{x:.6f}" for x in row) for row in motion.reshape(len(motion), -1))
    head = f"HIERARCHY\nROOT All\n{{\nOFFSET 0 0 0\nCHANNELS 0\n{''.join(joints)}}}\n"
    return f"{head}MOTION\nFrames:\t{len(motion)}\nFrame Time:\t0.0333333\n{rows}\n"


def test_joints_of_a_bvh_file_follow_from_its_angles(minibench):
    names, positions = minibench("capture").read_bvh(BVH)
    assert names == ["Hips", "Spine", "Spine_end"]
    assert np.allclose(positions[0], [(1, 2, 3), (1, 12, 3), (1, 12, 8)])
    # z after x: the spine's y goes to z, which stays; the end's z goes to x by its own y, and then to y
    assert np.allclose(positions[1], [(1, 2, 3), (1, 2, 13), (1, 7, 13)])


def test_a_clone_and_an_archive_hold_the_same_motion(minibench, takes, archive, tmp_path):
    folder = tmp_path / "clone/dataset/Bandai-Namco-Research-Motiondataset-2/data"
    folder.mkdir(parents=True)
    for name, motion in takes.items():
        (folder / f"{name}.bvh").write_text(as_bvh(motion[:2]))
    capture = minibench("capture").Capture
    clone, other = capture(tmp_path / "clone"), capture(archive)
    assert clone.files.keys() == other.files.keys() and clone.hash != other.hash
    for name in ("run_active_001", "wave-left-hand_elderly_003"):
        assert np.allclose(clone.joints(name), other.joints(name)[:2], atol=1e-3)


def test_a_take_is_in_metres_and_turned_to_the_front(minibench, archive):
    capture = minibench("capture")
    walk = capture.face_front(capture.Capture(archive).joints("walk_normal_001"))
    ends = {name: walk[:, i] for i, name in enumerate(capture.JOINTS)}
    assert np.allclose(ends["Hips"][0], (0, 0, 0.8), atol=1e-3)
    assert np.allclose(ends["Hips"][-1], (2, 0, 0.8), atol=1e-2)
    assert np.allclose(ends["Hand_L"][0], (0, 0.3, 0.79), atol=1e-2)
    assert np.allclose(ends["Toes_R"][0], (0.1, -0.08, 0.04), atol=1e-2)


def test_the_splits_share_no_style_and_no_take(minibench, archive):
    capture = minibench("capture")
    data, styles = capture.Capture(archive), list(itertools.chain(*capture.STYLES.values()))
    assert len(set(styles)) == len(styles) == 7
    takes = [x for action in capture.ACTIONS for style in styles for x in data.takes(action, style)]
    assert len(set(takes)) == len(takes) == 10 * 7 * 3


def test_a_take_that_turns_against_its_name_is_skipped(minibench):
    capture = minibench("capture")
    assert len(capture.UNLABELLED) == 8
    assert {x.split("_")[0] for x in capture.UNLABELLED} == {"walk-turn-left", "walk-turn-right"}


def test_a_clip_shows_60_to_90_frames_about_the_middle_whatever_the_class(drawn):
    window, spans = drawn("capture").window, drawn("motion").SPANS
    for length in (30, 75, 200, 400):
        for seed in range(20):
            joints, start, span = window(np.arange(length), np.random.default_rng(seed), spans)
            assert list(joints) == list(range(start, start + span))
            assert min(length, 60) <= span <= 90 and start <= length / 2 < start + span
            assert span == min(window(np.arange(90), np.random.default_rng(seed), spans)[2], length)


@pytest.mark.parametrize("name", ["motion", "fresh_motion"])
def test_the_splits_share_no_hue_and_no_angle_and_see_the_front(name, drawn):
    motion, face = drawn(name), drawn("person").FACE
    assert motion.LOOKS.keys() == motion.SPLITS.keys() == {"train", "val", "test"}
    for ranges in zip(*motion.LOOKS.values(), strict=True):  # of hue, azimuth, elevation
        ordered = sorted(ranges)
        assert all(low < high for low, high in ordered)
        assert all(a[1] < b[0] for a, b in itertools.pairwise(ordered))
    for split, looks in motion.LOOKS.items():
        cameras = [looks.camera(np.random.default_rng(x)) for x in range(50)]
        aside = [abs(x.azimuth - face) for x in cameras]
        assert looks.azimuth[0] <= min(aside) and max(aside) <= looks.azimuth[1] <= 45, split
        assert len({np.sign(x.azimuth - face) for x in cameras}) == 2, split


@pytest.mark.parametrize("name", ["motion", "fresh_motion"])
def test_the_splits_share_no_style_and_have_all_of_them(name, drawn):
    styles = [x for split in drawn(name).Maker.styles.values() for x in split]
    assert sorted(styles) == sorted(x for split in drawn("capture").STYLES.values() for x in split)


def test_a_fresh_test_has_styles_that_no_earlier_test_or_validation_had(drawn):
    first = drawn("motion").Maker.styles
    for name in ("fresh_motion", "fresh_recipes"):
        assert set(drawn(name).Maker.styles["test"]) <= set(first["train"])
    assert not set(drawn("fresh_recipes").PARTS.values()) & set(drawn("recipes").PARTS.values())


def test_a_person_of_fresh_recipes_stays_at_one_place(drawn, archive):
    recipes, hips = drawn("fresh_recipes"), drawn("capture").JOINTS.index("Hips")
    maker = recipes.Maker(recipes.CLASSES[0], recipes.Data(archive))
    try:
        for take in maker.capture.takes("run", "active"):
            joints = maker.motion(take, np.random.default_rng(0))
            assert np.abs(joints[:, hips, :2]).max() < 1e-9
    finally:
        maker.close()


def test_nothing_is_between_the_camera_and_the_path(drawn):
    free_position, rng = drawn("person").free_position, np.random.default_rng(0)
    aside, deep = np.linspace(0, 1, 16), np.linspace(0, -5, 16)
    for _ in range(200):
        x, y = free_position(aside, deep, rng)
        assert all(abs(x - a) > 1 or y > d for a, d in zip(aside, deep, strict=True))


@pytest.mark.parametrize(("side", "sign"), [("L", 1), ("R", -1)])
def test_the_left_hand_of_a_facing_person_is_on_the_right(drawn, side, sign):
    capture, person, camera = drawn("capture"), drawn("person"), drawn("camera")
    still = np.array([TREE[x] for x in capture.JOINTS])[None, :, capture.AXES] * capture.METRES
    raised = still.copy()
    for name, up in ((f"LowerArm_{side}", 1.4), (f"Hand_{side}", 1.65)):
        raised[0, capture.JOINTS.index(name), 2] = up
    eye = camera.Camera(person.FACE, -10, 2.8, (0, 0, 0.87))
    x, y = eye.project(raised[0, capture.JOINTS.index(f"Hand_{side}")], person.FOVY)
    stage = person.Stage()
    try:
        pictures = [
            stage.film(joints, np.zeros((1, 2)), eye, (0, 0.5), np.random.default_rng(1))[0].astype(int)
            for joints in (still, raised)
        ]
    finally:
        stage.close()
    changed = (np.abs(pictures[0] - pictures[1]).max(-1) > 15)[: int(y) + 5]  # down to the wrist
    assert sign * (x - camera.SIDE / 2) > 5
    assert changed.sum() > 10 and abs(np.nonzero(changed)[1].mean() + 0.5 - x) < 3


@pytest.mark.parametrize("name", ["recipes", "fresh_recipes"])
def test_the_orders_of_recipes_are_balanced(name, drawn):
    recipes = drawn(name)
    orders = [x.split("-") for x in recipes.CLASSES]
    assert len({tuple(x) for x in orders}) == 8
    assert all(sorted(x) == sorted(recipes.PARTS) for x in orders)
    for place in zip(*orders, strict=True):
        assert set(collections.Counter(place).values()) == {2}
    following = collections.Counter(pair for x in orders for pair in itertools.pairwise(x))
    assert len(following) == 12 and set(following.values()) == {2}
    assert len({(x[0], x[-1]) for x in orders}) == len({x[0] for x in orders})  # the last adds nothing
    for part, other in (("wave", "both"), ("run", "walk"), ("left", "right")):  # confused by a model
        assert len({tuple(x.replace(part, other) for x in order) for order in orders}) == 8


@pytest.mark.parametrize("name", ["recipes", "fresh_recipes"])
def test_clips_of_two_orders_have_the_same_frames(name, drawn, archive):
    recipes = drawn(name)
    maker = recipes.Maker(recipes.CLASSES[0], recipes.Data(archive))
    made = []
    try:
        for label in recipes.CLASSES[::7]:
            maker.order = label.split("-")
            made.append(maker.make("val", np.random.default_rng(1)).frames)
    finally:
        maker.close()
    assert made[0].shape == (32, 112, 112, 3) and not np.array_equal(*made)
    assert len({tuple(sorted(frame.tobytes() for frame in x)) for x in made}) == 1


@pytest.mark.parametrize(("name", "label"), [("motion", "walk"), ("recipes", "wave-left-both-right")])
def test_a_clip_has_the_same_bytes_whatever_was_made_before(drawn, made_twice, archive, name, label):
    after, alone = made_twice(name, "test", label, archive)
    assert after == alone


def test_clips_of_other_data_are_not_mixed(drawn, takes, archive, tmp_path):
    make_set, other = drawn("clipset").make_set, tmp_path / "other.npz"
    np.savez(other, _names=list(TREE), **takes)
    make_set("motion", tmp_path / "set", 0, {}, 1, archive)
    with pytest.raises(ValueError, match="another folder"):
        make_set("motion", tmp_path / "set", 0, {}, 1, other)


def test_data_of_another_kind_is_one_line_and_exit_code_2(drawn, tmp_path):
    wrong = tmp_path / "notes.npz"
    np.savez(wrong, notes=np.zeros(1))
    command = [sys.executable, str(MINIBENCH), "motion", "--out", str(tmp_path / "set"), "--data"]
    for path in (wrong, tmp_path / "nothing"):
        done = subprocess.run([*command, str(path)], capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.startswith(f"{path}: ")
        assert done.stderr.count("\n") == 1 and "--data" in done.stderr
    assert not (tmp_path / "set").exists()


def test_data_is_required_and_unneeded_data_is_an_error(drawn, minibench, archive):
    open_data = minibench("clipset").open_data
    with pytest.raises(ValueError, match="--data"):
        open_data("recipes", None)
    with pytest.raises(ValueError, match="remove --data"):
        open_data("sheet", archive)  # a module without Data
