"""Several processes train and evaluate together, as torchrun starts them on a CPU."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import PartialState
from forking import forks
from test_resume import outcome

from conftest import SSP_SMALL
from videossp.classifier import Classifier
from videossp.cli.main import main
from videossp.data.clips import EvalViews
from videossp.data.datasets import read_data
from videossp.errors import WorkerLostError
from videossp.inference.evaluate import evaluate
from videossp.system.cpu_group import cpu_group
from videossp.training import loop
from videossp.training.checkpoints import load_state
from videossp.training.config import TrainConfig
from videossp.training.distributed import ProcessGroup
from videossp.training.train import train
from videossp.training.train_step import TrainStep

LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_the_documented_commands_train_and_evaluate_in_two_processes(class_folder, tmp_path):
    """`torchrun --nproc-per-node 2 --no-python videossp ...`, with no variable set for accelerate."""
    scripts = Path(sys.executable).parent
    assert all((scripts / name).is_file() for name in ("torchrun", "videossp")), f"not installed: {scripts}"
    clean = {k: x for k, x in os.environ.items() if k not in LAUNCHER and not k.startswith("ACCELERATE_")}
    env = clean | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "PET_MASTER_PORT": str(free_port())}

    def torchrun(*arguments):
        command = ["torchrun", "--nproc-per-node", "2", "--no-python", "videossp", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    flags = ["--method", "linear", "--size", "32", "--frames", "4", "--epochs", "2", "--batch-size", "3"]
    out, err = torchrun("train", str(class_folder), "--out", "R1", *flags)
    lines = [line for line in err.splitlines() if "torch/distributed" not in line]
    assert len(lines) == len(set(lines)), err
    # 12 videos in steps of 2 x 3; alone, each process would do 4 steps.
    assert "2 epochs of 2 steps" in err and err.count("epoch 2/2: loss") == 1
    assert out.count("best epoch") == 1
    assert len((tmp_path / "R1" / "metrics.jsonl").read_text().splitlines()) == 2
    out, _ = torchrun("eval", "R1", str(class_folder))
    assert out.count("on 8 videos of test") == 1


@pytest.mark.parametrize("rank", [0, 1, 12])
def test_an_error_of_any_process_is_printed_with_its_rank(tmp_path, monkeypatch, capsys, rank):
    """torchrun ends the other processes, so only this one can say what was wrong."""
    monkeypatch.setenv("RANK", str(rank))
    assert main(["train", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")]) == 3
    prefix = f"videossp: process {rank}: " if rank else "videossp: "
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"{prefix}{tmp_path / 'nowhere'}: ") and err.count("\n") == 1


def join_by_hand(rank, processes, port):
    """The variables that torchrun sets."""
    values = (rank, rank, processes, processes, "127.0.0.1", port)
    os.environ |= {name: str(x) for name, x in zip(LAUNCHER, values, strict=True)} | {"OMP_NUM_THREADS": "1"}


def plain(backbone):
    return Classifier.create(backbone, classes=["bright", "dark"], drop_path=0.3, **SSP_SMALL)


def one_of(rank, processes, port, out, data, settings):
    """One of several processes; its undecodable videos go into a file."""
    join_by_hand(rank, processes, port)
    run = train(plain("videomamba_small_test"), data, TrainConfig(**settings), out=out)
    out.with_name(f"failures{rank}").write_text(json.dumps(run.failures))


def test_two_processes_train_evaluate_and_fail_like_one(small_backbone, class_folder, tmp_path, monkeypatch):
    """15 training videos in steps of 4, one of them no video: the second process has a batch less."""
    fork = forks(monkeypatch)
    data = tmp_path / "data"
    shutil.copytree(class_folder / "train", data)
    (data / "dark" / "broken.mp4").write_bytes(b"no video")
    settings = {"epochs": 2, "lr": 1e-2, "seed": 3, "val_fraction": 0.15, "mixup": 0.5, "num_sample": 2}
    settings |= {"batch_size": 2, "on_error": "skip"}
    port = free_port()
    ranks = [fork(one_of, rank, 2, port, tmp_path / "two", data, settings) for rank in range(2)]
    torch.set_num_threads(1)
    one = TrainConfig(**settings, grad_accum_steps=2)
    failures = train(plain(small_backbone), data, one, out=tmp_path / "one").failures
    for process in ranks:
        process.join(180)
        assert process.exitcode == 0
    (weights, own, rows), (expected, metrics, history) = outcome(tmp_path / "two"), outcome(tmp_path / "one")
    assert own.keys() == metrics.keys() and len(rows) == len(history) == 2
    for row, wanted in zip(rows, history, strict=True):
        assert row["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
        assert row["val_loss"] == pytest.approx(wanted["val_loss"], rel=1e-4)
        assert row["val_top1"] == wanted["val_top1"]
    for name, x in expected.items():
        torch.testing.assert_close(weights[name], x, rtol=1e-3, atol=1e-4)
    assert "dark/broken.mp4" in (tmp_path / "two" / "report.html").read_text()
    assert list(failures) == ["dark/broken.mp4"]
    assert all(json.loads((tmp_path / f"failures{rank}").read_text()) == failures for rank in range(2))


def train_evaluate_train(rank, port, out, data, settings):
    """One of two processes that train twice, with an evaluation between, over a backend of GPUs in name."""
    join_by_hand(rank, 2, port)
    torch.distributed.get_backend = lambda group=None: "xccl"
    gather, groups = torch.distributed.all_gather_object, []
    torch.distributed.all_gather_object = lambda *arguments, group: (
        groups.append(group),
        gather(*arguments, group=group),
    )
    decoded, item = [], EvalViews.__getitem__
    EvalViews.__getitem__ = lambda self, i: (decoded.append(i), item(self, i))[1]
    classifier = plain("videomamba_small_test")
    first = train(classifier, data, TrainConfig(**settings))
    decoded.clear()
    result = evaluate(classifier, read_data(data).splits["test"])
    count = len(decoded)
    second = train(plain("videomamba_small_test"), data, TrainConfig(**settings), out=out)
    # When train returns, the run folder is complete in every process.
    complete = (out / "report.html").is_file() and not any((out / "checkpoints").iterdir())
    losses = [[row["loss"] for row in run.history] for run in (first, second)]
    of_cpu = {id(x) for x in groups} == {id(cpu_group())} and cpu_group() is not torch.distributed.group.WORLD
    facts = {"losses": losses, "decoded": count, "scores": result.scores.tolist(), "complete": complete}
    facts["exchanged on the CPU"] = of_cpu
    out.with_name(f"rank{rank}.json").write_text(json.dumps(facts))


def test_two_processes_train_evaluate_and_train_again(small_backbone, class_folder, tmp_path, monkeypatch):
    fork, port = forks(monkeypatch), free_port()
    settings = {"epochs": 1, "lr": 1e-2, "batch_size": 3}
    ranks = [
        fork(train_evaluate_train, rank, port, tmp_path / "two", class_folder, settings) for rank in range(2)
    ]
    for process in ranks:
        process.join(180)
        assert process.exitcode == 0
    one, two = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert one["losses"] == two["losses"] and one["losses"][0] == one["losses"][1]
    assert one["decoded"] == two["decoded"] == 4  # of 8 test videos
    assert one["scores"] == two["scores"] and len(one["scores"]) == 8
    assert one["complete"] and two["complete"]
    assert one["exchanged on the CPU"] and two["exchanged on the CPU"]


def lose_the_second(rank, port, out, data, settings):
    """One of two processes that read late, as on GPUs; the second ends in the third step."""
    join_by_hand(rank, 2, port)
    loop.reads_late = lambda device: True
    loss = TrainStep.loss
    TrainStep.loss = lambda self, batch, number: (
        os._exit(9) if rank and self.state.step == 2 else loss(self, batch, number)
    )
    try:
        train(plain("videomamba_small_test"), data, TrainConfig(**settings), out=out)
    except WorkerLostError as error:
        out.with_name("error").write_text(str(error))


def test_a_lost_process_costs_no_finished_step(small_backbone, class_folder, tmp_path, monkeypatch):
    """Its last step is not read yet; the sums over both processes are there nevertheless."""
    fork, port = forks(monkeypatch), free_port()
    settings = {"epochs": 1, "lr": 1e-2, "batch_size": 2}
    ranks = [fork(lose_the_second, rank, port, tmp_path / "two", class_folder, settings) for rank in range(2)]
    for process in ranks:
        process.join(180)
    assert [process.exitcode for process in ranks] == [0, 9]
    assert "another process of this run ended" in (tmp_path / "error").read_text()
    _, metadata = load_state(tmp_path / "two" / "checkpoints", lambda _: None)
    assert (metadata["step"], metadata["under_way"]["clips"]) == (2, 8)


def test_a_process_that_cannot_join_the_others_does_not_train_alone(
    small_backbone, class_folder, monkeypatch
):
    """accelerate was set up for one process before the launcher's variables appeared."""
    PartialState(cpu=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="2 processes were started, but accelerate is set up for 1"):
        train(plain(small_backbone), class_folder, TrainConfig(epochs=1))


def test_processes_that_start_from_different_steps_are_refused(small_backbone, class_folder, monkeypatch):
    """As when one of them does not see the run folder, and would start from the beginning."""
    monkeypatch.setattr(ProcessGroup, "gather", lambda self, x: [x, {**x, "step": 4}])
    with pytest.raises(ValueError, match="process 1 differs from process 0 in step: all processes must see"):
        train(plain(small_backbone), class_folder, TrainConfig(epochs=1))


def test_processes_wait_for_each_other_on_the_cpu(monkeypatch):
    """One that computes features for long is not ended by NCCL, whose barrier waits for ten minutes."""
    waited = []
    monkeypatch.setattr("videossp.training.distributed.cpu_group", lambda: "the group of the CPU")
    monkeypatch.setattr(torch.distributed, "barrier", waited.append)
    for size in (1, 2):
        ProcessGroup(SimpleNamespace(process_index=0, num_processes=size)).wait()
    assert waited == ["the group of the CPU"]
