"""`sprites`, modelled on UCF101: 8 actions of creatures and of dressed people.

The clips are composed of the 3D-rendered drawings of FLARE, each in 8 directions. Floor, light, position,
size, speed and the drift of the camera are drawn independently of the class. The splits share none of

                            train                 val              test
    creatures               ants, skeletons,      goblins          zombies, minotaur
                              wyverns
    clothes                 cloth, leather        chain            plate, a mage's
    floor                   grassland, dungeon    snow             cave
    hue of floor and light  0 to 0.55             0.6 to 0.7       0.75 to 0.95 of the colour circle
    size                    0.56 to 0.68          0.53 to 0.55     0.46 to 0.52 of the picture
    place                   -12 to 3              4 to 6           8 to 14 pixels to the right of the middle

and no held objects. `get-up` is `die` reversed; in `moonwalk` a figure runs forward and moves backward.
FLARE's other actions are not classes: stance hardly moves, block and critdie are often the drawings of hit
and die, few spawn. Some creatures have the same drawings for two classes: see `own_actions`.
"""

import colorsys
from typing import NamedTuple

import numpy as np
from clipset import Made
from flare import DIRECTIONS, REACH, Figure, Flare, Sheet, open_flare
from note import About
from PIL import Image

FRAMES, SIDE = 16, 112
STRIKES = ("swing", "cast", "shoot")
ACTIONS = {"run": "run", "moonwalk": "run", **{x: x for x in (*STRIKES, "hit", "die")}, "get-up": "die"}
CYCLE = 8  # drawings of two steps, for every running figure
PAUSE = 3  # key frames of stance between repetitions of an action, and at most before the first
CONTRAST = 0.18  # standard deviation of a floor with mean 1
SPREAD = 320  # side of a floor in pixels, enough for the longest run
FLATTENED = 0.5  # vertical scale of the ground in FLARE's perspective


class Look(NamedTuple):
    """Content of the pictures of a split: names of sheets and tilesets, and ranges."""

    creatures: tuple[tuple[str, ...], ...]  # by family
    clothes: dict[str, tuple[str, ...]]  # in drawing order
    held: dict[str, tuple[str, ...]]
    floors: tuple[str, ...]
    hues: tuple[float, float]
    sizes: tuple[float, float]
    places: tuple[float, float]


LOOKS = {
    "train": Look(
        creatures=(
            ("antlion", "antlion_small", "fire_ant", "ice_ant"),
            ("skeleton", "skeleton_archer", "skeleton_mage", "skeleton_weak")
            + ("skeleton_knight_boss", "skeleton_mage_boss", "skeleton_mage_high_boss"),
            ("wyvern", "wyvern_adult", "wyvern_air", "wyvern_air_boss", "wyvern_fire", "wyvern_water"),
        ),
        clothes={
            "feet": ("default_feet", "cloth_sandals", "leather_boots"),
            "legs": ("default_legs", "cloth_pants", "leather_pants"),
            "chest": ("default_chest", "cloth_shirt", "leather_chest"),
            "hands": ("default_hands", "cloth_gloves", "leather_gloves"),
            "head": ("head_bald", "head_short", "head_long", "leather_hood"),
        },
        held={"main": ("dagger", "shortsword", "staff", "wand"), "off": ("buckler", "longbow")},
        floors=("grassland", "dungeon"),
        hues=(0, 0.55),
        sizes=(0.56, 0.68),
        places=(-12, 3),
    ),
    "val": Look(
        creatures=(("goblin", "goblin_elite"), ("hobgoblin", "hobgoblin_archer")),
        clothes={
            "feet": ("chain_boots",),
            "legs": ("chain_greaves",),
            "chest": ("chain_cuirass",),
            "hands": ("chain_gloves",),
            "head": ("chain_coif",),
        },
        held={"main": ("rod",), "off": ("iron_buckler", "shortbow")},
        floors=("snowplains",),
        hues=(0.6, 0.7),
        sizes=(0.53, 0.55),
        places=(4, 6),
    ),
    "test": Look(
        creatures=(("zombie", "zombie_dark"), ("minotaur",)),
        clothes={
            "feet": ("plate_boots", "mage_boots", "mage_boots_alt1", "mage_boots_alt2"),
            "legs": ("plate_greaves", "mage_skirt", "mage_skirt_alt1", "mage_skirt_alt2"),
            "chest": ("plate_cuirass", "mage_vest", "mage_vest_alt1", "mage_vest_alt2"),
            "hands": ("plate_gauntlets", "mage_sleeves", "mage_sleeves_alt1", "mage_sleeves_alt2"),
            "head": ("plate_helm", "mage_hood", "mage_hood_alt1", "mage_hood_alt2"),
        },
        held={"main": ("longsword", "greatsword", "greatstaff"), "off": ("shield", "greatbow", "slingshot")},
        floors=("cave",),
        hues=(0.75, 0.95),
        sizes=(0.46, 0.52),
        places=(8, 14),
    ),
}
SPLITS = {"train": 60, "val": 40, "test": 100}
CLASSES = tuple(ACTIONS)
Data = open_flare
TEXT = f"""{len(CLASSES)} actions of the creatures and the dressed people of FLARE, {FRAMES} frames each.
The splits share no creature, no clothes, nothing held, no floor, hue, size and place: the table is in
benchmarks/minibench/sprites.py. Columns: `figure` (a creature, or somebody's sex, clothes and what is held),
`direction` that it faces, `speed` (drawings a frame), `size` (share of the picture), `place` (pixels to the
right of the middle), `floor`, `hue`."""
LICENCE = """These clips are adaptations of the art of FLARE (https://flarerpg.org), in Debian's flare-game:
Copyright 2010-2021 Clint Bellanger, Justin Nichol, Blarumyrran, Jessica Cox, Sarah Benalene, Scrittl, Stefan
Beller, cron, rubberduck, Short-Ribs, Stefano Peris, VWolfDog, yd and others, licensed under Creative Commons
Attribution-ShareAlike 3.0 Unported (CC BY-SA 3.0) or later:
https://creativecommons.org/licenses/by-sa/3.0/legalcode

Changes: the drawings were enlarged, timed anew and put on floors of FLARE's tiles in other colours.
The clips are under the same licence: name the artists, share alike. It comes without any warranty.
Neither the drawings nor these clips are part of videossp.
"""
ABOUT = About(TEXT, ("pillow",), LICENCE, shown="art of FLARE")


def own_actions(sheet: Sheet) -> set[str]:
    """Actions of a sheet. If several STRIKES have the same drawings, only the first of them counts."""
    return {
        action
        for action, drawings in sheet.actions.items()
        if action not in STRIKES
        or all(sheet.actions.get(x) != drawings for x in STRIKES[: STRIKES.index(action)])
    }


def describe(sheets: dict[str, str]) -> str:
    """A description such as `zombie`, or `male plate_boots plate_greaves ...`."""
    paths = [x.split("/") for x in sheets.values()]
    return " ".join([*paths[0][1:-1], *(x[-1] for x in paths)])


def play(label: str, keys: int, stance: int, speed: float, rng: np.random.Generator) -> list[tuple[str, int]]:
    """FRAMES drawings (action, key) of an action with `keys` key frames, at `speed` drawings per frame."""
    action, shown = ACTIONS[label], int((FRAMES - 1) * speed) + 1
    if action == "run":
        first = int(rng.integers(keys))
        reel = [(action, (first + i) % keys) for i in range(shown)]
    else:
        wait = [("stance", i % stance) for i in range(PAUSE)]
        lead = int(rng.integers(min(PAUSE, max(shown - keys, 0)) + 1))
        once = [(action, i) for i in range(keys)]
        after = once[-1:] * shown if action == "die" else (wait + once) * shown
        reel = wait[PAUSE - lead :] + once + after
    frames = [reel[int(i * speed)] for i in range(FRAMES)]
    return frames[::-1] if label == "get-up" else frames


def heading(direction: float) -> np.ndarray:
    """Screen vector of a direction, x to the right and y down; of length 1 on the ground."""
    angle = np.pi / 4 * direction
    return -np.array((np.cos(angle), FLATTENED * np.sin(angle)))


def move(label: str, direction: int, pace: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Movement of the figure and of the floor in the picture, each (FRAMES, 2), relative to the middle frame.

    The camera follows a runner at `pace` slightly too slowly, and drifts as much past all other figures.
    """
    lag = rng.uniform(0.05, 0.3) * pace
    way = {"run": 1, "moonwalk": -1}.get(label)
    ahead = heading(rng.uniform(0, 8)) if way is None else way * heading(direction)
    time = np.arange(FRAMES)[:, None] - (FRAMES - 1) / 2
    return time * lag * ahead, time * (lag if way is None else lag - pace) * ahead


def dye(floor: Image.Image, colour: np.ndarray) -> Image.Image:
    """Recolour a floor in shades of a colour (0 to 255); all floors get the same contrast."""
    grey = np.asarray(floor.convert("L"), float)[..., None]
    shades = 1 + CONTRAST * (grey - grey.mean()) / grey.std()
    return Image.fromarray((shades * colour).clip(0, 255).astype(np.uint8))


def view(picture: Image.Image, origin: np.ndarray, zoom: float) -> Image.Image:
    """A square of SIDE pixels of a picture enlarged by `zoom`, with the pixel `origin` at the top left."""
    left, top = origin
    return picture.resize(
        (SIDE, SIDE), Image.Resampling.LANCZOS, (left, top, left + SIDE / zoom, top + SIDE / zoom)
    )


class Maker:
    """Makes the clips of one class.

    Attributes:
        looks: of the splits.
    """

    looks = LOOKS

    def __init__(self, label: str, flare: Flare) -> None:
        self.label, self.flare = label, flare

    def creature(self, look: Look, rng: np.random.Generator) -> dict[str, str]:
        """The sheet of a random creature that has the action."""
        action = ACTIONS[self.label]
        families = [
            [x for x in family if action in own_actions(self.flare.sheet(f"enemies/{x}"))]
            for family in look.creatures
        ]
        families = [x for x in families if x]
        return {"body": f"enemies/{rng.choice(families[rng.integers(len(families))])}"}

    def person(self, look: Look, rng: np.random.Generator) -> dict[str, str]:
        """The sheets of a random person, who may hold an object in one hand."""
        folder, hand = f"avatar/{rng.choice(('female', 'male'))}", rng.choice(("", "main", "off"))
        pieces = look.clothes | ({hand: look.held[hand]} if hand else {})
        fitting = {
            part: [x for x in names if self.flare.has(f"{folder}/{x}")] or names
            for part, names in pieces.items()
        }
        return {part: f"{folder}/{rng.choice(names)}" for part, names in fitting.items()}

    def make(self, split: str, rng: np.random.Generator) -> Made:
        """A clip in the look of a split."""
        look = self.looks[split]
        sheets = (self.creature if rng.random() < 0.5 else self.person)(look, rng)
        figure = Figure(self.flare, sheets)
        action, direction, speed = ACTIONS[self.label], int(rng.integers(8)), rng.uniform(0.5, 1)
        size, place, hue = (rng.uniform(*x) for x in (look.sizes, look.places, look.hues))
        floor = str(rng.choice(look.floors))
        drawings = play(self.label, figure.keys(action), figure.keys("stance"), speed, rng)
        drawn = {x: figure.draw(*x, direction) for x in dict.fromkeys(drawings)}

        boxes = np.array([figure.bounds("stance", 0, x) for x in range(8)])
        zoom = size * SIDE / (boxes[:, 2:] - boxes[:, :2]).max(1).mean()
        middle = boxes[direction].reshape(2, 2).mean(0) * zoom  # relative to its standing point
        stands = SIDE / 2 + np.array((place, rng.uniform(-6, 6))) - middle
        pace = rng.uniform(0.5, 0.9) * size * SIDE * speed / CYCLE  # pixels a frame
        steps, shifts = move(self.label, direction, pace, rng)

        colour = np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.15, 0.5), rng.uniform(70, 140)))
        light = np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0, 0.2), rng.uniform(1, 1.4)))
        ground = dye(self.flare.floor(floor, SPREAD, rng), colour)
        near = rng.uniform(0.8, 1.3)  # zoom of the floor
        frames = []
        for drawing, step, shift in zip(drawings, steps, shifts, strict=True):
            frame = view(ground, (SPREAD - SIDE / near) / 2 - shift / near, near).convert("RGBA")
            seen = view(drawn[drawing], REACH - (stands + step) / zoom, zoom)
            frame.alpha_composite(seen.convert("RGBA"))
            frames.append(np.asarray(frame.convert("RGB")) * light)
        row = {
            "figure": describe(sheets),
            "direction": DIRECTIONS[direction],
            "speed": round(speed, 2),
            "size": round(size, 3),
            "place": round(place, 1),
            "floor": floor,
            "hue": round(hue, 3),
        }
        return Made(np.stack(frames).clip(0, 255).astype(np.uint8), row)

    def close(self) -> None:
        """Nothing to free: the package stays open for the next class."""
