"""benchmarks/rivals.py and candidates.py: methods for the comparison alone compute their descriptions."""

import pytest
import torch

from conftest import SMALL, switch_on
from videossp.classifier import Classifier
from videossp.model.tokens import Layout, Tokens


@pytest.fixture
def rivals(benchmarks):
    benchmarks("rows").register()
    return benchmarks("rivals")


def tokens():
    layout = Layout(SMALL.frames, SMALL.grid)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, layout.length, SMALL.d_model, generator=generator)
    return Tokens(x, torch.zeros_like(x), layout)


def test_gains_of_one_filter_nothing_and_the_mean_over_time_is_frequency_zero(rivals):
    tuner = rivals.Frame2Freq(SMALL, width=8, layers=1)
    layer = tuner.bottlenecks[0]
    switch_on_up = torch.randn(layer.up.weight.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        layer.up.weight.copy_(switch_on_up)
        patches = tokens().part("patches")
        code = layer.down(patches)
        for kept, expected in (
            (slice(None), code),
            (slice(0, 1), code.mean(1, keepdim=True).expand_as(code)),
        ):
            layer.gains.zero_()
            layer.gains[kept, ..., 0] = 1.0
            changed = tuner.edit_tokens(SMALL.depth - 1, tokens()).part("patches")
            wanted = patches + layer.up(torch.nn.functional.gelu(expected))
            torch.testing.assert_close(changed, wanted, rtol=1e-4, atol=1e-5)


def test_step_reads_the_order_of_the_frames_by_their_vectors_only(rivals):
    tuner, before = rivals.Step(SMALL, heads=4), tokens()
    after = before.write(patches=before.part("patches").flip(1))
    y = torch.zeros(2, SMALL.d_model)
    with torch.no_grad():
        gap = (tuner.edit_cls(after, y) - tuner.edit_cls(before, y)).abs().max()
        assert gap > 1e-5
        tuner.frames.zero_()
        torch.testing.assert_close(tuner.edit_cls(after, y), tuner.edit_cls(before, y))


def test_the_leaky_context_is_its_recursion(rivals, benchmarks):
    layer = benchmarks("candidates").LeakyContext(8, frames=6)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for x in layer.parameters():
            x += 0.3 * torch.randn(x.shape, generator=generator)
    q = torch.randn(2, 6, 8, generator=generator)
    lam = torch.sigmoid(layer.theta)
    expected = torch.zeros_like(q)
    for gain, sequence in ((layer.u, range(6)), (layer.v, range(5, -1, -1))):
        mean = torch.zeros(2, 8)
        for t in sequence:
            expected[:, t] += gain * (mean - q[:, t])
            mean = lam * mean + (1 - lam) * q[:, t]
    torch.testing.assert_close(layer(q), expected)


def test_memories_start_between_a_frame_and_a_clip(rivals, benchmarks):
    lam = torch.sigmoid(benchmarks("candidates").LeakyContext(16, frames=8).theta)
    memory = lam / (1 - lam)
    torch.testing.assert_close(memory[[0, -1]], torch.tensor([1.0, 8.0]))


@pytest.mark.parametrize(
    ("name", "options", "starts_at_backbone"),
    [
        ("step", {"heads": 4}, False),
        ("frame2freq", {"width": 8, "layers": 1}, True),
        ("horizon", {}, True),
        ("gated_lora", {"rank": 2}, True),
        ("slots", {"rank": 4}, False),
        ("with_context", {"rank": 4, "layers": 2}, True),
    ],
)
def test_rivals_and_candidates_are_methods(name, options, starts_at_backbone, rivals, small_backbone):
    classifier = Classifier.create(small_backbone, num_classes=2, method=name, **options).eval()
    frozen = Classifier.create(small_backbone, num_classes=2, method="linear").eval()
    frozen.head.load_state_dict(classifier.head.state_dict())
    clips = torch.randn(2, 3, SMALL.frames, *SMALL.size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(classifier(clips), frozen(clips), rtol=1e-5, atol=1e-6) == starts_at_backbone
    switch_on(classifier)
    logits = classifier(clips)
    logits.sum().backward()
    assert all(x.grad is not None and x.grad.abs().sum() for x in classifier.trainable().values())
    with torch.no_grad():
        torch.testing.assert_close(classifier(clips[:1]), logits[:1], rtol=1e-4, atol=1e-5)
