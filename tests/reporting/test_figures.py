"""Pictures are written like other files: a link is replaced, and a stream takes the same bytes."""

import io

import pytest
import torch

from videossp.data.datasets import Sample
from videossp.inference.evaluate import Evaluation
from videossp.reporting.figures import draw_classes, draw_comparison, draw_confusion, draw_curves

HISTORY = [{"epoch": 1, "loss": 0.7, "val_top1": 0.5}, {"epoch": 2, "loss": 0.4, "val_top1": 0.75}]
EVALUATION = Evaluation(
    ("bright", "dark"),
    tuple(Sample(f"{i}.mp4", f"{i}.mp4", i % 2) for i in range(4)),
    torch.tensor([[[0.9, 0.1]], [[0.6, 0.4]], [[0.3, 0.7]], [[0.2, 0.8]]]),
    {},
    (1, 1),
)
ROWS = [
    {"method": "ssp", "parameters_m": 2.4, "top1": 0.9, "top1_low": 0.8, "top1_high": 0.95},
    {"method": "linear", "parameters_m": 0.1, "top1": None, "top1_low": None, "top1_high": None},
]
DRAWN = {
    "curves": lambda file: draw_curves({"ssp": HISTORY}, file),
    "classes": lambda file: draw_classes({"ssp": EVALUATION}, file),
    "confusion": lambda file: draw_confusion(EVALUATION, file),
    "comparison": lambda file: draw_comparison(ROWS, file),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_a_picture_replaces_a_link_and_spares_its_target(draw, tmp_path):
    target, link = tmp_path / "target", tmp_path / "picture.png"
    target.write_text("precious")
    link.symlink_to(target)
    draw(link)
    assert target.read_text() == "precious" and not link.is_symlink()
    assert link.read_bytes().startswith(b"\x89PNG") and sorted(tmp_path.iterdir()) == [link, target]


@pytest.mark.parametrize("name", ["curves", "classes", "confusion"])
def test_a_stream_takes_the_bytes_of_the_file(name, tmp_path):
    stream, file = io.BytesIO(), tmp_path / "picture.png"
    DRAWN[name](stream)
    DRAWN[name](file)
    assert stream.getvalue() == file.read_bytes()
