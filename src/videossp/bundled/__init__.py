"""Bundled with the package: the weights of `videomamba_nano` and the clips of the demo."""

import zipfile
from pathlib import Path

FOLDER = Path(__file__).parent
WEIGHTS = {"videomamba_nano": FOLDER / "videomamba_nano.safetensors"}
CLIPS = FOLDER / "tabletop.zip"


def unpack_clips(folder: Path) -> tuple[Path, list[Path]]:
    """Unpack the clips of the demo into a new folder.

    Returns:
        The folder of the data set, which has the splits train and test; and the videos of neither split, each
        named after its class.
    """
    with zipfile.ZipFile(CLIPS) as archive:
        archive.extractall(folder)
    return folder / "clips", sorted((folder / "unseen").glob("*.mp4"))
