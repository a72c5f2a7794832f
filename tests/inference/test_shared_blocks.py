"""`SharedBlocks`: the logits equal those of each adapter alone; shared blocks run once."""

import copy

import pytest
import torch

from conftest import SMALL, SSP_SMALL, switch_on
from videossp.classifier import Classifier
from videossp.inference.shared_blocks import SharedBlocks
from videossp.methods import METHODS
from videossp.model.videomamba import Block

OPTIONS = {
    "attentive": {"heads": 4},
    "adapter": {"width": 8},
    "st_adapter": {"width": 8, "layers": 2},
    "lora": {"rank": 4},
    "ssp": SSP_SMALL,
    "stop": {"heads": 4, "prompts": 1, "drop": 0.0},
}


def make(backbone, method, classes=2, **create):
    options = OPTIONS.get(method, {})
    classifier = Classifier.create(backbone, num_classes=classes, method=method, **options, **create)
    switch_on(classifier, seed=len(method))
    return classifier.eval()


@pytest.fixture
def blocks(monkeypatch):
    """The number of clips that each call of a block computes."""
    calls, forward = [], Block.forward

    def counted(self, tokens, *rest, **options):
        calls.append(len(tokens.hidden))
        return forward(self, tokens, *rest, **options)

    monkeypatch.setattr(Block, "forward", counted)
    return calls


CLIPS = torch.randn(2, 3, SMALL.frames, *SMALL.size, generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def test_each_adapter_gets_the_logits_that_it_has_alone_and_what_is_frozen_is_computed_once(
    small_backbone, blocks
):
    """linear, mean and attentive need no block of their own, st_adapter two of three, SSP all three."""
    methods = ["ssp", "linear", "st_adapter", "mean", "attentive", "linear+mean"]
    several = [make(small_backbone, x, classes=2 + i) for i, x in enumerate(methods)]
    alone = [x(CLIPS) for x in several]
    blocks.clear()
    together = SharedBlocks(several)(CLIPS)
    assert len(blocks) == 3 + 3 + 2  # SSP's own, the frozen ones, and the last two of the ST-Adapter
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)


@torch.no_grad()
@pytest.mark.parametrize("method", METHODS)
def test_blocks_before_the_first_of_a_method_are_those_of_the_frozen_backbone(small_backbone, method):
    classifier = make(small_backbone, method)
    depth = len(classifier.backbone.layers)
    first = classifier.tuner.first_block(depth)
    assert 0 <= first <= depth and (first == depth) == (classifier.tuner.depends_on != "blocks")
    if not first:
        return
    frozen = classifier.backbone.run_blocks(classifier.backbone.embed(CLIPS), range(first))
    tuned = classifier.backbone.run_blocks(
        classifier.backbone.embed(classifier.tuner.edit_clip(CLIPS, {})), range(first), classifier.tuner
    )
    assert torch.equal(frozen.hidden, tuned.hidden) and torch.equal(frozen.residual, tuned.residual)
    if first < depth:  # the next block does change
        ours = classifier.backbone.run_blocks(tuned, range(first, first + 1), classifier.tuner)
        theirs = classifier.backbone.run_blocks(frozen, range(first, first + 1))
        assert not torch.equal(ours.hidden, theirs.hidden)


def test_a_chain_changes_the_first_block_that_one_of_its_members_changes(small_backbone):
    for method, first in (("linear+st_adapter", 1), ("st_adapter+lora", 0), ("linear+mean", 3)):
        options = {name: OPTIONS.get(name, {}) for name in method.split("+")}
        tuner = Classifier.create(small_backbone, num_classes=2, method=method, **options).tuner
        assert tuner.first_block(SMALL.depth) == first


@torch.no_grad()
def test_nothing_is_shared_where_the_backbone_may_differ(small_backbone, blocks):
    first = make(small_backbone, "linear")
    others = {
        "another seed": make(small_backbone, "linear", seed=1),
        "bf16": copy.deepcopy(first).to_precision("bf16"),
        "disabled": copy.deepcopy(first),
        "merged": copy.deepcopy(first),
        "other pixels": copy.deepcopy(first),
    }
    others["merged"].merge()
    object.__setattr__(others["other pixels"].clip_format, "mean", (0.1, 0.2, 0.3))
    with others["disabled"].disable_adapter():
        for name, other in others.items():
            expected = [first(CLIPS), other(CLIPS)]
            blocks.clear()
            found = SharedBlocks([first, other])(CLIPS)
            assert len(blocks) == 6, name
            assert all(map(torch.equal, found, expected)), name
