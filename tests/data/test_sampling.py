"""Which frames of a video make a clip: against numbers from the definitions, and inside the video."""

import subprocess
import sys

import numpy as np
import pytest

from videossp.data.sampling import ClipFormat, eval_indices, train_indices

UNIFORM = ClipFormat(frames=4, size=(32, 32))
DENSE = ClipFormat(frames=4, size=(32, 32), sampling="dense", stride=3)
SPARSE = ClipFormat(frames=4, size=(32, 32), sampling="sparse")
DOUBLE = ClipFormat(frames=4, size=(32, 32), sampling="double")
FORMS = {"uniform": UNIFORM, "dense": DENSE, "sparse": SPARSE, "double": DOUBLE}


def test_sampling_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from videossp.data.sampling import ClipFormat, eval_indices\n"
        "assert eval_indices(16, ClipFormat(frames=4)) == [2, 6, 10, 14]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_uniform_takes_the_middle_of_each_part():
    assert eval_indices(16, UNIFORM) == [2, 6, 10, 14]
    assert eval_indices(4, UNIFORM) == [0, 1, 2, 3]
    assert eval_indices(1, UNIFORM) == [0, 0, 0, 0]


def test_uniform_segments_are_different_and_in_order():
    views = [eval_indices(48, UNIFORM, k, 3) for k in range(3)]
    assert views == [[3, 15, 27, 39], [6, 18, 30, 42], [9, 21, 33, 45]]


def test_dense_windows_spread_from_end_to_end():
    """A window is 4 x 3 frames, of which the last two are not used; start k * room / (K - 1)."""
    assert [eval_indices(30, DENSE, k, 3) for k in range(3)] == [
        [0, 3, 6, 9],
        [9, 12, 15, 18],
        [18, 21, 24, 27],
    ]
    assert eval_indices(30, DENSE) == [9, 12, 15, 18]
    assert eval_indices(5, DENSE) == [0, 3, 4, 4]


def test_double_takes_the_starts_then_the_middles_of_the_parts():
    """Sorted together they are the 8 evenly spaced frames of the published reader."""
    starts, middles = (eval_indices(22, DOUBLE, k, 2) for k in range(2))
    assert (starts, middles) == ([0, 5, 11, 16], [2, 8, 13, 19])
    assert eval_indices(22, DOUBLE) == middles
    with pytest.raises(ValueError, match="double sampling has 2 segments"):
        ClipFormat(sampling="double", views=(3, 1))


def test_sparse_clips_are_at_equal_steps_inside_rounded_parts():
    """Parts of (41 - 1) / 4 = 10 frames; clip k of 3 is int(10 / 4 * (k + 1)) after their starts."""
    assert [eval_indices(41, SPARSE, k, 3) for k in range(3)] == [
        [2, 12, 22, 32],
        [5, 15, 25, 35],
        [7, 17, 27, 37],
    ]
    assert eval_indices(41, SPARSE) == [5, 15, 25, 35]
    # Parts of 1/2; their starts 0, 0.5, 1, 1.5 rounded to even.
    assert eval_indices(3, SPARSE) == [0, 0, 1, 2]


def test_sparse_training_includes_both_ends_of_a_part():
    rng = np.random.default_rng(0)
    draws = np.array([train_indices(41, SPARSE, rng) for _ in range(500)])
    assert [(x.min(), x.max()) for x in draws.T] == [(0, 10), (10, 20), (20, 30), (30, 40)]


@pytest.mark.parametrize("clip_format", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("count", [1, 2, 7, 10, 11, 100])
def test_indices_stay_inside_the_video_and_in_order(clip_format, count):
    rng = np.random.default_rng(0)
    draws = [train_indices(count, clip_format, rng) for _ in range(50)]
    segments = 2 if clip_format is DOUBLE else 12
    draws += [eval_indices(count, clip_format, k, segments) for k in range(segments)]
    for indices in draws:
        assert len(indices) == 4 and indices[0] >= 0 and indices[-1] < count and indices == sorted(indices)


def test_uniform_training_takes_one_frame_of_each_part():
    rng = np.random.default_rng(0)
    draws = np.array([train_indices(40, UNIFORM, rng) for _ in range(200)])
    assert (draws // 10 == np.arange(4)).all()
    assert len(np.unique(draws[:, 0])) == 10


@pytest.mark.parametrize("change", [{"sampling": "random"}, {"frames": 0}, {"stride": 0}, {"views": (0, 1)}])
def test_impossible_clip_formats_are_refused(change):
    with pytest.raises(ValueError):
        ClipFormat(**change)
