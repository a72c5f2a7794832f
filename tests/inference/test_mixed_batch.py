"""`mixed_logits`: the logits equal those of each adapter alone; shared blocks run once."""

import copy

import pytest
import torch

from conftest import SMALL, SSP_SMALL, switch_on
from videossp.classifier import Classifier
from videossp.inference.mixed_batch import mixed_logits
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
    options = {**OPTIONS.get(method, {}), **create}
    classifier = Classifier.create(backbone, num_classes=classes, method=method, **options)
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
    together = mixed_logits([(x, CLIPS) for x in several])
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
            found = mixed_logits([(first, CLIPS), (other, CLIPS)])
            assert len(blocks) == 6, name
            assert all(map(torch.equal, found, expected)), name


@torch.no_grad()
@pytest.mark.parametrize("method", [*METHODS, "ssp+lora", "linear+mean"])
def test_adapters_that_are_computed_together_have_the_logits_of_separate_calls(small_backbone, method):
    """Of three adapters of other weights and classes, for other clips, one of them asked twice."""
    options = {x: OPTIONS.get(x, {}) for x in method.split("+")} if "+" in method else OPTIONS.get(method, {})
    several = [
        Classifier.create(small_backbone, num_classes=2 + i, method=method, **options).eval()
        for i in range(3)
    ]
    for i, x in enumerate(several):
        switch_on(x, seed=i)
    generator = torch.Generator().manual_seed(7)
    clips = [torch.randn(n, *CLIPS.shape[1:], generator=generator) for n in (1, 2, 1, 3)]
    pairs = [(several[i], x) for i, x in zip((0, 1, 0, 2), clips, strict=True)]
    for (classifier, clip), found in zip(pairs, mixed_logits(pairs, together=True), strict=True):
        expected = classifier(clip)
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(found.argmax(1), expected.argmax(1))


@torch.no_grad()
def test_one_pass_computes_all_adapters_of_a_method_and_all_that_read_the_output(small_backbone, blocks):
    """One pass of the SSP adapters (2 + 2 + 2 clips), one frozen pass (2 clips) for three readers."""
    several = [make(small_backbone, "ssp", classes=2 + i) for i in range(3)]
    readers = [make(small_backbone, x) for x in ("linear", "mean", "linear")]
    blocks.clear()
    mixed_logits([(x, CLIPS) for x in [*several, *readers]], together=True)
    assert sorted(blocks) == [2, 2, 2, 6, 6, 6]


@torch.no_grad()
def test_a_batch_of_one_adapter_is_the_batch_to_the_digit(small_backbone):
    classifier = make(small_backbone, "ssp")
    found = mixed_logits([(classifier, CLIPS[:1]), (classifier, CLIPS[1:])], together=True)
    assert torch.equal(torch.cat(found), classifier(CLIPS))


@torch.no_grad()
def test_a_method_that_mixes_clips_gets_the_clips_of_each_request_alone(small_backbone):
    classifier = make(small_backbone, "ssp", importance="batch")
    other = torch.randn(1, *CLIPS.shape[1:], generator=torch.Generator().manual_seed(8))
    found = mixed_logits([(classifier, CLIPS), (classifier, other)], together=True)
    assert torch.equal(found[0], classifier(CLIPS)) and torch.equal(found[1], classifier(other))
