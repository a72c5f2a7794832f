"""The backbone: layout, hooks, stochastic depth, gradient checkpointing, errors."""

import gc

import pytest
import torch

from conftest import SMALL
from videossp.methods.chain import Chain
from videossp.model.config import BACKBONES, PROJECTIONS, VideoMambaConfig
from videossp.model.hooks import Tuner
from videossp.model.tokens import Layout, Prompts, Tokens
from videossp.model.videomamba import VideoMamba, drop


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return VideoMamba(SMALL)


@pytest.fixture
def clip():
    return torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))


class Spy(Tuner):
    """Records the hooks that are called, checks their arguments, and changes nothing."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def edit_clip(self, clip, memory):
        memory["spy"] = len(clip)
        self.calls.append((-1, "clip"))
        return clip

    def edit_tokens(self, layer, tokens):
        assert tokens.memory["spy"] == len(tokens.hidden)
        self.calls.append((layer, "tokens"))
        return tokens

    def edit_projection(self, layer, name, x, y):
        assert (x.shape[-1], y.shape[-1]) == SMALL.width(name)
        self.calls.append((layer, name))
        return y

    def edit_scan(self, layer, name, scan):
        assert scan.reverse == (name == "scan_b")
        self.calls.append((layer, f"before {name}"))
        return scan

    def edit_scan_output(self, layer, name, scan, y):
        assert scan.reverse == (name == "scan_b") and scan.u.shape == y.shape
        self.calls.append((layer, f"after {name}"))
        return y

    def edit_mixer_output(self, layer, tokens, y):
        assert tokens.hidden.shape == tokens.residual.shape == y.shape
        self.calls.append((layer, "mixer"))
        return y

    def edit_cls(self, tokens, y):
        expected = (tokens.residual_part("cls") + tokens.part("cls"))[:, 0]
        assert torch.equal(y, expected)
        self.calls.append((SMALL.depth, "cls"))
        return y


def test_every_hook_is_called_in_the_documented_order(backbone, clip):
    spy = Spy()
    with torch.no_grad():
        assert torch.equal(backbone(clip, spy), backbone(clip))
    forward = ["x_proj", "dt_proj", "before scan", "after scan"]
    backward = [f"{name}_b" for name in forward]
    block = ["tokens", "in_proj", *forward, *backward, "out_proj", "mixer"]
    inside = [(layer, name) for layer in range(SMALL.depth) for name in block]
    assert spy.calls == [(-1, "clip"), *inside, (SMALL.depth, "cls")]
    assert {name for name in block if name.split("_b")[0].endswith("proj")} == set(PROJECTIONS)


def test_a_chain_calls_its_members_in_order(backbone, clip):
    first, second, calls = Spy(), Spy(), []
    first.calls = second.calls = calls
    backbone(clip, Chain({"first": first, "second": second}))
    alone = Spy()
    backbone(clip, alone)
    assert calls == [call for call in alone.calls for _ in range(2)]


def test_patches_are_laid_out_frame_by_frame_and_row_by_row(backbone):
    """The token of a patch depends on the pixels of that patch only, and has the position of the layout."""
    clip = torch.zeros(1, 3, 4, 32, 32)
    plain = backbone.embed(clip)
    clip[:, :, 2, 16:, :16] = 1.0  # frame 2, second row, first column
    changed = (backbone.embed(clip).hidden != plain.hidden).any(-1)[0].nonzero().flatten().tolist()
    assert changed == [1 + 2 * 4 + 2]
    assert plain.layout == Layout(4, (2, 2)) and plain.layout.length == plain.hidden.shape[1]


def test_the_first_position_sees_the_whole_clip(backbone, clip):
    out = backbone(clip)
    other = clip.clone()
    other[:, :, -1, -16:, -16:] += 1
    assert not torch.allclose(backbone(other), out)


def test_a_prediction_ignores_its_batch_mates(backbone, clip):
    together = backbone(clip)
    torch.testing.assert_close(together[:1], backbone(clip[:1]), rtol=1e-5, atol=1e-6)


def test_drop_path_skips_branches_only_while_training(clip):
    torch.manual_seed(0)
    backbone = VideoMamba(SMALL, drop_path=0.5)
    rates = [block.drop_path for block in backbone.layers]
    assert rates == [0.0, 0.0, 0.25]
    assert torch.equal(backbone.eval()(clip), backbone(clip))
    assert not torch.equal(backbone.train()(clip), backbone.eval()(clip))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_an_impossible_drop_path_is_refused(rate):
    with pytest.raises(ValueError, match="drop_path"):
        VideoMamba(SMALL, drop_path=rate)


def test_drop_path_keeps_the_mean(clip):
    torch.manual_seed(0)
    values = drop(torch.ones(4000, 1, 1), 0.25)
    assert sorted(values.unique().tolist()) == [0.0, pytest.approx(4 / 3)]
    assert values.mean().item() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("shape", [(1, 3, 4, 32, 48), (1, 3, 5, 32, 32), (3, 4, 32, 32), (1, 1, 4, 32, 32)])
def test_a_clip_of_another_shape_is_refused(backbone, shape):
    with pytest.raises(ValueError, match="a clip must be"):
        backbone(torch.zeros(shape))


@pytest.mark.parametrize("change", [{"size": (30, 32)}, {"depth": 0}, {"frames": 0}])
def test_impossible_sizes_are_refused(change):
    with pytest.raises(ValueError):
        VideoMambaConfig(**({"depth": 1, "d_model": 16} | change))


def test_an_unknown_projection_lists_the_known_ones():
    with pytest.raises(ValueError, match="no projection 'attention'; there are in_proj, x_proj"):
        SMALL.width("attention")


@pytest.mark.parametrize("name", BACKBONES)
def test_named_backbones_have_blocks_of_the_published_size(name):
    sizes = {"tiny": 282_048, "small": 1_043_328, "middle": 2_283_840}
    with torch.device("meta"):
        block = VideoMamba(BACKBONES[name]).layers[0]
    count = sum(x.numel() for x in block.parameters())
    assert count == sizes.get(name.removeprefix("videomamba_"), count)


def test_tokens_gain_prompts_and_keep_their_patches():
    hidden = torch.arange(2 * 9 * 3.0).reshape(2, 9, 3)
    tokens = Tokens(hidden, hidden + 100, Layout(2, (2, 2)))
    for wrong in ({"patchs": tokens.part("patches")}, {"patches": tokens.part("patches")[:, :, :3]}):
        with pytest.raises(ValueError, match="no part patch"):
            tokens.write(**wrong)
    wide = (
        tokens.insert("own", "frame_end", 2).insert("other", "frame_end", 1).insert("head", "before_cls", 1)
    )
    assert wide.layout.length == 16 == wide.hidden.shape[1] and not wide.part("own").any()
    assert torch.equal(wide.part("patches"), tokens.part("patches"))
    assert torch.equal(wide.part("cls"), hidden[:, :1])
    assert torch.equal(wide.residual_part("patches"), tokens.residual[:, 1:].unflatten(1, (2, 4)))
    written = wide.write(own=torch.ones(2, 2, 2, 3))
    assert written.part("own").all() and not wide.part("own").any()  # the original is untouched
    assert torch.equal(written.hidden[:, 6:8], torch.ones(2, 2, 3)) and not written.hidden[:, 8].any()
    assert torch.equal(written.part("patches"), wide.part("patches"))
    again = written.restart(own=torch.full((2, 3), 5.0))
    assert not again.part("own").any() and (again.residual_part("own") == 5).all()
    assert torch.equal(again.residual_part("patches"), wide.residual_part("patches"))


@pytest.mark.parametrize(
    ("name", "place"), [("cls", "end"), ("patches", "end"), ("own", "end"), ("new", "middle")]
)
def test_a_group_of_prompts_needs_a_new_name_and_a_known_place(name, place):
    layout = Layout(2, (2, 2)).add(Prompts("own", "frame_start", 1))
    with pytest.raises(ValueError, match="positions named|no place 'middle'; there are before_cls"):
        layout.add(Prompts(name, place, 1))


def test_gradient_checkpointing_changes_memory_and_not_numbers(backbone, clip):
    """It keeps only tokens between blocks, and gives bit-identical gradients."""
    clip.requires_grad_()
    backbone.requires_grad_(False)
    grads, kept = [], []
    for backbone.grad_checkpoint in (False, True):
        shapes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, shapes=shapes: (shapes.append(x.shape), x)[1], lambda x: x
        ):
            out = backbone(clip)
        kept.append([shape for shape in shapes if shape[-1] == SMALL.d_inner])
        grads.append(torch.autograd.grad(out.square().sum(), clip)[0])
    assert torch.equal(*grads)
    assert len(kept[0]) > 3 * SMALL.depth and not kept[1]


def test_a_frozen_backbone_computes_no_gradient_of_its_weights(backbone, clip, monkeypatch):
    """None of a product, a convolution, a norm or a scan."""
    from videossp.ops import conv, matmul, norm, scan_cpu

    products, wanted, empty = [], [], []
    product, scan_backward = matmul._product, scan_cpu.scan_backward
    monkeypatch.setattr(matmul, "_product", lambda *args: (products.append(args), product(*args))[1])

    def spy(*args, **kwargs):
        wanted.append(kwargs["wanted"])
        return scan_backward(*args, **kwargs)

    monkeypatch.setattr(scan_cpu, "scan_backward", spy)
    for module, function, places in (
        (conv, "_conv_block_backward", (-2, -1)),
        (norm, "_norm_rows_backward", (-1,)),
    ):
        run, kind = module.run_jobs, getattr(module, function)

        def watch(kernel, jobs, *args, run=run, kind=kind, places=places):
            if kernel is kind:
                empty.extend(args[place].size == 0 for place in places)
            run(kernel, jobs, *args)

        monkeypatch.setattr(module, "run_jobs", watch)
    backbone.requires_grad_(False)
    prompt = torch.zeros(1, requires_grad=True)
    out = backbone(clip + prompt)
    products.clear()
    out.sum().backward()
    assert prompt.grad is not None
    # Per block: input gradients of in_proj, 2 x_proj, 2 dt_proj, out_proj; and 2 dt_proj recomputed.
    assert len(products) == SMALL.depth * (6 + 2)
    assert wanted == 2 * SMALL.depth * [(True, True, False, True, True, False, False, False)]
    assert len(empty) == 3 * SMALL.depth and all(empty)


def test_a_forward_pass_without_a_backward_leaves_nothing_behind():
    backbone, clip = VideoMamba(SMALL), torch.randn(1, 3, SMALL.frames, *SMALL.size)

    def tensors():
        gc.collect()
        return sum(type(x) is torch.Tensor for x in gc.get_objects())

    backbone(clip)
    before = tensors()
    for _ in range(3):
        backbone(clip)
    assert tensors() == before
