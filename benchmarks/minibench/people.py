"""`people`, the other half of the pretraining data of videomamba_nano: people with synthetic motions.

The motions are drawn at random, without any recording: one or both arms move to a position and stay, swing
between two positions, or circle; or the legs and the trunk move. In `arms-in-turn` each arm moves
differently. Oscillations are faster in one direction than in the other, so that time has a direction; only a
march has none. The camera sees all sides. The renderer is person.py, with wider ranges of looks than in
`motion`, which include all of its hues and angles. A .npz next to each clip has the positions of the body.
Validation clips come from other random streams, with the same looks.
"""

from collections.abc import Callable

import numpy as np
from camera import SIDE, Camera
from capture import JOINTS
from clipset import Made
from note import About
from person import FACE, FOVY, Stage, follow
from posture import Arm, Leg, Posture

FRAMES = 16
SPLITS = {"train": 200, "val": 10}
ARMS = ("left-arm", "right-arm", "both-arms", "arms-in-turn")
CLASSES = (
    *(f"{arms}-{movement}" for arms in ARMS for movement in ("reaches", "swings", "circles")),
    *("squat", "kick-left", "kick-right", "march", "stride", "sidestep", "bow", "twist"),
)
POINTS = ("Head", "Hand_L", "Hand_R", "Foot_L", "Foot_R", "Hips")  # in the .npz
TEXT = f"""People of capsules whose motions are drawn at random, {FRAMES} frames each, {len(CLASSES)} classes.
Columns: `azimuth` (180 is the front), `elevation`, `distance` of the camera, `targets`, which is a .npz:
`points` ({FRAMES}, {len(POINTS)}, 2) pixels (x, y) of {", ".join(POINTS)}; `inside` ({FRAMES}, {len(POINTS)})
whether they lie in the picture (they may be hidden behind something); `world` ({FRAMES}, {len(POINTS)}, 3) in
metres, beside the path of the camera, forward, left and up of somebody who faces x on the average."""
LICENCE = """Motions, bodies and pictures come from videossp alone and are under its licence, Apache 2.0:
https://www.apache.org/licenses/LICENSE-2.0
"""
ABOUT = About(TEXT, ("mujoco",), LICENCE, "motions and bodies that videossp draws at random")

Curve = Callable[[np.ndarray], np.ndarray]


def ease(x: np.ndarray) -> np.ndarray:
    """A smooth curve from 0 to 1 for x from 0 to 1."""
    return 0.5 - 0.5 * np.cos(np.pi * np.clip(x, 0, 1))


def rise_and_stay(rng: np.random.Generator) -> Curve:
    """A curve from 0 to 1 within the clip that then stays at 1."""
    start, length = rng.uniform(0.05, 0.4), rng.uniform(0.2, 0.5)
    return lambda t: ease((t - start) / length)


def to_and_fro(rng: np.random.Generator, low: float = 1.0, high: float = 2.5) -> Curve:
    """A curve that oscillates between 0 and 1, faster up than down."""
    times, phase, share = rng.uniform(low, high), rng.uniform(0, 1), rng.uniform(0.2, 0.35)

    def curve(t: np.ndarray) -> np.ndarray:
        part = (times * t + phase) % 1
        return np.where(part < share, ease(part / share), ease((1 - part) / (1 - share)))

    return curve


def between(first: Arm, last: Arm, part: np.ndarray) -> Arm:
    """Interpolate between two postures of an arm."""
    ends = zip((first.lift, first.front, first.bend), (last.lift, last.front, last.bend), strict=True)
    return Arm(*(a + part * (b - a) for a, b in ends), first.inward)


def hanging(rng: np.random.Generator) -> Arm:
    """An arm at rest; sometimes one that is lifted or bent."""
    if rng.random() < 0.2:
        return held(rng)
    return Arm(rng.uniform(0.05, 0.45), rng.uniform(-0.2, 1), rng.uniform(0.05, 0.6), rng.uniform(0, 0.5))


def held(rng: np.random.Generator) -> Arm:
    """An arm that is lifted or bent."""
    lift = rng.uniform(0.5, 2.9)
    return Arm(lift, rng.uniform(-0.3, 1.8), rng.uniform(0, 2.2), rng.uniform(0, 0.8))


def far_from(arm: Arm, rng: np.random.Generator) -> Arm:
    """A posture of an arm that is far from the given one."""
    while True:
        other = held(rng)
        other.inward = arm.inward
        gap = (
            abs(other.lift - arm.lift) + abs(other.front - arm.front) * 0.5 + abs(other.bend - arm.bend) * 0.5
        )
        if gap > 1:
            return other


def moving_arm(movement: str, rng: np.random.Generator) -> Callable[[np.ndarray], Arm]:
    """The posture of a moving arm as a function of time, from 0 to 1 within a clip."""
    if movement == "circles":
        lift, front = rng.uniform(0.7, 2.2), rng.uniform(0.2, 1.5)
        wide, high = rng.uniform(0.3, 0.7, 2)
        times, phase, bend = rng.uniform(0.8, 2), rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.8)
        turned = rng.uniform(0, 0.8)

        def circle(t: np.ndarray) -> Arm:
            angle = 2 * np.pi * times * t + phase
            return Arm(lift + high * np.sin(angle), front + wide * np.cos(angle), bend, turned)

        return circle
    first = hanging(rng) if movement == "reaches" else held(rng)
    last = far_from(first, rng)
    curve = rise_and_stay(rng) if movement == "reaches" else to_and_fro(rng)
    return lambda t: between(first, last, curve(t))


def move_arms(posture: Posture, which: str, movement: str, t: np.ndarray, rng: np.random.Generator) -> None:
    """Move one arm, both arms alike, or each arm differently; the body sways."""
    move = moving_arm(movement, rng)
    other = moving_arm(movement, rng)
    sides = {"left-arm": "L", "right-arm": "R"}.get(which, "LR")
    for side in sides:
        posture.arms[side] = (other if which == "arms-in-turn" and side == "R" else move)(t)
    for name, size in (("bow", 0.08), ("lean", 0.06), ("twist", 0.15)):
        setattr(posture, name, rng.uniform(-size, size) + rng.uniform(0, size) * to_and_fro(rng)(t))
    for leg in posture.legs.values():
        leg.aside, leg.bend = rng.uniform(0, 0.15), rng.uniform(0, 0.15)
        leg.front = leg.bend / 2


def move_body(posture: Posture, movement: str, t: np.ndarray, rng: np.random.Generator) -> None:
    """Move the legs and the trunk."""
    legs, part = posture.legs, rng.uniform(0.6, 1)
    match movement:
        case "squat":
            depth = part * (rise_and_stay(rng) if rng.random() < 0.5 else to_and_fro(rng, 0.8, 1.6))(t)
            for leg in legs.values():
                leg.front, leg.bend, leg.aside = 1.3 * depth, 2.2 * depth, 0.12
            posture.bow = 0.7 * depth
        case "kick-left" | "kick-right":
            leg = legs["L" if movement == "kick-left" else "R"]
            rise = to_and_fro(rng, 0.9, 2)(t)
            leg.front, leg.bend = 1.4 * part * rise, rng.uniform(0, 1.2) * (1 - rise) * part + 0.05
            leg.aside = rng.uniform(0, 0.3) * rise
            posture.bow = -0.15 * rise
        case "march" | "stride":
            cycles, phase = rng.uniform(1.5, 4), rng.uniform(0, 2 * np.pi)
            walk, swing = movement == "stride", rng.uniform(0.2, 1)
            for side, turn in (("L", 0), ("R", np.pi)):
                angle = 2 * np.pi * cycles * t + phase + turn
                if walk:
                    legs[side].front = 0.1 + 0.55 * part * np.sin(angle)
                    legs[side].bend = 0.12 + 0.9 * part * np.clip(np.cos(angle), 0, 1)
                else:
                    rise = np.clip(np.sin(angle), 0, 1) * part
                    legs[side].front, legs[side].bend = 1.3 * rise, 1.8 * rise
                arm = posture.arms["R" if side == "L" else "L"]
                arm.lift = 0.1 + 0.6 * swing * np.abs(np.sin(angle))
                arm.front = np.pi / 2 * np.tanh(3 * np.sin(angle))  # to the front and to the back
                arm.bend = rng.uniform(0.2, 1.5)
            if walk:
                posture.yaw = rng.uniform(-1.6, 1.6) * (t - 0.5)
                heading = np.stack((np.cos(posture.yaw), np.sin(posture.yaw)), -1)
                posture.place = np.cumsum(heading, 0) * 1.3 * part * cycles / len(t)
        case "sidestep":
            side, cycles = rng.choice((-1, 1)), rng.uniform(1, 2.5)
            width = np.sin(np.pi * cycles * t) ** 2 * 0.35 * part
            legs["L"].aside = legs["R"].aside = 0.05 + width
            legs["L" if side > 0 else "R"].bend = 0.3 * width
            posture.place = np.stack((0 * t, side * 0.5 * part * cycles * t), -1)
            posture.lean = -side * 0.3 * width
        case "bow":
            posture.bow = (
                1.5 * part * (rise_and_stay(rng) if rng.random() < 0.5 else to_and_fro(rng, 0.7, 1.5))(t)
            )
        case "twist":
            posture.twist = 1.2 * part * (2 * to_and_fro(rng, 0.8, 2)(t) - 1)


def draw_motion(label: str, rng: np.random.Generator) -> np.ndarray:
    """Joint positions (FRAMES, len(JOINTS), 3) of a person who faces x on average."""
    t = (np.arange(FRAMES) + 0.5) / FRAMES
    posture = Posture(size=rng.uniform(0.92, 1.08), arms={x: hanging(rng) for x in "LR"})
    posture.legs = {x: Leg(0.0, rng.uniform(0.02, 0.12), rng.uniform(0, 0.1)) for x in "LR"}
    which = next((x for x in ARMS if label.startswith(x)), None)
    if which:
        move_arms(posture, which, label.removeprefix(f"{which}-"), t, rng)
    else:
        move_body(posture, label, t, rng)
    return posture.joints(FRAMES)


class Maker:
    """Makes the clips of one movement."""

    def __init__(self, label: str) -> None:
        self.label, self.stage = label, Stage()

    def make(self, split: str, rng: np.random.Generator) -> Made:
        """A clip; the splits differ in their random streams only."""
        joints = draw_motion(self.label, rng)
        path = follow(joints)
        aside = 75 if rng.random() < 0.7 else 180
        camera = Camera(
            azimuth=FACE + rng.uniform(-aside, aside),
            elevation=rng.uniform(-40, -2),
            distance=rng.uniform(2.4, 3.4),
            look_at=(*rng.uniform(-0.12, 0.12, 2), rng.uniform(0.78, 0.98)),
        )
        frames = self.stage.film(joints, path, camera, (0, 1), rng)
        points = joints[:, [JOINTS.index(x) for x in POINTS]]
        points[..., :2] -= path[:, None]
        pixels = camera.project(points, FOVY)
        targets = {
            "points": pixels.astype(np.float32),
            "inside": ((pixels >= 0) & (pixels < SIDE)).all(-1),
            "world": points.astype(np.float32),
        }
        return Made(frames, camera.row(), targets)

    def close(self) -> None:
        """Free the renderer."""
        self.stage.close()
