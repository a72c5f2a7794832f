"""`Robot`: episodes of one Meta-World task under its scripted policy, with any camera and colours.

Meta-World (MIT) has 50 tasks with a policy each. camera.py renders about 120 frames a second, without
shadows.
"""

import colorsys
import warnings
from dataclasses import dataclass
from importlib.metadata import distribution

from camera import SIDE, Camera, make_renderer, photograph  # before mujoco

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gymnasium warns about its own names
    import mujoco
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    from metaworld.policies import ENV_POLICY_MAP

import numpy as np

PACKAGES = ("metaworld", "mujoco")
LICENCE = distribution("metaworld").read_text("licenses/LICENSE") or "MIT"
TASKS = tuple(sorted(name.removesuffix("-v3") for name in ALL_V3_ENVIRONMENTS))
FRAMES = 16
FACE = 270  # azimuth of a camera in front of the robot
POINTS = ("gripper", "object", "second", "goal")
LONGEST = 250  # steps after which an episode has failed; the median is 40 to 140
SCENERY = ("basic_floor", "table_wood")  # materials
UNPAINTED = (0.5, 0.5, 0.5, 1)  # MuJoCo's colour of a geom that takes the colour of its material


@dataclass(frozen=True)
class Look:
    """Colours of a clip.

    Attributes:
        hues: (low, high) of the hues of the tints, 0 to 1 around the colour circle; high may exceed 1.
        saturations: (low, high) of the tints, 0 is grey.
        values: (low, high) of the brightness of the tints.
        bleach: share of their colour that objects lose before they are tinted; 1 leaves only the brightness.
        plain: remove the textures of objects; table and floor keep theirs.
        light: brightness of all lamps.
        seed: random seed of the tint of each material and colour.
    """

    hues: tuple[float, float]
    saturations: tuple[float, float]
    values: tuple[float, float]
    bleach: float
    plain: bool
    light: float
    seed: int

    def tint(self, colours: np.ndarray) -> np.ndarray:
        """Tint each of the colours (count, 3), RGB from 0 to 1, with a random tint."""
        rng = np.random.default_rng(self.seed)
        hsv = (rng.uniform(*x, len(colours)) for x in (self.hues, self.saturations, self.values))
        tints = np.array([colorsys.hsv_to_rgb(h % 1, s, v) for h, s, v in zip(*hsv, strict=True)])
        bleached = colours + self.bleach * (colours.max(1, keepdims=True) - colours)
        return np.clip(bleached * tints, 0, 1)


@dataclass(frozen=True)
class Episode:
    """A successful episode at the times of its frames.

    Attributes:
        qpos: (FRAMES, joints), joint positions for the renderer.
        mocap: (FRAMES, 7), position and quaternion of the body that leads the hand.
        points: (FRAMES, len(POINTS), 3) in metres; nan if the task has no such point.
        opening: (FRAMES,), of the gripper, 0 to 1.
        steps: steps of the policy until the last frame.
        seed: random seed of object and goal.
        tries: number of episodes until this one succeeded.
    """

    qpos: np.ndarray
    mocap: np.ndarray
    points: np.ndarray
    opening: np.ndarray
    steps: int
    seed: int
    tries: int

    def row(self) -> dict[str, int]:
        """Columns of the annotation."""
        return {"task_seed": self.seed, "steps": self.steps, "tries": self.tries}


class Robot:
    """The simulator of one task, and its renderer. One at a time in a process: call `close`."""

    def __init__(self, task: str) -> None:
        self.env = ALL_V3_ENVIRONMENTS[f"{task}-v3"]()
        self.env._partially_observable = (
            False  # the policies need the goal, which would otherwise be set to 0
        )
        del self.env.sawyer_observation_space
        self.env._set_task_called, self.env._freeze_rand_vec, self.env.seeded_rand_vec = True, False, True
        self.policy = ENV_POLICY_MAP[f"{task}-v3"]()
        self.model, self.data = self.env.model, self.env.data
        self.hand = np.array(self.env.hand_init_pos)
        self.lamps = self.model.light_diffuse.copy()
        self.headlight = self.model.vis.headlight.diffuse.copy()
        self._find_paints()
        self.model.site_rgba[:, 3] = 0  # the goal markers
        self.options = mujoco.MjvOption()
        self.options.sitegroup[:] = 0
        self.renderer = make_renderer(self.model, shadows=False)

    def _find_paints(self) -> None:
        """Group geoms by material and colour. A colour other than UNPAINTED overrides the material's."""
        model, self.materials = self.model, self.model.geom_matid.copy()
        coloured = (self.materials < 0) | (model.geom_rgba != UNPAINTED).any(1)
        model.geom_rgba[:] = np.where(coloured[:, None], model.geom_rgba, model.mat_rgba[self.materials])
        kinds = np.column_stack((self.materials, model.geom_rgba))
        kinds, self.paint_of = np.unique(kinds, axis=0, return_inverse=True)
        self.paints = kinds[:, 1:4]
        names = [model.mat(x).name if x >= 0 else "" for x in self.materials]
        self.scenery = np.isin(names, SCENERY)

    def close(self) -> None:
        """Free the graphics context; otherwise the next one in this process would render nothing."""
        self.renderer.close()
        self.env.close()

    def run(self, rng: np.random.Generator, noise: float, jitter: tuple[float, float, float]) -> Episode:
        """Run episodes of a random stream until one succeeds.

        Args:
            rng: for object, goal, start of the hand, noise and the times of the first and last frame.
            noise: standard deviation of the noise on the actions, which are in [-1, 1].
            jitter: largest offset of the start of the hand, in metres.
        """
        for tries in range(1, 100):
            seed = int(rng.integers(2**31))
            self.env.hand_init_pos = self.hand + rng.uniform(-1, 1, 3) * jitter
            after, before = int(rng.integers(4, 13)), rng.uniform(0, 0.1)
            trace = self._trace(seed, np.random.default_rng(rng.integers(2**63)), noise, after)
            if trace:
                last = len(trace) - 1
                moments = np.linspace(before * last, last, FRAMES).round().astype(int)
                columns = (np.stack(x) for x in zip(*(trace[i] for i in moments), strict=True))
                return Episode(*columns, steps=last, seed=seed, tries=tries)
        raise RuntimeError(f"{self.env.task_name}: 99 episodes failed")

    def _trace(self, seed: int, rng: np.random.Generator, noise: float, after: int) -> list:
        """States at each step until `after` steps past success; empty without success."""
        self.env.seed(seed)
        observation, _ = self.env.reset()
        trace, end = [self._state(observation)], None
        for step in range(LONGEST):
            action = self.policy.get_action(observation) + rng.normal(0, noise, 4)
            observation, _, _, _, info = self.env.step(np.clip(action, -1, 1).astype(np.float32))
            trace.append(self._state(observation))
            if end is None and info["success"]:
                end = step + after
            if step == end:
                return trace
        return []

    def _state(self, observation: np.ndarray) -> tuple[np.ndarray, ...]:
        second = observation[11:14] if len(self.env._get_pos_objects()) > 3 else np.full(3, np.nan)
        points = np.stack((self.env.tcp_center, observation[4:7], second, self.env._target_pos))
        mocap = np.concatenate((self.data.mocap_pos[0], self.data.mocap_quat[0]))
        return self.data.qpos.copy(), mocap, points, observation[3]

    def render(self, episode: Episode, camera: Camera, look: Look) -> np.ndarray:
        """(FRAMES, SIDE, SIDE, 3) uint8. Only for the last episode: a new one moves the objects."""
        self._paint(look)
        eye = camera.eye()
        frames = np.empty((FRAMES, SIDE, SIDE, 3), np.uint8)
        for i in range(FRAMES):
            self.data.qpos[:] = episode.qpos[i]
            self.data.mocap_pos[0], self.data.mocap_quat[0] = np.split(episode.mocap[i], (3,))
            mujoco.mj_kinematics(self.model, self.data)
            mujoco.mj_camlight(self.model, self.data)
            self.renderer.update_scene(self.data, eye, self.options)
            frames[i] = photograph(self.renderer)
        return frames

    def _paint(self, look: Look) -> None:
        self.model.geom_rgba[:, :3] = look.tint(self.paints)[self.paint_of.ravel()]
        keeps = self.scenery if look.plain else True
        self.model.geom_matid[:] = np.where(keeps, self.materials, -1)
        self.model.light_diffuse[:] = self.lamps * look.light
        self.model.vis.headlight.diffuse[:] = self.headlight * look.light

    def targets(self, episode: Episode, camera: Camera) -> dict[str, np.ndarray]:
        """Targets from the simulator for each frame.

        `points` (FRAMES, len(POINTS), 2) float32: pixels, nan for missing points; `inside` (FRAMES,
        len(POINTS)): whether they are inside the picture, possibly hidden; `opening` (FRAMES,) of the
        gripper, 0 to 1; `world` (FRAMES, len(POINTS), 3): metres.
        """
        pixels = camera.project(episode.points, self.model.vis.global_.fovy)
        return {
            "points": pixels.astype(np.float32),
            "inside": ((pixels >= 0) & (pixels < SIDE)).all(-1),
            "opening": episode.opening.astype(np.float32),
            "world": episode.points.astype(np.float32),
        }
