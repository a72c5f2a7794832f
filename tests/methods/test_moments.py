"""Moments and prompts of `gather_spread` are their equations; two methods read the order of the frames."""

import itertools
import math

import pytest
import torch
from torch.nn.functional import rms_norm

from conftest import SMALL, switch_on
from videossp.classifier import Classifier
from videossp.methods import make_tuner
from videossp.methods.layers.moments import EPS, MomentMap, cosines, frame_basis
from videossp.model.config import VideoMambaConfig
from videossp.model.tokens import Layout, Tokens


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("positions", [1, 3, 8])
def test_the_cosines_are_orthonormal_and_symmetric_in_turn(positions):
    basis = cosines(positions, positions)
    torch.testing.assert_close(basis @ basis.T / positions, torch.eye(positions, dtype=basis.dtype))
    for k, function in enumerate(basis):  # even ones are symmetric, odd ones change their sign
        torch.testing.assert_close(function.flip(0), function * (-1) ** k)


@pytest.mark.parametrize(
    ("grid", "order", "count"), [((6, 6), 2, 6), ((6, 6), 0, 1), ((2, 3), 2, 5), ((1, 4), 2, 3)]
)
def test_a_frame_has_the_functions_up_to_the_order_that_its_grid_has(grid, order, count):
    basis = frame_basis(grid, order)
    assert basis.shape == (count, math.prod(grid)) and (basis[0] == 1).all()
    torch.testing.assert_close(basis @ basis.T / math.prod(grid), torch.eye(count, dtype=basis.dtype))


def test_the_map_is_its_equation():
    config = VideoMambaConfig(depth=1, d_model=8, frames=5, size=(32, 48))
    layer = MomentMap(config, times=3, order=1, rank=4)
    layer.up.data = random(*layer.up.shape)
    patches, cls = 3 * random(2, 5, 6, 8), random(2, 8, seed=1)
    expected = torch.zeros(2, 8)
    orders = [(k, i, j) for k in range(3) for i, j in ((0, 0), (0, 1), (1, 0))]
    for number, (k, i, j) in enumerate(orders):
        moment = torch.zeros(2, 8)
        for t, y, x in itertools.product(range(5), range(2), range(3)):
            weight = 1.0
            for order, position, size in ((k, t, 5), (i, y, 2), (j, x, 3)):
                weight *= math.sqrt(2 if order else 1) * math.cos(math.pi * order * (position + 0.5) / size)
            moment += weight / 30 * rms_norm(patches[:, t, 3 * y + x], (8,), eps=EPS)
        c = moment / moment.square().mean(-1, keepdim=True).sqrt()
        expected += c @ layer.down.T @ layer.up[number].T
    expected *= 0.3 * cls.square().mean(-1, keepdim=True).sqrt()
    torch.testing.assert_close(layer(patches, cls), expected, rtol=1e-4, atol=1e-5)


def test_the_parts_of_the_patches_add_up_to_the_result():
    config = VideoMambaConfig(depth=1, d_model=8, frames=2, size=(16, 16))
    layer = MomentMap(config, times=1, order=0, rank=4)  # two patches, whose parts are parallel if equal
    layer.up.data = random(*layer.up.shape)
    patches, cls = random(1, 1, 1, 8).expand(1, 2, 1, 8), random(1, 8, seed=1)
    whole = layer(patches, cls).norm() / cls.norm()
    torch.testing.assert_close(layer.shares(patches).sum(), whole, rtol=1e-4, atol=0.0)


def test_prompts_of_gather_spread_are_their_equation():
    tuner = make_tuner("gather_spread", SMALL, {"rank": 4, "layers": 2})
    for x in tuner.parameters():
        x.data += 0.2 * random(*x.shape, seed=2)
    layout = Layout(SMALL.frames, SMALL.grid)
    tokens = Tokens(
        random(2, layout.length, SMALL.d_model), random(2, layout.length, SMALL.d_model, seed=1), layout
    )
    assert all(tuner.edit_tokens(i, tokens) is tokens for i in range(SMALL.depth - 2))
    changed = tuner.edit_tokens(SMALL.depth - 1, tokens)
    x = tokens.part("patches") + tokens.residual_part("patches")
    g = rms_norm(x, x.shape[-1:], eps=EPS) @ tuner.down[1].weight.T
    for t in range(SMALL.frames):
        z = tuner.taps[1, 1] * g[:, t]
        z = z + (tuner.taps[1, 0] * g[:, t - 1] if t else 0)
        z = z + (tuner.taps[1, 2] * g[:, t + 1] if t + 1 < SMALL.frames else 0)
        size = x[:, t].square().mean(-1, keepdim=True).sqrt()
        expected = tokens.part("patches")[:, t] + 0.3 * size * (z @ tuner.up[1].weight.T)
        torch.testing.assert_close(changed.part("patches")[:, t], expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(changed.part("cls"), tokens.part("cls"))


@pytest.mark.parametrize("method", ["moments", "gather_spread"])
def test_the_head_reads_the_order_of_patches_after_the_last_block(method, small_backbone):
    """Moments over time change with the order of the frames, the mean over time does not."""
    for times, changes in ((1, False), (2, True)):
        classifier = Classifier.create(small_backbone, num_classes=2, method=method, times=times)
        switch_on(classifier)
        clips = random(1, 3, SMALL.frames, *SMALL.size)
        tokens = classifier.backbone.encode(clips)
        cls = random(1, SMALL.d_model)
        turned = tokens.write(patches=tokens.part("patches").flip(1))
        residual = Tokens(tokens.residual, tokens.residual, tokens.layout)
        turned = Tokens(
            turned.hidden, residual.write(patches=residual.part("patches").flip(1)).hidden, tokens.layout
        )
        with torch.no_grad():
            gap = (
                (classifier.tuner.edit_cls(turned, cls) - classifier.tuner.edit_cls(tokens, cls)).abs().max()
            )
        assert (gap > 1e-3) == changes, times


def test_more_frequencies_than_frames_are_refused(small_backbone):
    for method in ("moments", "gather_spread"):
        with pytest.raises(
            ValueError, match=f"times must be at most {SMALL.frames}, the frames of a clip, got 9"
        ):
            Classifier.create(small_backbone, num_classes=2, method=method, times=9)
    with pytest.raises(ValueError, match="order must be a whole number of at least 0, got -1"):
        Classifier.create(small_backbone, num_classes=2, method="moments", order=-1)


def test_frequencies_over_time_are_half_of_the_frames_and_at_most_eight():
    def times(frames):
        config = VideoMambaConfig(depth=1, d_model=8, frames=frames, size=(16, 16))
        return len(make_tuner("moments", config, {"order": 0}).map.up)

    assert [times(x) for x in (1, 2, 4, 8, 16, 32, 64)] == [1, 1, 2, 4, 8, 8, 8]
