"""benchmarks/pretrain*.py: what it learns from is where it says; a run that was killed goes on as if not."""

import numpy as np
import pytest
import torch
import torch.distributed as dist

CLIPS = 6


@pytest.fixture
def modules(benchmarks, minibench):
    """Gives modules of both folders by name."""
    return benchmarks


@pytest.fixture
def clips(modules, tmp_path):
    """Black clips in which a white spot marks the gripper, the only point that is known."""
    rng = np.random.default_rng(0)
    at = rng.integers(20, 92, (CLIPS, 16, 2))
    frames = np.zeros((CLIPS, 16, 112, 112, 3), np.uint8)
    for clip, time in np.ndindex(CLIPS, 16):
        x, y = at[clip, time]
        frames[clip, time, y - 1 : y + 2, x - 1 : x + 2] = 255
    points = np.full((CLIPS, 16, 9, 2), np.nan, np.float32)
    points[:, :, 0] = at + 0.5  # the middle of a pixel
    cache = tmp_path / "decoded"
    cache.mkdir()
    np.save(cache / "frames.npy", frames)
    np.savez(
        cache / "facts.npz",
        task=np.arange(CLIPS) % 2,
        held_out=np.arange(CLIPS) >= 5,
        tasks=np.array(["open", "close"]),
        points=points,
        room=rng.normal(size=(CLIPS, 16, 9, 3)).astype(np.float32),
        opening=rng.random((CLIPS, 16)).astype(np.float32),
    )
    (cache / "names.json").write_text("[]")
    return modules("pretrain_clips").Clips([cache])


@pytest.fixture
def two_sets(modules, tmp_path):
    """Folders of a clip of a robot and one of a person, in a training and a held-out split each."""
    sides = {"robot": (4, {"opening": np.full(16, 0.5, np.float32)}), "people": (6, {})}
    encode = modules("clipset").encode
    for i, (name, (count, more)) in enumerate(sides.items()):
        for split in ("train", "val"):
            file = tmp_path / name / split / f"task-{name}" / "clip.mp4"
            file.parent.mkdir(parents=True)
            file.write_bytes(encode(np.full((16, 112, 112, 3), 100 * i, np.uint8), "grey"))
            points = np.tile(np.arange(count, dtype=np.float32)[:, None], (16, 1, 2))
            world = np.broadcast_to(
                (0, 0.7, 0.13) if more else modules("pretrain_clips").USUAL, (16, count, 3)
            )
            np.savez(file.with_suffix(".npz"), points=points, world=world, **more)
    return [tmp_path / x for x in sides]


@pytest.fixture
def alone(tmp_path):
    """A group of one process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def pretrain(modules):
    return modules("pretrain")


@pytest.fixture
def running(modules, monkeypatch):
    module = modules("pretrain_run")
    stages = ((2, 1, 4), (2, 2, 2), (10**9, 8, 2))
    settings = {"tiny": module.Settings(stages), "other": module.Settings(stages, {"cls": 1.0})}
    monkeypatch.setattr(module, "SETTINGS", settings)
    return module


def test_points_are_at_their_position_in_the_picture(clips):
    for seed in range(20):
        view = clips.train_view(seed % 5, 8, np.random.default_rng(seed))
        bright = view["patches"].sum(3)  # (frames, rows, columns, side, side)
        for frame, point in zip(bright, view["points"][:, 0], strict=True):
            if np.isnan(point).any():
                continue
            picture = frame.transpose(0, 2, 1, 3).reshape(96, 96)
            weights = picture - picture.min()
            y, x = (np.indices((96, 96)) + 0.5).reshape(2, -1) @ weights.ravel() / weights.sum()
            assert np.abs(96 * point - (x, y)).max() < 2


def test_clips_of_two_sets_keep_their_own_points_labels_and_pictures(modules, two_sets):
    module = modules("pretrain_clips")
    for folder in two_sets:
        module.Clips.of(folder)
    clips = module.Clips([x / module.CACHE for x in two_sets])
    assert clips.tasks == ["task-robot", "task-people"] and clips.task.tolist() == [0, 0, 1, 1]
    assert [int(clips.pictures(i).mean().round()) // 50 for i in range(4)] == [0, 0, 2, 2]
    assert clips.train.tolist() == [0, 2] and clips.held_out.tolist() == [1, 3]
    known = ~np.isnan(clips.points[:, 0, :, 0])
    assert known.tolist() == [3 * [True] + 6 * [False]] * 2 + [3 * [False] + 6 * [True]] * 2
    assert clips.points[0, 0, :3, 0].tolist() == [0, 1, 3]  # gripper, object and goal of the four
    assert np.nanmax(np.abs(clips.room)) < 1e-6  # the middle of each kind
    assert clips.opening[0, 0] == 0.5 and np.isnan(clips.opening[2:]).all()


def test_missing_points_are_no_targets(modules, two_sets):
    module, model = modules("pretrain_clips"), modules("pretrain_model")
    clips = module.Clips.of(two_sets[1])
    batch = module.stack([clips.test_view(0, False)])
    target = model.course_of(batch)[0]
    points = len(module.POINTS)
    assert target.shape == (points * (2 * 8 + 2 + 9) + 3,)
    known = ~target[: points * 2 * 8].reshape(8, points, 2).isnan().any(-1)
    assert not known[:, :3].any() and known[:, 3:].any() and target[-3:].isnan().all()


def test_accuracy_is_reported_for_each_set(modules, pretrain, two_sets, alone, monkeypatch):
    module = modules("pretrain_clips")
    for folder in two_sets:
        module.Clips.of(folder)
    clips = module.Clips([x / module.CACHE for x in two_sets])

    def losses(model, batch):
        """Correct for robots, labels 0 and 1, only."""
        label = batch["label"]
        logits = torch.eye(4)[torch.where(label < 2, label, 0)]
        course = torch.zeros(len(label), len(module.POINTS) * 27 + 3)
        return {}, {"logits": logits, "course": course, "target": course}

    monkeypatch.setattr(pretrain, "losses", losses)
    assert pretrain.evaluate(None, clips, 0, 1)["sets"] == [1.0, 0.0]


def test_a_reversed_clip_has_the_label_and_trajectory_of_the_other_direction(clips):
    there, back = (clips.test_view(3, x) for x in (False, True))
    assert (there["label"], back["label"]) == (2, 3)
    # The middles of equal parts of 16 frames are 1, 3, ..., 15 in both directions.
    for key in ("patches", "points", "room", "opening"):
        assert np.array_equal(there[key], back[key][::-1], equal_nan=True)


@pytest.mark.parametrize("processes", [1, 2])
def test_every_clip_is_seen_once_in_each_pass(running, clips, monkeypatch, processes):
    settings, seen = running.Settings(((10**9, 1, 2),)), []
    monkeypatch.setattr(running, "stack", lambda views: views)
    monkeypatch.setattr(clips, "train_view", lambda clip, frames, rng: seen.append(clip))
    for step in range(5):  # 10 clips of 5
        for rank in range(processes):
            running.batch_of(settings, clips, step, rank, processes)
    assert sorted(seen[:5]) == sorted(seen[5:]) == [0, 1, 2, 3, 4]


def test_a_resumed_run_equals_one_that_was_not_killed(running, clips, alone, tmp_path):
    settings = running.SETTINGS["tiny"]

    def learn(run, steps):
        for _ in range(steps):
            run.learn(running.batch_of(settings, clips, run.step, 0, 1), 1.0, 0.9)

    uninterrupted, first, resumed = (running.Run("tiny", clips) for _ in range(3))
    learn(uninterrupted, 5)
    learn(first, 3)
    first.save(tmp_path / "state.pt")
    resumed.load(tmp_path / "state.pt")
    learn(resumed, 2)
    assert resumed.step == uninterrupted.step == 5
    for one, other in ((uninterrupted.model, resumed.model), (uninterrupted.average, resumed.average)):
        for (name, x), y in zip(one.named_parameters(), other.parameters(), strict=True):
            assert torch.equal(x, y), name
    changed = running.Run("tiny", clips).model
    moved = [
        not torch.equal(x, y)
        for x, y in zip(uninterrupted.model.parameters(), changed.parameters(), strict=True)
    ]
    assert all(moved)  # every weight has learned
    with pytest.raises(ValueError, match="made with settings tiny, not other; choose another --run"):
        running.Run("other", clips).load(tmp_path / "state.pt")


def test_a_loss_that_is_not_finite_ends_the_run(running, clips, alone):
    run = running.Run("tiny", clips)
    batch = running.batch_of(running.SETTINGS["tiny"], clips, 0, 0, 1)
    batch["patches"][0] = torch.nan
    with pytest.raises(ValueError, match="step 1: the loss is nan"):
        run.learn(batch, 1.0, 0.9)


def test_an_incomplete_decay_phase_is_not_exported(pretrain, running, clips, tmp_path):
    with pytest.raises(ValueError, match="no checkpoint; train first"):
        pretrain.newest(tmp_path)
    run = running.Run("tiny", clips)
    run.save(tmp_path / "state.pt")
    assert pretrain.newest(tmp_path)["step"] == 0
    run.step, run.first, run.finish = 4, 3, 2
    run.save(tmp_path / "finish.pt")
    with pytest.raises(ValueError, match="step 4, not at its end"):
        pretrain.newest(tmp_path)
