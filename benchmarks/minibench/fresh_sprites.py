"""`fresh_sprites`: `sprites` with other creatures, clothes, floors, hues, sizes and places in every split.

Creatures and clothes of the test were for training in `sprites`: no test or validation has seen them. The
creatures of the validation are those of `sprites`, which are the only others that have every action.

                            train                    val                  test
    creatures               ants, wyverns, zombies,  goblins              skeletons
                              minotaur
    clothes                 chain, plate, a mage's   cloth                leather
    floor                   cave, snow               dungeon              grassland
    hue of floor and light  0.45 to 1                0.05 to 0.15         0.2 to 0.4 of the colour circle
    size                    0.46 to 0.56             0.57 to 0.59         0.6 to 0.68 of the picture
    place                   -3 to 12                 -6 to -4             -14 to -8 pixels to the right
"""

import sprites
from note import About
from sprites import CLASSES, LICENCE, SPLITS, Data, Look

__all__ = ["ABOUT", "CLASSES", "LOOKS", "SPLITS", "Data", "Maker"]

FIRST = sprites.LOOKS
ANTS, SKELETONS, WYVERNS = FIRST["train"].creatures
PARTS = ("feet", "legs", "chest", "hands", "head")


def worn(*splits: str) -> dict[str, tuple[str, ...]]:
    """The clothes of splits of `sprites`."""
    return {part: tuple(x for split in splits for x in FIRST[split].clothes[part]) for part in PARTS}


LOOKS = {
    "train": Look(
        creatures=(ANTS, WYVERNS, *FIRST["test"].creatures),
        clothes=worn("val", "test"),
        held={hand: FIRST["val"].held[hand] + FIRST["test"].held[hand] for hand in ("main", "off")},
        floors=("cave", "snowplains"),
        hues=(0.45, 1.0),
        sizes=(0.46, 0.56),
        places=(-3, 12),
    ),
    "val": Look(
        creatures=FIRST["val"].creatures,
        clothes={
            "feet": ("cloth_sandals",),
            "legs": ("cloth_pants",),
            "chest": ("cloth_shirt",),
            "hands": ("cloth_gloves",),
            "head": ("head_bald", "head_short", "head_long"),
        },
        held={"main": ("dagger", "wand"), "off": ("buckler",)},
        floors=("dungeon",),
        hues=(0.05, 0.15),
        sizes=(0.57, 0.59),
        places=(-6, -4),
    ),
    "test": Look(
        creatures=(SKELETONS,),
        clothes={
            "feet": ("leather_boots",),
            "legs": ("leather_pants",),
            "chest": ("leather_chest",),
            "hands": ("leather_gloves",),
            "head": ("leather_hood",),
        },
        held={"main": ("shortsword", "staff"), "off": ("longbow",)},
        floors=("grassland",),
        hues=(0.2, 0.4),
        sizes=(0.6, 0.68),
        places=(-14, -8),
    ),
}
ABOUT = About(
    sprites.TEXT.replace("minibench/sprites.py", "minibench/fresh_sprites.py"),
    ("pillow",),
    LICENCE,
    shown="art of FLARE",
)


class Maker(sprites.Maker):
    """Makes the clips of one class."""

    looks = LOOKS
