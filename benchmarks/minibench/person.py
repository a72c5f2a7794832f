"""`Stage`: renders a person made of capsules with MuJoCo, with random clothes in every clip.

Nothing is simulated: the joints define the position of each capsule. Nose, eyes and hair distinguish front
and back, and so left and right, which are dressed alike. The camera follows and never turns. Nothing is
between the camera and the person.
"""

import colorsys
from dataclasses import replace

import numpy as np
from camera import SIDE, Camera, make_renderer, mujoco, photograph  # mujoco after its settings
from capture import JOINTS, rotations, unit

FACE = 180  # azimuth of a camera in front of a person who faces x
FOVY = 45
PROPS = 4
PATTERNS = {"plain": "flat", "tiles": "checker", "dots": "flat", "shade": "gradient"}
LIMBS = (  # from, to, radius, paint; `body` computes the ends that are not joints
    ("Hips", "Spine", 0.105, "shirt"),
    ("Spine", "Chest", 0.105, "shirt"),
    ("Chest", "Collar", 0.095, "shirt"),
    ("Collar", "Chin", 0.05, "skin"),
    ("Chin", "Crown", 0.085, "skin"),
    ("Nape", "Top", 0.09, "hair"),
    ("Nose", "Nose", 0.028, "skin"),
    *((f"Eye_{x}", f"Eye_{x}", 0.02, "hair") for x in "LR"),
    *(("Collar", f"UpperArm_{x}", 0.06, "shirt") for x in "LR"),
    *((f"UpperArm_{x}", f"LowerArm_{x}", 0.052, "shirt") for x in "LR"),
    *((f"LowerArm_{x}", f"Hand_{x}", 0.04, "sleeve") for x in "LR"),
    *((f"Hand_{x}", f"Tip_{x}", 0.045, "skin") for x in "LR"),
    *(("Hips", f"UpperLeg_{x}", 0.095, "trousers") for x in "LR"),
    *((f"UpperLeg_{x}", f"LowerLeg_{x}", 0.075, "trousers") for x in "LR"),
    *((f"LowerLeg_{x}", f"Foot_{x}", 0.055, "leg") for x in "LR"),
    *((f"Foot_{x}", f"Toes_{x}", 0.042, "shoes") for x in "LR"),
)
BROAD = ("shirt", "trousers", "sleeve", "leg")
PAINTS = {  # saturation, brightness
    "shirt": ((0.3, 0.9), (0.3, 1)),
    "trousers": ((0.3, 0.9), (0.15, 0.9)),
    "shoes": ((0, 0.6), (0.1, 0.9)),
    "skin": ((0.15, 0.4), (0.5, 1)),
    "hair": ((0.2, 0.7), (0.05, 0.3)),
    "floor": ((0.05, 0.5), (0.4, 0.9)),
    "wall": ((0.05, 0.4), (0.4, 1)),
    **{f"prop{i}": ((0.1, 0.9), (0.2, 1)) for i in range(PROPS)},
}


def world() -> str:
    """The MuJoCo model: a floor, a wall, a lamp, props and the capsules.

    The wall is translucent so that no shadow falls on it. The planes are finite, because MuJoCo would center
    infinite planes at the camera of the previous picture.
    """
    textures = "".join(
        f'<texture name="{name}" type="2d" builtin="{kind}" width="128" height="128" rgb1="1 1 1"'
        f' rgb2=".62 .62 .62" mark="{"random" if name == "dots" else "none"}" random=".03"'
        f' markrgb=".5 .5 .5"/>'
        f'<material name="{name}" texture="{name}" texuniform="true" specular="0" shininess="0"/>'
        for name, kind in PATTERNS.items()
    )
    capsules = "".join(f'<geom name="limb{i}" type="capsule" size=".1 .1"/>' for i in range(len(LIMBS)))
    props = "".join(f'<geom name="prop{i}" type="box" size=".1 .1 .1"/>' for i in range(PROPS))
    return f"""<mujoco>
      <statistic extent="2" center="0 0 .8"/>
      <visual>
        <global fovy="{FOVY}" offwidth="{2 * SIDE}" offheight="{2 * SIDE}"/>
        <headlight ambient=".38 .38 .38" diffuse=".3 .3 .3" specular="0 0 0"/>
      </visual>
      <asset>{textures}</asset>
      <worldbody>
        <light name="lamp" directional="true" diffuse=".55 .55 .55" specular=".1 .1 .1"/>
        <geom name="floor" type="plane" size="25 25 .1" material="plain"/>
        <geom name="wall" type="plane" size="25 25 .1" material="plain" rgba="1 1 1 .98"/>
        {props}{capsules}
      </worldbody>
    </mujoco>"""


def body(joints: np.ndarray) -> dict[str, np.ndarray]:
    """Positions (frames, 3) of the ends of the LIMBS: the joints, and points derived from them."""
    ends = {name: joints[:, i] for i, name in enumerate(JOINTS)}
    up, left = unit(ends["Head"] - ends["Neck"]), unit(ends["UpperArm_L"] - ends["UpperArm_R"])
    front = unit(np.cross(left, up))
    ends["Collar"] = (ends["Shoulder_L"] + ends["Shoulder_R"]) / 2
    ends["Chin"], ends["Crown"] = (ends["Head"] + x * up for x in (0.05, 0.1))
    ends["Nape"], ends["Top"] = (ends["Head"] + x * up - 0.03 * front for x in (0.08, 0.13))
    ends["Nose"] = ends["Head"] + 0.065 * up + 0.095 * front
    for x, side in (("L", 1), ("R", -1)):
        ends[f"Eye_{x}"] = ends["Head"] + 0.1 * up + 0.075 * front + side * 0.035 * left
        ends[f"Tip_{x}"] = ends[f"Hand_{x}"] + 0.07 * unit(ends[f"Hand_{x}"] - ends[f"LowerArm_{x}"])
    return ends


def frames_along(directions: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 9) whose third axis is the given direction; upright for length 0."""
    z = np.where((directions == 0).all(-1, keepdims=True), (0, 0, 1), unit(directions))
    x = unit(np.cross(np.where(np.abs(z[..., :1]) < 0.9, (1, 0, 0), (0, 1, 0)), z))
    return np.stack((x, np.cross(z, x), z), -1).reshape(*z.shape[:-1], 9)


def follow(joints: np.ndarray) -> np.ndarray:
    """A path (frames, 2) for `film`: a parabola fitted to the hips; steps and swaying stay visible."""
    moments, hips = np.linspace(-1, 1, len(joints)), joints[:, JOINTS.index("Hips"), :2]
    return np.stack([np.polyval(np.polyfit(moments, x, 2), moments) for x in hips.T], -1)


def free_position(aside: np.ndarray, deep: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """A random position near a path that hides no part of it; axes: right, and away from the camera."""
    while True:
        near = rng.integers(len(deep))
        x, y = aside[near] + rng.uniform(-2, 2), deep[near] + rng.uniform(-0.8, 1.6)
        if np.all((np.abs(x - aside) > 1) | (y - deep > 0.7)):
            return x, y


class Stage:
    """The world and its renderer. A process can have one at a time: call `close`."""

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(world())
        self.data = mujoco.MjData(self.model)
        mujoco.mj_forward(self.model, self.data)
        self.limbs = [self.model.geom(f"limb{i}").id for i in range(len(LIMBS))]
        self.renderer = make_renderer(self.model, shadows=True, shadowsize=512)

    def close(self) -> None:
        """Free the graphics context."""
        self.renderer.close()

    def film(
        self,
        joints: np.ndarray,
        path: np.ndarray,
        camera: Camera,
        hues: tuple[float, float],
        rng: np.random.Generator,
    ) -> np.ndarray:
        """(frames, SIDE, SIDE, 3) uint8 of a motion.

        Args:
            joints: (frames, len(JOINTS), 3) in metres.
            path: (frames, 2) on the floor; camera and lamp move along it.
            camera: the camera when the path is at the origin.
            hues: (low, high) of all colours, 0 to 1 around the colour circle.
            rng: for clothes, colours, patterns, light, wall and props.
        """
        ends = body(joints)
        self._dress(hues, rng)
        self._furnish(path, camera, rng)
        starts, stops = (np.stack([ends[limb[i]] for limb in LIMBS], 1) for i in (0, 1))
        turned = frames_along(stops - starts)
        halves = np.linalg.norm(stops - starts, axis=-1) / 2
        pictures = []
        for i, place in enumerate(np.pad(path, ((0, 0), (0, 1)))):
            self.data.geom_xpos[self.limbs] = (starts[i] + stops[i]) / 2
            self.data.geom_xmat[self.limbs] = turned[i]
            self.model.geom_size[self.limbs, 1] = halves[i]
            self.data.light_xpos[0] = place + (0, 0, 0.8) - 4 * self.data.light_xdir[0]
            eye = replace(camera, look_at=tuple(place + camera.look_at)).eye()
            self.renderer.update_scene(self.data, eye)
            pictures.append(photograph(self.renderer))
        return np.stack(pictures)

    def _dress(self, hues: tuple[float, float], rng: np.random.Generator) -> None:
        """Draw colours and patterns, long or short sleeves and trousers, and the width of the body."""
        drawn = {
            name: colorsys.hsv_to_rgb(rng.uniform(*hues), rng.uniform(*saturation), rng.uniform(*value))
            for name, (saturation, value) in PAINTS.items()
        }
        drawn["sleeve"] = drawn[rng.choice(("shirt", "skin"))]
        drawn["leg"] = drawn[rng.choice(("trousers", "skin"))]
        broad = rng.uniform(0.85, 1.15)
        for limb, (_, _, radius, paint) in zip(self.limbs, LIMBS, strict=True):
            self.model.geom_rgba[limb, :3] = drawn[paint]
            self.model.geom_size[limb, 0] = radius * (broad if paint in BROAD else 1)
        for name in ("floor", "wall", *(f"prop{i}" for i in range(PROPS))):
            geom = self.model.geom(name)
            geom.rgba[:3] = drawn[name]
            if not name.startswith("prop"):
                geom.matid[:] = pattern = rng.integers(len(PATTERNS))
                self.model.mat_texrepeat[pattern] = rng.uniform(0.3, 1)
        light = rng.uniform(0.85, 1.15)
        self.model.light_diffuse[0] = 0.55 * light
        self.model.vis.headlight.diffuse[:] = 0.3 * light

    def _furnish(self, path: np.ndarray, camera: Camera, rng: np.random.Generator) -> None:
        """Put the wall behind the path, the props behind or beside it, the lamp on the camera's side.

        Positions are written to the data, because MuJoCo keeps objects at the origin that are there in the
        model.
        """
        azimuth = np.radians(camera.azimuth)
        forward = np.array((np.cos(azimuth), np.sin(azimuth)))
        right = np.array((forward[1], -forward[0]))
        deep, aside = path @ forward, path @ right
        skew = np.radians(rng.uniform(-15, 15))
        facing = -np.cos(skew) * forward + np.sin(skew) * right
        behind = (deep.max() + rng.uniform(2.2, 4)) * forward + aside.mean() * right
        self._place("wall", (*behind, 0), frames_along(np.array((*facing, 0))))
        for i in range(PROPS):
            prop = self.model.geom(f"prop{i}")
            prop.size[:] = size = rng.uniform(0.1, 0.3, 3)
            prop.type[:] = rng.choice((mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER))
            x, y = free_position(aside, deep, rng)
            high = size[2] if prop.type == mujoco.mjtGeom.mjGEOM_BOX else size[1]
            turned = rotations(2, rng.uniform(0, np.pi, 1)).ravel()
            self._place(f"prop{i}", (*(x * right + y * forward), high), turned)
        lamp, low = azimuth + np.radians(rng.uniform(-70, 70)), np.radians(rng.uniform(45, 70))
        self.data.light_xdir[0] = (np.cos(low) * np.cos(lamp), np.cos(low) * np.sin(lamp), -np.sin(low))

    def _place(self, name: str, position: tuple[float, ...], turned: np.ndarray) -> None:
        geom = self.model.geom(name).id
        self.data.geom_xpos[geom], self.data.geom_xmat[geom] = position, turned
