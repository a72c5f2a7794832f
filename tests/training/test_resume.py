"""A run that is interrupted, killed or damaged resumes to the weights and figures of an uninterrupted one."""

import json
import os
import random
import shutil
import signal
import sys
import time

import pytest
import torch
from forking import forks
from safetensors.torch import load_file

from conftest import SMALL, SSP_SMALL
from videossp.classifier import Classifier
from videossp.data.clips import TrainClips
from videossp.data.datasets import VideoDataset, read_data
from videossp.load_adapter import load_trainable
from videossp.model.config import BACKBONES
from videossp.training.checkpoints import list_states, load_state, remove_states, save_state
from videossp.training.config import TrainConfig
from videossp.training.loop import Loop
from videossp.training.state import TrainState
from videossp.training.train import train
from videossp.training.train_step import TrainStep

# All that is drawn or accumulated over steps: dropout, stochastic depth, mixing, averaging, batches.
CONFIG = TrainConfig(
    epochs=3,
    batch_size=2,
    grad_accum_steps=2,
    lr=1e-2,
    seed=1,
    num_sample=2,
    rand_augment="rand-m5-n2-mstd0.5-inc1",
    erasing=0.3,
    mixup=0.5,
    cutmix=0.5,
    ema_decay=0.9,
    max_grad_norm=1.0,
    save_minutes=0,  # a checkpoint after each step
)
TIMES = ("seconds", "seconds_per_clip", "data_wait")


def make(backbone):
    options = {"drop_path": 0.3, "dropout": 0.3, **SSP_SMALL}
    return Classifier.create(backbone, classes=["bright", "dark"], **options)


def outcome(folder):
    """The adapter's weights, its own figures, and the figures of the epochs without times."""
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    own = json.loads((folder / "adapter" / "adapter_config.json").read_text())["metrics"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return weights, own, [{name: x for name, x in row.items() if name not in TIMES} for row in rows]


def assert_same(folder, quiet):
    (weights, own, rows), (expected, metrics, history) = outcome(folder), outcome(quiet)
    assert rows == history and own == metrics
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], x) for name, x in expected.items())


@pytest.fixture(scope="module")
def quiet(class_folder, tmp_path_factory):
    """The run that nothing interrupts."""
    out = tmp_path_factory.mktemp("runs") / "quiet"
    torch.set_num_threads(1)  # as in the tests
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "videomamba_small_test", SMALL)
        train(make("videomamba_small_test"), class_folder, CONFIG, out=out)
    return out


class Break(Exception):
    pass


def break_at(monkeypatch, step):
    """The training fails in the forward pass of this step."""
    real = TrainStep.loss

    def loss(self, batch, number):
        if self.state.step == step:
            raise Break
        return real(self, batch, number)

    monkeypatch.setattr(TrainStep, "loss", loss)


def test_two_interruptions_change_nothing(quiet, small_backbone, class_folder, tmp_path, monkeypatch):
    """In the middle of the first epoch, and at the beginning of the third (three steps each)."""
    run = tmp_path / "run"
    for step in (1, 6):
        with monkeypatch.context() as patch, pytest.raises(Break):
            break_at(patch, step)
            train(make(small_backbone), class_folder, CONFIG, out=run, resume=step > 1)
        assert list_states(run / "checkpoints")[0][0] == step
    result = train(make(small_backbone), class_folder, CONFIG, out=run, resume=True)
    assert_same(run, quiet)
    assert result.best in result.history and len(result.history) == 3
    assert not list_states(run / "checkpoints")
    longer = TrainConfig(**CONFIG.__dict__ | {"epochs": 5, "lr": 0.1})
    before = {x: x.read_bytes() for x in run.rglob("*") if x.is_file()}
    for config in (CONFIG, longer):
        with pytest.raises(ValueError, match="finished, all 3 epochs"):
            train(make(small_backbone), class_folder, config, out=run, resume=True)
    assert {x: x.read_bytes() for x in run.rglob("*") if x.is_file()} == before


def test_workers_and_their_number_change_nothing(quiet, small_backbone, class_folder, tmp_path, monkeypatch):
    """Nor does another number of them after a break in the second epoch."""
    one, two = (TrainConfig(**CONFIG.__dict__ | {"workers": count}) for count in (1, 2))
    with monkeypatch.context() as patch, pytest.raises(Break):
        break_at(patch, 4)
        train(make(small_backbone), class_folder, one, out=tmp_path / "workers")
    train(make(small_backbone), class_folder, two, out=tmp_path / "workers", resume=True)
    assert_same(tmp_path / "workers", quiet)


def test_an_interruption_does_not_inflate_the_waiting_time(
    small_backbone, class_folder, tmp_path, monkeypatch
):
    """Clips that take a while, and a step that waited for them and was then lost."""
    real = TrainClips.__getitem__
    monkeypatch.setattr(TrainClips, "__getitem__", lambda self, i: (time.sleep(0.03), real(self, i))[1])
    config = TrainConfig(epochs=1, batch_size=6)
    for step in (0, 1):
        with monkeypatch.context() as patch, pytest.raises(Break):
            break_at(patch, step)
            train(make(small_backbone), class_folder, config, out=tmp_path / "run", resume=step > 0)
    (row,) = train(make(small_backbone), class_folder, config, out=tmp_path / "run", resume=True).history
    # 12 clips, 6 of them three times
    assert 0.03 * 24 < row["data_wait"] * row["seconds"] < row["seconds"]


def test_a_damaged_checkpoint_is_reported_and_the_previous_one_used(
    quiet, small_backbone, class_folder, tmp_path, monkeypatch, capsys
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Break):
        break_at(patch, 5)
        train(make(small_backbone), class_folder, CONFIG, out=run)
    (_, newest), (_, before) = list_states(run / "checkpoints")
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    train(make(small_backbone), class_folder, CONFIG, out=run, resume=True, progress=True)
    printed = capsys.readouterr().err.replace("\n", "")
    assert f"{newest.name} is damaged and ignored (its content does not match" in printed
    assert "using the previous one" in printed
    assert f"resumed after step {int(before.name.split('-')[1])}" in printed
    assert_same(run, quiet)


def test_a_run_whose_checkpoints_are_all_damaged_is_left_untouched(
    small_backbone, class_folder, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Break):
        break_at(patch, 5)
        train(make(small_backbone), class_folder, CONFIG, out=run)
    for _, path in list_states(run / "checkpoints"):
        path.write_bytes(b"damaged")
    before = {x: x.read_bytes() for x in run.rglob("*") if x.is_file()}
    with pytest.raises(
        ValueError, match="none of its checkpoints can be read; start again with another --out"
    ):
        train(make(small_backbone), class_folder, CONFIG, out=run, resume=True)
    assert {x: x.read_bytes() for x in run.rglob("*") if x.is_file()} == before


def test_checkpoints_are_ordered_by_time_not_by_step(tmp_path):
    for step in (15, 18, 10):
        save_state(tmp_path, step, {"step": torch.tensor(step)}, {"step": step})
    assert [step for step, _ in list_states(tmp_path)] == [10, 18]


def test_a_checkpoint_of_other_settings_is_refused(small_backbone, class_folder, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Break):
        break_at(patch, 2)
        train(make(small_backbone), class_folder, CONFIG, out=run)
    other = TrainConfig(**CONFIG.__dict__ | {"lr": 0.5})
    with pytest.raises(ValueError, match=r"these settings differ: lr: 0\.01 before, 0\.5 now"):
        train(make(small_backbone), class_folder, other, out=run, resume=True)
    with pytest.raises(ValueError, match=r"drop_path: 0\.3 before, 0\.0 now; dropout: 0\.3 before, 0\.0 now"):
        plain = Classifier.create(small_backbone, classes=["bright", "dark"], **SSP_SMALL)
        train(plain, class_folder, CONFIG, out=run, resume=True)
    with pytest.raises(ValueError, match="no such run folder"):
        train(make(small_backbone), class_folder, CONFIG, out=tmp_path / "none", resume=True)


def test_the_newest_two_checkpoints_are_kept_and_come_back(tmp_path):
    tensors = {"a": torch.randn(3), "b/c": torch.arange(4)}
    for step in (1, 2, 3):
        save_state(tmp_path, step, {**tensors, "step": torch.tensor(step)}, {"step": step, "x": [0.1]})
    assert [step for step, _ in list_states(tmp_path)] == [3, 2] and len(list(tmp_path.iterdir())) == 2
    found, facts = load_state(tmp_path, pytest.fail)
    assert facts == {"step": 3, "x": [0.1]} and torch.equal(found["a"], tensors["a"])
    assert load_state(tmp_path / "none", pytest.fail) is None


def test_of_two_checkpoints_of_one_step_the_later_one_is_the_newest(tmp_path):
    """Before and after a validation. Names do not tell: they hold a hash."""
    for k in range(8):
        newest = save_state(tmp_path, 3, {"a": torch.tensor(k)}, {})
        os.utime(newest, ns=(0, 10**9 * k))
        assert list_states(tmp_path)[0][1] == newest
    assert load_state(tmp_path, pytest.fail)[0]["a"] == 7


def test_partial_files_of_killed_processes_are_removed(tmp_path):
    half = tmp_path / ".step-000000003-0123456789abcdef.safetensors.77"
    half.write_bytes(b"half")
    written = save_state(tmp_path, 4, {"a": torch.zeros(1)}, {})
    assert list(tmp_path.iterdir()) == [written]
    half.write_bytes(b"half")
    remove_states(tmp_path)
    assert not list(tmp_path.iterdir())


def states_of(monkeypatch, run):
    """All checkpoints that a training writes, as `comparable` has them; and what ended it."""
    module, states = sys.modules["videossp.training.train"], []
    real = module.save_state

    def spy(folder, step, tensors, facts):
        path = real(folder, step, tensors, facts)
        states.append(comparable(*load_state(folder, pytest.fail)))
        return path

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_state", spy)
        try:
            run()
        except KeyboardInterrupt:
            return states, True
    return states, False


def comparable(tensors, facts):
    """A checkpoint without its times, as bytes and JSON."""
    rows = [{name: x for name, x in row.items() if name not in TIMES} for row in facts["history"]]
    under_way = {name: facts["under_way"][name] for name in ("loss", "clips")}
    plain = {name: x.numpy().tobytes() for name, x in sorted(tensors.items())}
    return plain, json.dumps({**facts, "history": rows, "under_way": under_way})


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_state_after_a_signal_equals_an_uninterrupted_run(
    small_backbone, class_folder, tmp_path, monkeypatch, every
):
    """Two, which end at once: at lines of a validation, at some of the tensors that it swaps."""
    config = TrainConfig(epochs=1, batch_size=4, lr=1e-2, ema_decay=0.5, save_minutes=0)
    samples = read_data(class_folder)
    members = samples.splits["train"]
    few = VideoDataset(samples.classes, {"train": members[::4], "val": members[1::8]}, origin=samples.origin)
    changes = TrainState.using.__wrapped__, TrainState.updating.__wrapped__, TrainState.end_epoch
    watched = {x.__code__ for x in (Loop.validate, *changes, load_trainable)}
    met = []

    def run(at):
        met.clear()

        def line(frame, event, _):
            if event == "line":
                met.append((frame.f_code, frame.f_lineno))
                if len(met) - 1 == at:
                    os.kill(os.getpid(), signal.SIGINT)
                    os.kill(os.getpid(), signal.SIGTERM)
            return line

        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        sys.settrace(lambda frame, *_: line if frame.f_code in watched else None)
        try:
            train(make(small_backbone), few, config, out=tmp_path / "run")
        finally:
            sys.settrace(None)
            torch.set_grad_enabled(True)  # a signal between no_grad and its block leaves it off

    monkeypatch.setattr(sys.modules["videossp.training.train"], "write_results", lambda *_: None)
    passed, _ = states_of(monkeypatch, lambda: run(None))
    lines = {where: i for i, where in enumerate(met) if where[0] is not load_trainable.__code__}
    swaps = [i for i, (code, _) in enumerate(met) if code is load_trainable.__code__]
    assert len(passed) == 3 and len(lines) > 20 and len(swaps) > 400
    for at in [*lines.values(), *swaps[:: len(swaps) // 12]][::every]:
        states, interrupted = states_of(monkeypatch, lambda at=at: run(at))
        assert interrupted and all(state in passed for state in states), met[-1]


def child(backbone, data, out, config):
    """A training in a process of its own."""
    torch.set_num_threads(1)
    resume = (out / "config.yaml").is_file()
    train(make(backbone), data, config, out=out, resume=resume)


@pytest.mark.parametrize(
    ("kills", "epochs"), [(2, 4), pytest.param(20, 16, marks=pytest.mark.slow)], ids=["2", "20"]
)
def test_kills_at_random_moments_change_nothing(
    small_backbone, class_folder, tmp_path, monkeypatch, kills, epochs
):
    """SIGKILL: nothing can be tidied up. Files half written, a lock held, an epoch half validated."""
    fork = forks(monkeypatch)
    config = TrainConfig(**CONFIG.__dict__ | {"epochs": epochs})
    quiet = fork(child, small_backbone, class_folder, tmp_path / "quiet", config)  # meanwhile
    run = tmp_path / "run"

    def step():
        return max((step for step, _ in list_states(run / "checkpoints")), default=0)

    def killed_often():
        """Whether the run was killed as often as wanted, or ended before, as on a busy machine."""
        rng = random.Random(0)
        for _ in range(kills):  # after 0 to 2 of the steps, and then at any moment of the next ones
            process = fork(child, small_backbone, class_folder, run, config)
            goal, deadline = step() + rng.randrange(3), time.monotonic() + 300
            while step() < goal and process.is_alive() and time.monotonic() < deadline:
                time.sleep(0.001)
            process.join(rng.uniform(0, 0.15))
            if not process.is_alive():
                assert process.exitcode == 0
                return False
            process.kill()
            process.join()
        return True

    for _ in range(10):
        if often := killed_often():
            break
        shutil.rmtree(run)
    assert often and step() > kills // 2
    last = fork(child, small_backbone, class_folder, run, config)
    for process in (last, quiet):
        process.join(300)
        assert process.exitcode == 0
    assert_same(run, tmp_path / "quiet")
    assert not list((run / "checkpoints").iterdir())
