"""benchmarks/minibench, people: synthetic bodies keep their bone lengths and move as their class."""

import itertools

import numpy as np
import pytest


@pytest.fixture
def ends(minibench):
    """Joints by name: of one posture, or of a motion."""
    capture = minibench("capture")
    return lambda joints: {name: joints[:, i] for i, name in enumerate(capture.JOINTS)}


def length(one, other):
    return np.linalg.norm(one - other, axis=-1)


def motions(people, label, count=40):
    return [people.draw_motion(label, np.random.default_rng(x)) for x in range(count)]


def way(joints):
    """How far something goes, from frame to frame."""
    return length(joints[1:], joints[:-1]).sum()


def test_bones_keep_their_lengths_and_the_lower_foot_is_on_the_floor(drawn, ends):
    people, posture = drawn("people"), drawn("posture")
    for label in people.CLASSES:
        for seed, joints in enumerate(motions(people, label, 5)):
            at = ends(joints)
            for x in "LR":
                upper = length(at[f"UpperArm_{x}"], at[f"LowerArm_{x}"])
                assert np.allclose(upper / length(at[f"LowerArm_{x}"], at[f"Hand_{x}"]), 0.3 / 0.25), label
                thigh = length(at[f"UpperLeg_{x}"], at[f"LowerLeg_{x}"])
                shin = length(at[f"LowerLeg_{x}"], at[f"Foot_{x}"])
                assert np.allclose(thigh, shin) and np.allclose(thigh, thigh[0]), (label, seed)
                assert 0.92 <= thigh[0] / posture.UPPER_LEG <= 1.08
            feet = np.stack([at[f"{x}_{side}"][:, 2] for x in ("Foot", "Toes") for side in "LR"])
            assert np.allclose(feet.min(0), posture.ANKLE / 2)


def test_an_upright_body_has_its_left_on_the_left_and_hands_below(minibench, ends):
    posture = minibench("posture")
    at = ends(posture.Posture().joints(1))
    assert at["Hand_L"][0, 1] > 0.15 and at["Hand_R"][0, 1] < -0.15
    assert at["Foot_L"][0, 1] > 0 > at["Foot_R"][0, 1]
    assert at["Head"][0, 2] > at["UpperArm_L"][0, 2] > at["Hips"][0, 2] > at["Hand_L"][0, 2]
    assert at["Toes_L"][0, 0] > at["Foot_L"][0, 0] + 0.1
    assert 1.3 < at["Head"][0, 2] < 1.6


@pytest.mark.parametrize(
    ("lift", "front", "where"),
    [
        (0, 0, (0, 0, -1)),
        (90, 0, (0, 1, 0)),
        (90, 90, (1, 0, 0)),
        (180, 30, (0, 0, 1)),
        (90, -90, (-1, 0, 0)),
    ],
)
def test_an_arm_points_along_its_angles(minibench, ends, lift, front, where):
    posture = minibench("posture")
    body = posture.Posture()
    for x in "LR":
        body.arms[x] = posture.Arm(np.radians(lift), np.radians(front), 0)
    at = ends(body.joints(1))
    for x, left in (("L", 1), ("R", -1)):
        along = (at[f"Hand_{x}"] - at[f"UpperArm_{x}"])[0]
        assert np.allclose(along / np.linalg.norm(along), np.multiply(where, (1, left, 1)), atol=1e-6)


def test_an_elbow_bends_the_hand_forward_and_a_knee_the_foot_back(minibench, ends):
    posture = minibench("posture")
    body = posture.Posture()
    body.arms["L"].lift, body.arms["L"].bend = 0.0, 1.5
    body.legs["R"].bend = 1.5
    at = ends(body.joints(1))
    assert at["Hand_L"][0, 0] > at["LowerArm_L"][0, 0] + 0.2
    assert at["Foot_R"][0, 0] < at["LowerLeg_R"][0, 0] - 0.3


def test_a_body_turns_bows_and_leans_by_its_angles(minibench, ends):
    posture = minibench("posture")
    bowed, leaned = (ends(posture.Posture(**{x: 0.5}).joints(1)) for x in ("bow", "lean"))
    turned, twisted = (ends(posture.Posture(**{x: np.pi / 2}).joints(1)) for x in ("yaw", "twist"))
    assert bowed["Head"][0, 0] > 0.2 and leaned["Head"][0, 1] < -0.2
    assert np.allclose(turned["UpperArm_L"][0, :2], (-posture.SHOULDER, 0), atol=1e-6)
    assert turned["UpperLeg_L"][0, 0] < -0.05 and abs(twisted["UpperLeg_L"][0, 0]) < 1e-6
    assert twisted["UpperArm_L"][0, 0] < -0.1


def test_the_arm_that_a_class_names_moves_most(drawn, ends):
    people = drawn("people")
    for label in (x for x in people.CLASSES if x.startswith(("left-arm", "right-arm"))):
        named, other = ("Hand_L", "Hand_R") if label.startswith("left") else ("Hand_R", "Hand_L")
        more = [way(ends(x)[named]) > way(ends(x)[other]) for x in motions(people, label)]
        assert np.mean(more) > 0.95, label


def test_both_arms_do_the_same_and_arms_in_turn_do_not(drawn, ends):
    people = drawn("people")

    def heights(label):
        for at in map(ends, motions(people, label, 10)):
            trunk = [at[f"Hand_{x}"][:, 2] - at[f"UpperArm_{x}"][:, 2] for x in "LR"]
            yield np.abs(trunk[0] - trunk[1]).mean()

    for what in ("reaches", "swings", "circles"):
        assert np.mean(list(heights(f"both-arms-{what}"))) < 0.1
        assert np.mean(list(heights(f"arms-in-turn-{what}"))) > 0.2


def test_only_stride_and_sidestep_move_the_body(drawn, ends):
    people = drawn("people")
    for label in people.CLASSES:
        gone = [length(at["Hips"][-1, :2], at["Hips"][0, :2]) for at in map(ends, motions(people, label, 10))]
        assert np.min(gone) > 0.15 if label in ("stride", "sidestep") else np.max(gone) < 1e-6, label


def test_legs_and_trunks_move_as_their_class(drawn, ends):
    people = drawn("people")
    at = {x: [ends(m) for m in motions(people, x, 20)] for x in people.CLASSES}
    sunk = {x: np.mean([np.ptp(m["Hips"][:, 2]) for m in own]) for x, own in at.items()}
    assert max(sunk, key=sunk.get) == "squat"
    down = {x: np.mean([np.ptp(m["Head"][:, 2] - m["Hips"][:, 2]) for m in own]) for x, own in at.items()}
    assert max(down, key=down.get) == "bow"
    for label, own, other in (("kick-left", "Foot_L", "Foot_R"), ("kick-right", "Foot_R", "Foot_L")):
        high = [np.mean([m[foot][:, 2].max() for m in at[label]]) for foot in (own, other)]
        assert high[0] > high[1] + 0.3, label
    turned = {
        x: np.mean([np.ptp((m["UpperArm_L"] - m["UpperArm_R"])[:, 0]) for m in own])
        for x, own in at.items()
        if x != "stride"
    }
    assert max(turned, key=turned.get) == "twist"


def test_a_movement_takes_longer_one_way_than_the_other(drawn):
    people = drawn("people")
    t = np.linspace(0, 1, 2000)
    for seed in range(20):
        curve = people.to_and_fro(np.random.default_rng(seed))(t)
        assert 0 <= curve.min() < 0.01 and 0.99 < curve.max() <= 1
        rising = np.diff(curve) > 0
        assert rising.mean() < 0.45
    for seed in range(20):
        curve = people.rise_and_stay(np.random.default_rng(seed))(t)
        assert curve[0] == 0 and curve[-1] > 0.9 and (np.diff(curve) >= 0).all()


def test_targets_are_where_the_body_is_drawn(drawn):
    """Pixels change along the target path of the hand, and hardly along one with an error of 12."""
    people = drawn("people")
    hand, maker, seen = people.POINTS.index("Hand_R"), people.Maker("right-arm-swings"), []
    try:
        for seed in range(8):
            made = maker.make("train", np.random.default_rng(seed))
            change = np.abs(np.diff(made.frames.astype(int), axis=0)).max(-1) > 40
            places = made.arrays["points"][:, hand]
            for i, (a, b) in enumerate(itertools.pairwise(places)):
                if np.linalg.norm(a - b) > 6:
                    x, y = b.astype(int)
                    spots = [(x, y), (x + 12, y), (x - 12, y), (x, y - 12)]
                    seen.append([change[i, v - 2 : v + 3, u - 2 : u + 3].any() for u, v in spots])
            assert made.frames.shape == (16, 112, 112, 3)
    finally:
        maker.close()
    right, *wrong = np.mean(seen, 0)
    assert len(seen) > 20 and right > 0.95 and max(wrong) < 0.7, (right, wrong)


def test_a_clip_of_people_has_the_same_bytes_whatever_was_made_before(drawn, made_twice):
    after, alone = made_twice("people", "val", "stride")
    assert after == alone
