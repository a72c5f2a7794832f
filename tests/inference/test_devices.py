"""A device for every verb and for `load`: refused before anything is read if it is not there."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

import videossp
from conftest import SSP_SMALL
from videossp.bench import seconds_of
from videossp.classifier import Classifier
from videossp.cli.flags import device_of

VERBS = {
    "predict": ["ADAPTER", "VIDEO"],
    "eval": ["ADAPTER", "DATA"],
    "demo": ["--out", "OUT"],
    "bench": [],
    "compare": ["DATA", "--methods", "linear", "--out", "OUT"],
    "train": ["DATA", "--out", "OUT"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_device_that_is_not_there_is_one_line_before_anything_is_read(call, tmp_path, monkeypatch, verb):
    """None of the paths exists, which would be the next error."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    for device, words in (
        ("cuda", "device cuda: torch "),
        ("gpu", "device must be auto|cpu|cuda|cuda:N|mps"),
    ):
        code, out, err = call(verb, *VERBS[verb], "--device", device)
        assert (code, out) == (2, "") and err.startswith(f"videossp: {words}") and err.count("\n") == 1
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has a total capacity"
        ),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    ],
    ids=["allocator", "context"],
)
def test_a_gpu_that_other_programs_have_filled_is_one_line(
    call, small_classifier, tmp_path, monkeypatch, error
):
    """It has no memory for the weights."""

    def fail(*_, **__):
        raise error

    small_classifier.save(tmp_path)
    monkeypatch.setattr("videossp.load_adapter.load", fail)
    code, out, err = call("predict", tmp_path, tmp_path)
    assert (code, out) == (1, "") and err.count("\n") == 1
    assert err.startswith("videossp: too little free memory on the GPU: end other programs")


def test_load_moves_the_classifier_to_the_device_it_is_given(small_classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device cuda: torch"):
        videossp.load("nowhere", device="cuda")
    small_classifier.save(tmp_path)
    for device in ({}, {"device": "cpu"}, {"device": "auto"}, {"device": torch.device("cpu")}):
        assert videossp.load(tmp_path, **device).device == torch.device("cpu")
    monkeypatch.setattr("videossp.load_adapter.choose_device", lambda name: torch.device("meta"))
    moved = videossp.load(tmp_path, device="auto")
    assert {x.device.type for x in [*moved.parameters(), *moved.buffers()]} == {"meta"}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("ssp", {"prompts": 0, "gather_width": 16}),
        ("ssp", {"prompts": 0, "gather_width": 8}),
        ("ssp", SSP_SMALL),
        ("st_adapter", {}),
    ],
    ids=["folded", "one product", "prompts", "st_adapter"],
)
def test_a_merge_makes_its_layers_on_the_device_of_the_classifier(small_backbone, method, options):
    classifier = Classifier.create(small_backbone, num_classes=2, method=method, **options).to("meta")
    classifier.merge()
    assert {x.device.type for x in [*classifier.parameters(), *classifier.buffers()]} == {"meta"}


def test_the_clock_of_a_gpu_is_its_own(monkeypatch):
    """Its queue is empty at the start; the end is an event behind the work, which is waited for."""
    order = []

    class Event:
        def __init__(self, enable_timing):
            self.timed = enable_timing

        def record(self):
            order.append("record")

        def synchronize(self):
            order.append("wait for the end")

        def elapsed_time(self, end):
            return 1500.0 if self.timed and end.timed else 0.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: order.append("empty"))
    assert seconds_of(lambda: order.append("work"), torch.device("cuda", 0)) == 1.5
    assert order == ["empty", "record", "work", "record", "wait for the end"]


def test_a_message_names_a_device_that_is_no_cpu(capsys, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_of(SimpleNamespace(device="cpu")) == torch.device("cpu")
    assert capsys.readouterr().err == ""
    assert device_of(SimpleNamespace(device="mps")) == torch.device("mps")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "videossp: device mps" and "slow" in second
