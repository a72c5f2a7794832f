"""`PUBLISHED_BACKBONES`: the checkpoints that VideoMamba's authors publish, by name, with their facts."""

import difflib
import re
from dataclasses import replace
from typing import NamedTuple

from videossp.errors import WeightsError
from videossp.model.config import BACKBONES, VideoMambaConfig

REPOSITORY = "OpenGVLab/VideoMamba"  # on the hub; the files are at its root
SIZES = {"t": "tiny", "s": "small", "m": "middle", "b": "base"}
# By the part of a name: data set of the last training, pretraining before it, and test views, crops x clips.
DATA = {
    "in1k": ("ImageNet-1K", "none", None),
    "k400": ("Kinetics-400", "ImageNet-1K", "3x4"),
    "k400_mask_ft": ("Kinetics-400", "masked", "3x4"),
    "k400_mask_pt": ("Kinetics-400", "masked only", None),
    "ssv2": ("SSV2", "ImageNet-1K", "3x4"),
    "ssv2_mask_ft": ("SSV2", "masked", "3x4"),
    "ssv2_mask_pt": ("SSV2", "masked only", None),
    "breakfast": ("Breakfast", "Kinetics-400", "3x4"),
    "breakfast_mask_ft": ("Breakfast", "masked, Kinetics-400", "3x4"),
    "coin": ("COIN", "Kinetics-400", "3x10"),
    "coin_mask_ft": ("COIN", "masked, Kinetics-400", "3x10"),
}
# Part of the name, frames (1: trained on images), resolutions of the trainings in pixels, and the top-1 of
# each size in per cent, as MODEL_ZOO.md prints it (commit f3427e4 of github.com/OpenGVLab/VideoMamba).
ROWS: tuple[tuple[str, int, str, dict[str, float | None]], ...] = (
    ("in1k", 1, "224", {"t": 76.9, "s": 81.2, "m": 82.8, "b": 82.7}),
    ("in1k", 1, "224to448", {"t": 79.3, "s": 83.2, "m": 83.8}),
    ("in1k", 1, "224to448to576", {"t": 79.6, "s": 83.5, "m": 84.0}),
    ("k400", 8, "224", {"t": 76.9, "s": 79.3, "m": 80.6}),
    ("k400", 16, "224", {"t": 78.1, "s": 80.8, "m": 81.9}),
    ("k400", 32, "224", {"t": 78.8, "s": 81.5, "m": 82.4}),
    ("k400", 64, "224", {"t": 79.6, "s": 81.8, "m": 82.8}),
    ("k400", 64, "224to384", {"t": 80.3, "s": 82.7, "m": 83.3}),
    ("k400_mask_ft", 8, "224", {"m": 82.0}),
    ("k400_mask_ft", 16, "224", {"m": 83.4}),
    ("k400_mask_ft", 32, "224", {"m": 83.9}),
    ("k400_mask_ft", 64, "224", {"m": 84.3}),
    ("k400_mask_ft", 64, "224to384", {"m": 85.0}),
    ("k400_mask_pt", 8, "224", {"m": None}),
    ("ssv2", 8, "224", {"t": 65.1, "s": 66.6, "m": 67.3}),
    ("ssv2", 16, "224", {"t": 66.0, "s": 67.7, "m": 68.3}),
    ("ssv2", 16, "224to288", {"t": 66.2, "s": 68.1, "m": 68.4}),
    ("ssv2_mask_ft", 8, "224", {"m": 70.2}),
    ("ssv2_mask_ft", 16, "224", {"m": 71.0}),
    ("ssv2_mask_ft", 16, "224to288", {"m": 71.4}),
    ("ssv2_mask_pt", 8, "224", {"m": None}),
    ("breakfast", 32, "224", {"t": 94.3, "s": 95.3, "m": 94.8}),
    ("breakfast", 64, "224", {"t": 94.3, "s": 97.4, "m": 95.8}),
    ("breakfast_mask_ft", 32, "224", {"m": 97.9}),
    ("breakfast_mask_ft", 64, "224", {"m": 96.9}),
    ("coin", 32, "224", {"t": 86.2, "s": 88.4, "m": 88.3}),
    ("coin", 64, "224", {"t": 87.0, "s": 88.7, "m": 89.5}),
    ("coin_mask_ft", 32, "224", {"m": 89.6}),
    ("coin_mask_ft", 64, "224", {"m": 90.4}),
)
# Name -> the file of another backbone to which its hub link in MODEL_ZOO.md leads.
WRONG_LINKS = {
    "videomamba_m16_k400_mask_ft_f16_res224": "videomamba_m16_k400_f16_res224.pth",
    "videomamba_m16_ssv2_mask_ft_f16_res224": "videomamba_m16_ssv2_f16_res224.pth",
    "videomamba_t16_in1k_res224to448": "videomamba_m16_in1k_res224.pth",
}


class PublishedBackbone(NamedTuple):
    """A published checkpoint, as its name and MODEL_ZOO.md describe it.

    Attributes:
        name: of the file without .pth.
        size: name of its sizes in `BACKBONES`.
        frames: of a clip; 1: trained on images, without temporal position embeddings.
        resolution: height and width of a clip in pixels.
        data: data set that it was trained on last.
        pretraining: what came before.
        top1: published accuracy on `data` in per cent; None for masked pretraining, without a classifier.
        views: crops x clips of a video for this accuracy, or None.
    """

    name: str
    size: str
    frames: int
    resolution: int
    data: str
    pretraining: str
    top1: float | None
    views: str | None

    @property
    def file(self) -> str:
        """Its file in `REPOSITORY`."""
        return f"{self.name}.pth"

    @property
    def hub_id(self) -> str:
        """Its file as owner/repository/file."""
        return f"{REPOSITORY}/{self.file}"

    @property
    def sizes(self) -> VideoMambaConfig:
        """Its sizes, with the frames that its file holds."""
        return replace(BACKBONES[self.size], frames=self.frames, size=(self.resolution, self.resolution))


def _published() -> dict[str, PublishedBackbone]:
    table = {}
    for part, frames, resolutions, accuracies in ROWS:
        for letter, top1 in accuracies.items():
            clip = f"f{frames}_" if frames > 1 else ""
            name = f"videomamba_{letter}16_{part}_{clip}res{resolutions}"
            data, pretraining, views = DATA[part]
            resolution = int(resolutions.split("to")[-1])
            size = f"videomamba_{SIZES[letter]}"
            table[name] = PublishedBackbone(name, size, frames, resolution, data, pretraining, top1, views)
    return table


PUBLISHED_BACKBONES = _published()


def check_sizes(name: str, found: VideoMambaConfig) -> None:
    """Check that a file has the sizes of the published backbone whose name it has.

    Args:
        name: of the published backbone.
        found: sizes of the file, with frames 1 if it has no temporal position embeddings.

    Raises:
        WeightsError: they differ.
    """
    backbone = PUBLISHED_BACKBONES[name]
    fields = ("depth", "d_model", "frames", "size", "patch", "d_state", "d_conv", "expand", "dt_rank")
    pairs = [(x, getattr(found, x), getattr(backbone.sizes, x)) for x in fields]
    wrong = [f"{x} {has}, not {wanted}" for x, has, wanted in pairs if has != wanted]
    if wrong:
        raise WeightsError(
            f"not the published {name}: the file has {'; '.join(wrong)}; to use it anyway, give its path "
            f"or {backbone.hub_id}"
        )


def nearest(text: str) -> str | None:
    """The name of a backbone that a mistyped one may mean, with or without videomamba_ and a suffix."""
    # All names begin alike, so the beginning would make any two of them similar.
    known = {x.removeprefix("videomamba_"): x for x in (*BACKBONES, *PUBLISHED_BACKBONES)}
    typed = re.sub(r"^videomamba_|\.\w+$", "", text)
    close = difflib.get_close_matches(typed, known, 1, 0.6)
    return known[close[0]] if close else None
