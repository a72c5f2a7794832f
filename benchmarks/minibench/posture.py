"""`Posture`: the angles of a moving body, and the positions of its joints.

The lengths below are chosen for a person of about 1.72 m, not measured.
"""

from dataclasses import dataclass, field

import numpy as np
from capture import JOINTS, rotations, unit

SPINE, CHEST, NECK, HEAD = 0.1, 0.22, 0.46, 0.56  # metres above the hips, along the trunk
SHOULDER, HIP = 0.17, 0.09  # metres to the side
UPPER_ARM, LOWER_ARM = 0.3, 0.25
UPPER_LEG, LOWER_LEG, ANKLE, FOOT = 0.42, 0.42, 0.07, 0.14


@dataclass
class Arm:
    """Angles of an arm in radians, (frames,) or numbers.

    Attributes:
        lift: lift of the upper arm: 0 hangs, pi points up.
        front: direction of the lift: 0 is the side, pi / 2 the front, more is across the body.
        bend: bend of the elbow.
        inward: direction of the bend: 0 is the front (up if the arm points forward), more is inward.
    """

    lift: np.ndarray | float = 0.15
    front: np.ndarray | float = 0.3
    bend: np.ndarray | float = 0.2
    inward: float = 0.2


@dataclass
class Leg:
    """Angles of a leg in radians, (frames,) or numbers: thigh forward, thigh sideways, bend of the knee."""

    front: np.ndarray | float = 0.0
    aside: np.ndarray | float = 0.03
    bend: np.ndarray | float = 0.03


@dataclass
class Posture:
    """A moving body. Angles are in radians, (frames,) or numbers; x, y, z point forward, left and up.

    Attributes:
        bow, lean, twist: of the trunk, to the front, to the right, to the left.
        yaw: rotation of the body to the left.
        place: (frames, 2), position of the hips on the floor, in metres.
        size: scale of the body, 1 for the lengths above.
    """

    bow: np.ndarray | float = 0.0
    lean: np.ndarray | float = 0.0
    twist: np.ndarray | float = 0.0
    yaw: np.ndarray | float = 0.0
    place: np.ndarray | float = 0.0
    size: float = 1.0
    arms: dict[str, Arm] = field(default_factory=lambda: {x: Arm() for x in "LR"})
    legs: dict[str, Leg] = field(default_factory=lambda: {x: Leg() for x in "LR"})

    def joints(self, frames: int) -> np.ndarray:
        """Joint positions (frames, len(JOINTS), 3) in metres; the lower foot is on the floor."""

        def turn(axis: int, angle: np.ndarray | float) -> np.ndarray:
            return rotations(axis, np.broadcast_to(angle, frames))

        heading = turn(2, self.yaw)
        trunk = heading @ turn(2, self.twist) @ turn(1, self.bow) @ turn(0, self.lean)
        at = {"Hips": np.zeros((frames, 3))}
        for name, height in (("Spine", SPINE), ("Chest", CHEST), ("Neck", NECK), ("Head", HEAD)):
            at[name] = trunk @ np.array((0, 0, height))
        for x, left in (("L", 1), ("R", -1)):
            upper, lower = arm_directions(self.arms[x], left, frames)
            at[f"Shoulder_{x}"] = trunk @ np.array((0, left * SHOULDER / 3, NECK - 0.04))
            at[f"UpperArm_{x}"] = trunk @ np.array((0, left * SHOULDER, NECK - 0.06))
            at[f"LowerArm_{x}"] = at[f"UpperArm_{x}"] + UPPER_ARM * (trunk @ upper[..., None])[..., 0]
            at[f"Hand_{x}"] = at[f"LowerArm_{x}"] + LOWER_ARM * (trunk @ lower[..., None])[..., 0]
            leg = self.legs[x]
            front, aside, bend = (np.broadcast_to(x, frames) for x in (leg.front, leg.aside, leg.bend))
            thigh, shin = (
                np.stack((np.sin(p) * np.cos(aside), left * np.sin(aside), -np.cos(p) * np.cos(aside)), -1)
                for p in (front, front - bend)
            )
            sole = np.stack((np.cos(front - bend), 0 * bend, np.minimum(np.sin(front - bend), 0.3) - 0.3), -1)
            at[f"UpperLeg_{x}"] = heading @ np.array((0, left * HIP, -0.02))
            at[f"LowerLeg_{x}"] = at[f"UpperLeg_{x}"] + UPPER_LEG * (heading @ thigh[..., None])[..., 0]
            at[f"Foot_{x}"] = at[f"LowerLeg_{x}"] + LOWER_LEG * (heading @ shin[..., None])[..., 0]
            at[f"Toes_{x}"] = at[f"Foot_{x}"] + FOOT * (heading @ unit(sole)[..., None])[..., 0]
        joints = self.size * np.stack([at[name] for name in JOINTS], 1)
        joints[..., 2] -= joints[..., 2].min(1, keepdims=True) - ANKLE / 2
        joints[..., :2] += np.broadcast_to(self.place, (frames, 2))[:, None]
        return joints


def arm_directions(arm: Arm, left: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions (frames, 3) of the upper and the lower arm, in the axes of the trunk; `left` is 1 or -1.

    The direction of the bend has a pole in front and above: a bent arm that passes it flips within a frame.
    """
    lift, front, bend = (np.broadcast_to(x, frames) for x in (arm.lift, arm.front, arm.bend))
    upper = np.stack((np.sin(lift) * np.sin(front), left * np.sin(lift) * np.cos(front), -np.cos(lift)), -1)
    ahead = np.abs(upper[:, :1])
    towards = (1 - ahead) * (1, 0, 0) + ahead * (0, 0, 1) + arm.inward * np.array((0, -left, 0))
    across = unit(towards - (towards * upper).sum(-1, keepdims=True) * upper)
    return upper, np.cos(bend)[:, None] * upper + np.sin(bend)[:, None] * across
