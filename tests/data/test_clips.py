"""Items of the data sets of clips: their contents, and what they depend on."""

import numpy as np
import pytest
import torch

from conftest import numbered_frames, numbers_of, write_video
from videossp.data.augment import parse_rand_augment
from videossp.data.clips import EvalViews, TrainClips, read_views
from videossp.data.datasets import Sample
from videossp.data.sampling import ClipFormat, eval_indices

UNIFORM = ClipFormat(frames=4, size=(32, 32))


@pytest.fixture
def samples(tmp_path):
    for i in range(3):
        frames = np.random.default_rng(i).integers(0, 256, (12, 40, 50, 3), dtype=np.uint8)
        write_video(tmp_path / f"{i}.mp4", frames)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    return [Sample(str(tmp_path / f"{x}.mp4"), f"{x}.mp4", 0) for x in (0, 1, 2, "bad")]


def test_an_item_depends_only_on_seed_epoch_and_index(samples):
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
        expected = eval_indices(48, clip_format, k, 12)
        for view in views[3 * k : 3 * k + 3]:
            assert numbers_of(view.transpose(0, 1) * 255) == expected
