"""Bundled files: weights of `videomamba_nano`, clips of the demo, recipes, and code of exported models."""

import zipfile
from pathlib import Path

FOLDER = Path(__file__).parent
WEIGHTS = {"videomamba_nano": FOLDER / "videomamba_nano.safetensors"}
CLIPS = FOLDER / "tabletop.zip"
PREDICT_SCRIPT = FOLDER / "predict_onnx.py"  # for exported models; without torch and this package
SCAN_SOURCE = FOLDER / "selective_scan.c"  # an operator of onnxruntime
RECIPES = {path.stem: path for path in sorted((FOLDER / "recipes").glob("*.yaml"))}  # `train --config NAME`


def unpack_clips(folder: Path) -> tuple[Path, list[Path]]:
    """Unpack the clips of the demo into a new folder.

    Returns:
        The folder of the data set, which has the splits train and test; and the videos of neither split, each
        named after its class.
    """
    with zipfile.ZipFile(CLIPS) as archive:
        archive.extractall(folder)
    return folder / "clips", sorted((folder / "unseen").glob("*.mp4"))
