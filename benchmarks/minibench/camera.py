"""`Camera`, and a fast renderer for MuJoCo on the CPU. Import this module before mujoco.

With MuJoCo's defaults it renders 5 to 11 frames a second of 112 px. Without reflections and multisampling,
with coarser shapes, rendered at twice the size and averaged, it is 100 to 200.
"""

import os
from dataclasses import dataclass

os.environ.setdefault("MUJOCO_GL", "osmesa")  # read when mujoco is imported
os.environ.setdefault(
    "LP_NUM_THREADS", "0"
)  # Mesa renders in the calling thread: other processes use the cores

import mujoco
import numpy as np

SIDE = 112


@dataclass(frozen=True)
class Camera:
    """Position of the camera of a clip, in degrees and metres."""

    azimuth: float
    elevation: float
    distance: float
    look_at: tuple[float, float, float]

    def row(self) -> dict[str, float]:
        """Columns of the annotation."""
        return {x: round(float(getattr(self, x)), 2) for x in ("azimuth", "elevation", "distance")}

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """World vectors of length 1 that point right, up and forward in the picture."""
        azimuth, elevation = np.radians((self.azimuth, self.elevation))
        flat = np.array((np.cos(azimuth), np.sin(azimuth), 0))
        forward = np.cos(elevation) * flat + np.sin(elevation) * np.array((0, 0, 1))
        up = -np.sin(elevation) * flat + np.cos(elevation) * np.array((0, 0, 1))
        return np.cross(forward, up), up, forward

    def project(self, points: np.ndarray, fovy: float) -> np.ndarray:
        """Pixels (x to the right, y down; the first pixel covers 0 to 1) of points (..., 3) of the world."""
        right, up, forward = self.axes()
        away = points - (np.array(self.look_at) - self.distance * forward)
        focal = SIDE / 2 / np.tan(np.radians(fovy) / 2)
        x, y, depth = away @ right, away @ up, away @ forward
        return np.stack((SIDE / 2 + focal * x / depth, SIDE / 2 - focal * y / depth), -1)

    def eye(self) -> mujoco.MjvCamera:
        """The camera for the renderer."""
        eye = mujoco.MjvCamera()
        eye.azimuth, eye.elevation, eye.distance = self.azimuth, self.elevation, self.distance
        eye.lookat[:] = self.look_at
        return eye


def make_renderer(model: mujoco.MjModel, shadows: bool, shadowsize: int = 256) -> mujoco.Renderer:
    """A fast renderer at twice the size. Close it, or the next one renders nothing."""
    quality = model.vis.quality
    quality.shadowsize, quality.offsamples, quality.numslices, quality.numstacks = shadowsize, 0, 12, 6
    renderer = mujoco.Renderer(model, 2 * SIDE, 2 * SIDE)
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
    return renderer


def photograph(renderer: mujoco.Renderer) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8 of the scene that the renderer holds."""
    pixels = renderer.render().reshape(SIDE, 2, SIDE, 2, 3)
    return ((pixels.sum((1, 3), dtype=np.uint16) + 2) // 4).astype(np.uint8)
