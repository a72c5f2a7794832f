"""The proof of an exported file: figures, verdicts and clips."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from videossp.data.sampling import ClipFormat
from videossp.exporting.proof import Comparison, Proof, compared, prove, seeded_clips


class Fixed(torch.nn.Module):
    """A classifier whose logits are the first values of a clip."""

    def forward(self, clips):
        return clips.flatten(1)[:, :3]

    def normalised(self, clips):
        return clips


def made(logits=1e-6, same=72, ties=0, clips=72, real=True, int8=False):
    comparison = Comparison(1, logits, 1e-7, same, ties)
    return Proof(clips, real, int8, (comparison,), {}, 1, 0.1)


@pytest.mark.parametrize(
    ("proof", "verdict"),
    [
        (made(), "proven"),
        (made(clips=16, same=16, real=False), "proven"),
        (made(logits=1.1e-4), "failed"),
        (made(logits=float("nan")), "failed"),
        (made(same=71), "failed"),
        (made(same=71, ties=1), "proven"),
        (made(logits=0.2, same=70, int8=True), "proven"),
        (made(logits=0.2, same=69, int8=True), "failed"),
        (made(logits=0.2, same=69, ties=1, int8=True), "proven"),
        (made(logits=0.2, same=71, clips=71, int8=True), "not proven"),
        (made(logits=0.2, same=60, real=False, int8=True), "not proven"),
        (made(logits=float("nan"), same=60, real=False, int8=True), "failed"),
        (made(logits=float("inf"), same=72, int8=True), "failed"),
    ],
)
def test_the_verdict_follows_from_the_figures(proof, verdict):
    assert proof.verdict == verdict
    assert bool(proof.faults) == (verdict == "failed")
    assert proof.summary()["verdict"] == verdict
    json.dumps(proof.summary(), allow_nan=False)


def test_largest_differences_and_classes_are_counted():
    wanted = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.50005], [0.0, 3.0]])
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.50004, 0.5], [2.0, 1.0]])
    found = compared(8, logits, wanted)
    assert (found.batch_size, found.same, found.ties) == (8, 2, 1)  # the last clip has another class
    assert found.logits == 2.0
    assert found.probabilities == pytest.approx(1 / (1 + np.exp(-3)) - 1 / (1 + np.exp(1)), rel=1e-5)


def test_every_clip_is_compared_at_every_size_of_batch():
    clips, sizes = torch.rand(16, 3, 1, 1, 2), []

    def runtime(x):
        sizes.append(len(x))
        logits = x.reshape(len(x), -1)[:, :3].copy()
        if len(x) == 3:
            logits[2] += 0.5  # wrong in batches of three alone
        return logits

    proof = prove(Fixed(), lambda: runtime, clips, real=False)
    assert sizes == [1] * 16 + [3] * 5 + [1] + [8] * 2
    assert [x.batch_size for x in proof.comparisons] == [1, 3, 8]
    assert [x.logits > 0.4 for x in proof.comparisons] == [False, True, False]
    assert proof.verdict == "failed"
    assert proof.times.keys() == {1, 8}


def test_a_single_batch_is_computed_once_before_it_is_timed():
    sizes = []

    def runtime(x):
        sizes.append(len(x))
        return x.reshape(len(x), -1)[:, :3]

    prove(Fixed(), lambda: runtime, torch.rand(16, 3, 1, 1, 2), real=False, batches=(16,))
    assert sizes == [16, 16]


def test_a_file_of_a_fixed_batch_gets_full_batches():
    clips, sizes = torch.rand(17, 3, 1, 1, 2), set()

    def runtime(x):
        sizes.add(len(x))
        return x.reshape(len(x), -1)[:, :3]

    proof = prove(Fixed(), lambda: runtime, clips, real=False, batches=(4,))
    assert sizes == {4}
    assert proof.comparisons[0].same == 17


def test_times_of_a_batch_larger_than_the_clips_are_of_the_clips_it_computes(monkeypatch):
    clock = SimpleNamespace(now=0.0)

    def runtime(x):
        clock.now += 0.001 * len(x)
        return x.reshape(len(x), -1)[:, :3]

    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    proof = prove(Fixed(), lambda: runtime, torch.rand(16, 3, 1, 1, 2), real=False, batches=(64,))
    assert proof.times[64]["file_wall"] == pytest.approx(1)


def test_seeded_clips_are_the_same_each_time_and_all_differ():
    clip_format = ClipFormat(8, (32, 48))
    clips = seeded_clips(clip_format)
    assert clips.shape == (16, 3, 8, 32, 48)
    torch.testing.assert_close(clips, seeded_clips(clip_format), rtol=0, atol=0)
    assert torch.pdist(clips.flatten(1)).min() > 1
    assert 0.5 < clips.std() < 2


def test_times_are_of_both_and_per_clip(monkeypatch):
    clock = SimpleNamespace(cpu=0.0, wall=0.0)

    def runtime(x):
        clock.cpu, clock.wall = clock.cpu + 0.016, clock.wall + 0.008
        return x.reshape(len(x), -1)[:, :3]

    monkeypatch.setattr("time.process_time", lambda: clock.cpu)
    monkeypatch.setattr("time.perf_counter", lambda: clock.wall)
    times = prove(Fixed(), lambda: runtime, torch.rand(16, 3, 1, 1, 2), real=False).times
    assert times[8] == pytest.approx({"file_cpu": 2, "file_wall": 1, "videossp_cpu": 0, "videossp_wall": 0})
