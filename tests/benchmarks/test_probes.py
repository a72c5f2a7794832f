"""benchmarks/probes.py: the views, and the accuracy of probes."""

import numpy as np
import pytest
import torch

from videossp.classifier import Classifier


@pytest.fixture
def probes(benchmarks):
    return benchmarks("probes")


def test_views_show_their_frames(probes):
    rng = np.random.default_rng(0)
    shown = {name: np.array(view(4, rng)).tolist() for name, view in probes.VIEWS.items()}
    assert shown["clip"] == [[0, 1, 2, 3]] and shown["first"] == [[0] * 4] and shown["last"] == [[3] * 4]
    assert sorted(shown["shuffled"][0]) == [0, 1, 2, 3] and shown["shuffled"] != shown["clip"]
    assert shown["frames"] == [[0] * 4, [1] * 4, [2] * 4, [3] * 4]


def test_features_of_frames_do_not_depend_on_order_and_those_of_a_clip_do(probes):
    classifier = Classifier.create("videomamba_nano", num_classes=2, method="linear").eval()
    clips = torch.randn(2, 3, 8, 96, 96)
    for view, same in (("frames", True), ("clip", False), ("first", False)):
        forward, reverse = (
            probes.features(classifier, x, probes.VIEWS[view]) for x in (clips, clips.flip(2))
        )
        assert forward.shape == (2, 2 * 192)
        assert torch.allclose(forward, reverse, atol=1e-4) == same
    # A head reads cls.
    cls = classifier.features(clips)
    torch.testing.assert_close(probes.features(classifier, clips, probes.VIEWS["clip"])[:, :192], cls)


def test_a_probe_separates_linear_classes_and_not_noise(probes):
    torch.manual_seed(0)
    y = {split: torch.arange(120) % 3 for split in probes.SPLITS}
    x = {split: torch.randn(120, 8) for split in probes.SPLITS}
    assert probes.probe(x, y, None)["top1"] < 0.5
    for split in probes.SPLITS:
        x[split][:, :3] += 20 * torch.eye(3)[y[split]]
    result = probes.probe(x, y, torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool())
    assert result["top1"] == result["val"] == result["in_pairs"] == 1
    assert result["decay"] == pytest.approx(1e-5)  # others are as accurate, with a higher loss


def test_within_pairs_only_the_opposite_competes(probes, tmp_path):
    (tmp_path / "val.csv").write_text("path,label,pair\na,open,0\nb,close,0\nc,push,1\nd,pull,1\n")
    pairs = probes.opposites(tmp_path, ("close", "open", "pull", "push"))
    assert pairs.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    (tmp_path / "val.csv").write_text("path,label\na,open\n")
    assert probes.opposites(tmp_path, ("open",)) is None
