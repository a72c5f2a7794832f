"""Which frames, which crop, and what an item of a data set depends on."""

import numpy as np
import pytest
import torch

from conftest import numbered_frames, numbers_of, write_video
from videossp.data.clips import EvalViews, TrainClips, read_views, to_clip
from videossp.data.datasets import Sample
from videossp.data.sampling import ClipFormat, train_indices
from videossp.data.sampling import eval_indices as indices_for_test

UNIFORM = ClipFormat(frames=4, size=(32, 32))
DENSE = ClipFormat(frames=4, size=(32, 32), sampling="dense", stride=3)
SPARSE = ClipFormat(frames=4, size=(32, 32), sampling="sparse")
DOUBLE = ClipFormat(frames=4, size=(32, 32), sampling="double")
FORMS = {"uniform": UNIFORM, "dense": DENSE, "sparse": SPARSE, "double": DOUBLE}


def test_uniform_takes_the_middle_of_each_part():
    assert indices_for_test(16, UNIFORM) == [2, 6, 10, 14]
    assert indices_for_test(4, UNIFORM) == [0, 1, 2, 3]
    assert indices_for_test(1, UNIFORM) == [0, 0, 0, 0]


def test_uniform_segments_are_different_and_in_order():
    views = [indices_for_test(48, UNIFORM, k, 3) for k in range(3)]
    assert views == [[3, 15, 27, 39], [6, 18, 30, 42], [9, 21, 33, 45]]


def test_dense_windows_spread_from_end_to_end():
    """A window is 4 x 3 frames, of which the last two are not shown; start k * room / (K - 1)."""
    assert [indices_for_test(30, DENSE, k, 3) for k in range(3)] == [
        [0, 3, 6, 9],
        [9, 12, 15, 18],
        [18, 21, 24, 27],
    ]
    assert indices_for_test(30, DENSE) == [9, 12, 15, 18]
    assert indices_for_test(5, DENSE) == [0, 3, 4, 4]


def test_double_takes_the_starts_then_the_middles_of_the_parts():
    """Sorted together they are the 8 evenly spaced frames of the published reader."""
    starts, middles = (indices_for_test(22, DOUBLE, k, 2) for k in range(2))
    assert (starts, middles) == ([0, 5, 11, 16], [2, 8, 13, 19])
    assert indices_for_test(22, DOUBLE) == middles
    with pytest.raises(ValueError, match="double sampling has 2 segments"):
        ClipFormat(sampling="double", views=(3, 1))


def test_sparse_clips_stand_at_equal_steps_inside_rounded_parts():
    """Parts of (41 - 1) / 4 = 10 frames; clip k of 3 stands int(10 / 4 * (k + 1)) behind their starts."""
    assert [indices_for_test(41, SPARSE, k, 3) for k in range(3)] == [
        [2, 12, 22, 32],
        [5, 15, 25, 35],
        [7, 17, 27, 37],
    ]
    assert indices_for_test(41, SPARSE) == [5, 15, 25, 35]
    # Parts of 1/2; their starts 0, 0.5, 1, 1.5 rounded to even.
    assert indices_for_test(3, SPARSE) == [0, 0, 1, 2]


def test_sparse_training_draws_from_the_ends_of_a_part_as_well():
    rng = np.random.default_rng(0)
    draws = np.array([train_indices(41, SPARSE, rng) for _ in range(500)])
    assert [(x.min(), x.max()) for x in draws.T] == [(0, 10), (10, 20), (20, 30), (30, 40)]


@pytest.mark.parametrize("clip_format", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("count", [1, 2, 7, 10, 11, 100])
def test_indices_stay_inside_the_video_and_in_order(clip_format, count):
    rng = np.random.default_rng(0)
    draws = [train_indices(count, clip_format, rng) for _ in range(50)]
    segments = 2 if clip_format is DOUBLE else 12
    draws += [indices_for_test(count, clip_format, k, segments) for k in range(segments)]
    for indices in draws:
        assert len(indices) == 4 and indices[0] >= 0 and indices[-1] < count and indices == sorted(indices)


def test_uniform_training_takes_one_frame_of_each_part():
    rng = np.random.default_rng(0)
    draws = np.array([train_indices(40, UNIFORM, rng) for _ in range(200)])
    assert (draws // 10 == np.arange(4)).all()
    assert len(np.unique(draws[:, 0])) == 10


def test_a_clip_of_the_right_size_is_only_normalised():
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    clip = to_clip(frames, UNIFORM)
    mean, std = torch.tensor(UNIFORM.mean), torch.tensor(UNIFORM.std)
    back = (clip.permute(1, 2, 3, 0) * std + mean) * 255
    assert clip.shape == (3, 4, 32, 32) and clip.is_contiguous()
    assert np.array_equal(back.round().numpy(), frames)


def test_crops_go_from_one_end_of_the_longer_side_to_the_other():
    columns = np.broadcast_to(np.arange(96, dtype=np.uint8)[None, None, :, None], (1, 32, 96, 3)).copy()
    clip_format = ClipFormat(frames=1, size=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))
    firsts = [round(to_clip(columns, clip_format, k, 3)[0, 0, 0, 0].item() * 255) for k in range(3)]
    assert firsts == [0, 32, 64]
    assert torch.equal(
        to_clip(columns, clip_format), to_clip(columns, clip_format, 1, 3)
    )  # one crop: the centre
    rows = columns.transpose(0, 2, 1, 3).copy()
    assert round(to_clip(rows, clip_format, 2, 3)[0, 0, 0, 0].item() * 255) == 64


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (20, 90), (7, 5), (33, 32)])
def test_any_size_covers_the_crop(shape):
    frames = np.full((2, *shape, 3), 128, np.uint8)
    clip = to_clip(frames, ClipFormat(frames=2, size=(32, 48)))
    assert clip.shape == (3, 2, 32, 48) and clip.std((1, 2, 3)).max() < 1e-5  # no border of another colour


@pytest.fixture
def samples(tmp_path):
    for i in range(3):
        frames = np.random.default_rng(i).integers(0, 256, (12, 40, 50, 3), dtype=np.uint8)
        write_video(tmp_path / f"{i}.mp4", frames)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    return [Sample(str(tmp_path / f"{x}.mp4"), f"{x}.mp4", 0) for x in (0, 1, 2, "bad")]


def test_an_item_depends_on_seed_epoch_and_index_alone(samples):
    def make(seed, epoch=0):
        clips = TrainClips(samples, UNIFORM, crop_scale=(0.3, 1.0), flip=True, seed=seed)
        clips.epoch = epoch
        return clips

    first, second = make(0), make(0)
    second[2], torch.rand(1), np.random.rand()
    assert torch.equal(first[1][0], second[1][0])
    assert not torch.equal(first[1][0], make(1)[1][0])
    assert not torch.equal(first[1][0], make(0, epoch=1)[1][0])


def test_flip_mirrors_about_half_of_the_clips(samples):
    plain = TrainClips(samples, UNIFORM, crop_scale=(1.0, 1.0), flip=False, seed=0)
    mirrored = TrainClips(samples, UNIFORM, crop_scale=(1.0, 1.0), flip=True, seed=0)
    count = 0
    for epoch in range(20):
        plain.epoch = mirrored.epoch = epoch
        a, b = plain[0][0], mirrored[0][0]
        assert torch.equal(a, b) or torch.equal(a.flip(-1), b)
        count += not torch.equal(a, b)
    assert 4 <= count <= 16


def test_a_broken_video_gives_its_reason_and_no_clip(samples):
    clip, label, name, reason = TrainClips(samples, UNIFORM, crop_scale=(1.0, 1.0), flip=False, seed=0)[3]
    assert clip is None and label == 0 and name == "bad.mp4" and "not a readable video" in reason
    clip, reason = EvalViews(samples[3:], UNIFORM, 1, 1)[0]
    assert clip is None and "not a readable video" in reason


def test_repeated_augmentation_takes_the_same_frames_in_other_crops(tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(40, 32, 64), options={"crf": "0"})
    sample = Sample(str(tmp_path / "a.mp4"), "a", 0)
    clip_format = ClipFormat(frames=4, size=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))
    clips, *_ = TrainClips([sample], clip_format, crop_scale=(0.2, 1.0), flip=False, seed=0, num_sample=3)[0]
    assert clips.shape == (3, 3, 4, 32, 32)
    numbers = [numbers_of(clip.transpose(0, 1) * 255) for clip in clips]
    assert numbers[0] == numbers[1] == numbers[2]

    write_video(tmp_path / "b.mp4", np.random.default_rng(0).integers(0, 256, (8, 40, 50, 3), dtype=np.uint8))
    noisy = [Sample(str(tmp_path / "b.mp4"), "b", 0)]
    clips, *_ = TrainClips(noisy, UNIFORM, crop_scale=(0.2, 1.0), flip=False, seed=0, num_sample=2)[0]
    assert not torch.equal(clips[0], clips[1])
    (single, *_) = TrainClips(noisy, UNIFORM, crop_scale=(0.2, 1.0), flip=False, seed=0)[0]
    assert torch.equal(single[0], clips[0])


def test_every_augmentation_reaches_the_clip(samples):
    from videossp.data.augment import parse_rand_augment

    plain = TrainClips(samples, UNIFORM, crop_scale=(1.0, 1.0), flip=False, seed=0)[0][0]
    for change in ({"rand_augment": parse_rand_augment("rand-m9-n4-mstd0.5-inc1")}, {"erasing": 1.0}):
        other = TrainClips(samples, UNIFORM, crop_scale=(1.0, 1.0), flip=False, seed=0, **change)[0][0]
        assert not torch.equal(plain, other)


def test_a_part_of_a_video_gives_frames_of_that_part_alone(tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(48, 32, 32), options={"crf": "0"})  # 12 a second
    clip_format = ClipFormat(frames=4, size=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))
    sample = Sample(str(tmp_path / "a.mp4"), "a.mp4#t=1,2", 0, start=1.0, end=2.0)
    view, _ = EvalViews([sample], clip_format, 1, 1)[0]
    assert numbers_of(view[0].transpose(0, 1) * 255) == [13, 16, 19, 22]
    clips = TrainClips([sample], clip_format, crop_scale=(1.0, 1.0), flip=False, seed=0)
    for clips.epoch in range(10):
        numbers = numbers_of(clips[0][0][0].transpose(0, 1) * 255)
        assert min(numbers) >= 12 and max(numbers) < 24


def test_views_are_segments_by_crops(tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(48, 32, 64), options={"crf": "0"})
    clip_format = ClipFormat(frames=4, size=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))
    views = read_views(tmp_path / "a.mp4", clip_format, segments=12, crops=3)
    assert views.shape == (36, 3, 4, 32, 32)
    for k in range(12):
        expected = indices_for_test(48, clip_format, k, 12)
        for view in views[3 * k : 3 * k + 3]:
            assert numbers_of(view.transpose(0, 1) * 255) == expected


@pytest.mark.parametrize("change", [{"sampling": "random"}, {"frames": 0}, {"stride": 0}, {"views": (0, 1)}])
def test_impossible_formats_are_refused(change):
    with pytest.raises(ValueError):
        ClipFormat(**change)
