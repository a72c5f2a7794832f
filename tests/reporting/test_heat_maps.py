"""Pictures of explanations: colours, sizes, times; animations that players can read."""

import io

import av
import numpy as np
import pytest
import torch
from matplotlib.image import imread

from videossp.explanation.explanation import Explanation
from videossp.model.quantity import Quantity
from videossp.reporting.animation import write_animation
from videossp.reporting.explained import explained, write_explanations
from videossp.reporting.heat_maps import (
    AGAINST,
    FOR,
    STRONGEST,
    Row,
    draw_explanation,
    draw_mechanism,
    overlaid,
    scale_of,
)


def explanation(frames=8, size=(32, 48), grid=(2, 3), seconds=True, **changes):
    rng = np.random.default_rng(0)
    values = {
        "path": "folder/clip <1>.mp4",
        "frames": rng.integers(0, 256, (frames, *size, 3), dtype=np.uint8),
        "seconds": tuple(0.5 * t for t in range(frames)) if seconds else None,
        "classes": ("close", "open $x$", "ショップ"),
        "probabilities": {"open $x$": 0.7, "close": 0.2, "ショップ": 0.1},
        "target": "close",
        "method": "integrated_gradients",
        "baseline": "median_frame",
        "map": rng.normal(size=(frames, *grid)).astype(np.float32),
        "frame_drops": rng.normal(size=frames).astype(np.float32),
        "without_frame": ("close", *["open $x$"] * (frames - 1)),
        "change": 1.0,
        "gap": 0.01,
        "passes": (10, 4),
    }
    return Explanation(**(values | changes))


def test_without_a_map_frames_are_grey_and_the_strongest_patch_has_the_colour_of_its_sign():
    x = explanation()
    values = np.zeros((8, 2, 3), np.float32)
    values[1, 0, 2], values[2, 1, 0] = 5.0, -5.0
    shown = overlaid(x.frames, Row("map", values, 5.0))
    luminance = x.frames @ np.array((0.299, 0.587, 0.114))
    for t, rows, columns, colour in (
        (1, slice(0, 16), slice(32, 48), FOR),
        (2, slice(16, 32), slice(0, 16), AGAINST),
    ):
        part = luminance[t, rows, columns, None] * (1 - STRONGEST) + 255 * STRONGEST * np.array(colour)
        np.testing.assert_allclose(shown[t, rows, columns], part, atol=2)
        shown[t, rows, columns] = luminance[t, rows, columns, None].round()
    np.testing.assert_allclose(shown, np.repeat(luminance[..., None], 3, -1), atol=1)


def test_the_strongest_colour_is_exceeded_by_one_patch_in_a_hundred():
    values = np.arange(-1000, 1001).astype(np.float32)
    assert (np.abs(values) > scale_of(values)).mean() == pytest.approx(0.01, abs=0.001)
    assert scale_of(np.zeros((2, 2), np.float32)) > 0


@pytest.mark.parametrize(("frames", "grid"), [(8, (2, 3)), (1, (2, 2)), (20, (3, 2))])
def test_pictures_are_1200_pixels_wide_whatever_the_clip(frames, grid, tmp_path):
    x = explanation(frames, (16 * grid[0], 16 * grid[1]), grid, seconds=frames != 20)
    draw_explanation(x, tmp_path / "x.png")
    height, width = imread(tmp_path / "x.png").shape[:2]
    assert width == 1200 and 300 < height < 2500
    # All frames are there: the colours of the clip, which grey frames and white paper have not.
    assert (np.ptp(imread(tmp_path / "x.png")[..., :3], axis=-1) > 0.2).sum() > 1000 * frames


def test_quantities_of_every_kind_are_drawn(tmp_path):
    kinds = {"patch": (8, 2, 3), "frame": (8,), "frame_pair": (8, 8)}
    quantities = tuple(Quantity(f"of a {k}", torch.rand(s), k) for k, s in kinds.items())
    draw_mechanism(explanation(mechanism=quantities), tmp_path / "x.png")
    assert imread(tmp_path / "x.png").shape[1] == 1200


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
def test_an_animation_shows_every_frame_at_its_time(suffix, size, tmp_path):
    path = tmp_path / f"x{suffix}"
    write_animation(explanation(size=size, grid=(1, 1)), path, suffix)
    with av.open(str(path)) as file:
        frames = [(float(x.time), x.to_ndarray(format="rgb24")) for x in file.decode(video=0)]
    times = [time for time, _ in frames]
    assert times[:8] == pytest.approx([0.5 * t for t in range(8)], abs=0.02) and len(times) == 9
    assert frames[0][1].shape[0] >= 224 and len({x.tobytes() for _, x in frames[:8]}) == 8


def test_short_steps_are_played_more_slowly_and_files_without_times_steadily():
    def seconds_of(x):
        file = io.BytesIO()
        write_animation(x, file, ".gif")
        with av.open(io.BytesIO(file.getvalue())) as content:
            return [float(frame.time) for frame in content.decode(video=0)][:4]

    fast = explanation(4, seconds=False)
    assert seconds_of(fast) == pytest.approx([0, 0.4, 0.8, 1.2], abs=0.02)
    short = Explanation(**{**explanation(4).__dict__, "seconds": (0.0, 0.0, 0.0, 0.04)})
    assert seconds_of(short) == pytest.approx([0, 0.06, 0.12, 0.37], abs=0.02)  # repeated frames
    long = Explanation(**{**explanation(4).__dict__, "seconds": (0.0, 1.0, 2.0, 3600.0)})
    assert seconds_of(long) == pytest.approx([0, 1, 2, 7], abs=0.02)
    times = (0.0, 0.04, 0.08, 0.2)
    assert seconds_of(explanation(4, seconds=True)) == pytest.approx([0, 0.5, 1.0, 1.5], abs=0.02)
    slow = Explanation(**{**explanation(4).__dict__, "seconds": times})
    assert seconds_of(slow) == pytest.approx([0, 0.25, 0.5, 1.25], abs=0.02)


def test_a_page_names_the_video_and_has_its_figures(tmp_path):
    x = explanation()
    text = "\n".join(explained(x))
    assert "folder/clip &lt;1&gt;.mp4" in text and "error 1.0 %" in text and "data:image/gif;base64," in text
    write_explanations(tmp_path / "x.html", explained(x))
    assert (tmp_path / "x.html").read_text().count("<img") == 2
