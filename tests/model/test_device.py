"""The device of a name, with GPUs that torch only pretends to have."""

import pytest
import torch

from videossp.model.device import choose_device, default_workers, to_device


@pytest.fixture
def gpus(monkeypatch):
    """Let torch report two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize("name", ["auto", "cpu", torch.device("cpu")], ids=str)
def test_without_a_gpu_the_cpu_computes(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(name) == torch.device("cpu")


@pytest.mark.parametrize(
    "name, expected", [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
def test_with_gpus_auto_takes_the_first(gpus, name, expected):
    assert choose_device(name) == torch.device(expected)


def test_each_of_several_processes_takes_its_own_gpu(gpus, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="each of several processes takes its own GPU"):
        choose_device("cuda:1")


@pytest.mark.parametrize(
    "name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "auto:1", "", "CUDA", "mps:0"]
)
def test_an_unknown_name_is_refused_with_the_known_ones(gpus, name):
    with pytest.raises(ValueError, match=r"device must be auto\|cpu\|cuda\|cuda:N\|mps, got"):
        choose_device(name)


def test_a_gpu_that_is_not_there_is_refused(gpus):
    with pytest.raises(ValueError, match="device cuda:2: torch sees 2 GPUs, cuda:0 to cuda:1$"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_process_without_a_gpu_of_its_own_is_refused(gpus, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(
        ValueError, match="cuda:1: torch sees 1 GPU, cuda:0; start a process for each of them"
    ):
        choose_device(name)


def test_a_launcher_that_asks_for_the_cpu_gets_it_unless_a_device_is_named(gpus, monkeypatch):
    """`accelerate launch --cpu`."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert (choose_device("auto"), choose_device("cuda")) == (torch.device("cpu"), torch.device("cuda:0"))


def test_several_processes_do_not_share_mps(monkeypatch):
    """gloo, which exchanges their tensors, has no MPS."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("mps") == torch.device("mps")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="device mps: several processes"):
        choose_device("mps")


@pytest.mark.parametrize(
    "cuda, hip, reason",
    [(None, None, "is built without CUDA"), ("13.0", None, "no GPU"), (None, "7", "no GPU")],
)
def test_cuda_without_a_gpu_is_refused_with_the_reason(monkeypatch, cuda, hip, reason):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", hip)
    with pytest.raises(ValueError, match=f"device cuda: torch .* {reason}"):
        choose_device("cuda")


def test_mps_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="has no MPS"):
        choose_device("mps")


@pytest.mark.parametrize(
    "cores, local, workers", [(2, 1, 1), (16, 1, 15), (16, 4, 3), (1, 1, 1), (256, 1, 32)]
)
def test_the_cores_that_remain_decode_for_a_gpu(monkeypatch, cores, local, workers):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    assert default_workers(torch.device("cuda")) == workers
    assert default_workers(torch.device("cpu")) == 0


@pytest.mark.parametrize("device, waits", [("cpu", True), ("mps", True), ("cuda:0", False)])
def test_only_a_copy_to_cuda_is_not_waited_for(device, waits):
    """MPS does not keep the memory that such a copy reads: it gets wrong values (pytorch issue 139550)."""
    asked = []

    class Clip:
        def to(self, device, *, non_blocking):
            asked.append((str(device), non_blocking))

    to_device(Clip(), torch.device(device))
    assert asked == [(device, not waits)]
