"""Conformance tests of every method and of chains, and tests of single methods."""

import re
import threading
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import videossp
from conftest import SMALL, SSP_SMALL, switch_on
from videossp.classifier import Classifier
from videossp.methods import METHODS, make_tuner
from videossp.methods.svp import SVP
from videossp.model.config import BACKBONES, VideoMambaConfig
from videossp.model.hooks import Tuner
from videossp.model.tokens import Layout, Tokens
from videossp.model.videomamba import VideoMamba
from videossp.ops.dispatch import kernels
from videossp.ops.scan import selective_scan

# For backbones of a few tokens; other options keep their defaults. Few prompts: cls reads its neighbours
# through the four taps of the convolution, and in a random backbone hardly anything else of the clip.
OPTIONS = {
    "attentive": {"heads": 4},
    "adapter": {"width": 8},
    "st_adapter": {"width": 8, "layers": 2},
    "lora": {"rank": 4},
    "vpt": {"length": 2},
    "vfpt": {"length": 2},
    "svp": {"width": 4},
    "additional_scan": {"states": 6},
    "stop": {"heads": 4, "prompts": 1, "drop": 0.0},
    "ssp": SSP_SMALL,
    "gather_spread": {"rank": 4},
}
CHAINS = {
    "ssp+lora": {"ssp": SSP_SMALL, "lora": {"rank": 2}},
    "vpt+additional_scan+affix": {"vpt": {"length": 1}, "additional_scan": {"states": 6}},
    "additional_scan+state_offset": {"additional_scan": {"states": 6}},
}
VARIANTS = [
    ("partial", {"parts": ["A", "D", "dt_bias", "conv", "norm", "position"]}),
    ("adapter", {"width": 8, "scale": None, "reads": "norm"}),
    ("adapter", {"width": 8, "reads": "output"}),
    ("st_adapter", {"width": 8, "layers": 1, "kernel": [3, 3, 3], "residual": False}),
    ("lora", {"rank": 2, "targets": ["in_proj.x", "x_proj", "dt_proj"]}),
    ("lora", {"rank": 2, "targets": ["in_proj.z", "in_proj.x", "x_proj.dt", "x_proj.B", "x_proj.C"]}),
    *(("vpt", {"length": 2, "position": x}) for x in ("prepend", "suffix", "prefix_suffix", "per_frame")),
    ("vpt", {"length": 2, "deep": False}),
    ("vpt", {"length": 2, "accumulate": True}),
    ("vfpt", {"length": 2, "share": 1.0, "dimension": "hidden", "norm": "ortho"}),
    ("svp", {"width": 4, "groups": 2}),
    ("additional_scan", {"states": 6, "start": "s4d"}),
    ("additional_scan", {"states": 6, "start": "last", "silent": True}),
    ("affix", {"start": "zero"}),
    ("state_offset", {"of": "output"}),
    ("ssp", {**SSP_SMALL, "prompts": 0}),
    ("ssp", {**SSP_SMALL, "token": "mean", "importance": "constant", "detach": False}),
    ("ssp", {**SSP_SMALL, "token": "first+last"}),
    ("ssp", {**SSP_SMALL, "gather_kernel": [1, 3, 3]}),
    ("ssp", {**SSP_SMALL, "gathering": False}),
    ("ssp", {**SSP_SMALL, "reads": "residual"}),
    ("moments", {"times": 1, "order": 0}),
    ("gather_spread", {"rank": 4, "layers": 2}),
    ("gather_spread", {"rank": 4, "taps": False}),
    ("gather_spread", {"rank": 4, "moments": False}),
]
MAIN = [(name, OPTIONS.get(name, {})) for name in METHODS] + list(CHAINS.items())
SIZES = {
    "small": SMALL,
    "wide": VideoMambaConfig(depth=2, d_model=48, frames=3, size=(32, 48), d_state=6, dt_rank=5),
}
TINY = VideoMambaConfig(depth=2, d_model=32, frames=2, size=(32, 32), d_state=4)
# Of these the first logits are the frozen backbone's (docs/methods.md has a column for it).
STARTS_AT_BACKBONE = [
    "linear",
    "mean",
    "moments",
    "full",
    "partial",
    "adapter",
    "st_adapter",
    "lora",
    "svp",
    "state_offset",
    "gather_spread",
]

EDIT_CLS = ["mean", "moments", "gather_spread"]  # no chain has one of these before `attentive`


# Every method on two sizes, its variants on one. `make test` has every method on one, and all cases of SSP.
CASES = [("small", *case) for case in MAIN]
CASES += [
    pytest.param((size, *case), marks=[] if case[0] == "ssp" else [pytest.mark.slow])
    for size, cases in (("wide", MAIN), ("small", VARIANTS))
    for case in cases
]


def case_name(case):
    size, name, options = case
    return f"{size}-{name}" + ",".join(f" {k}={v}" for k, v in options.items() if (name, options) in VARIANTS)


@pytest.fixture(params=CASES, ids=case_name)
def case(request):
    return request.param[1:]


@pytest.fixture
def spec(request):
    return SIZES[request.node.callspec.params["case"][0]]


@pytest.fixture
def backbone(spec, monkeypatch):
    monkeypatch.setitem(BACKBONES, "videomamba_test", spec)
    return "videomamba_test"


@pytest.fixture
def fresh(backbone, case):
    method, options = case
    return Classifier.create(backbone, classes=["a", "b", "c"], method=method, **options)


@pytest.fixture
def classifier(fresh):
    switch_on(fresh)
    return fresh.eval()


@pytest.fixture
def clips(spec):
    shape = (2, 3, spec.frames, *spec.size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def train_steps(classifier, clips, steps, lr=1e-2, enough=0.0):
    """Train until the loss is below `enough`: (summed gradient magnitude by parameter, last loss)."""
    labels = torch.arange(len(clips)) % len(classifier.classes)
    optimizer = torch.optim.AdamW(classifier.trainable().values(), lr=lr, weight_decay=0.0)
    seen = dict.fromkeys(dict(classifier.named_parameters()), 0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(classifier(clips), labels)
        loss.backward()
        for name, x in classifier.named_parameters():
            seen[name] += 0.0 if x.grad is None else x.grad.abs().sum().item()
        if loss < enough:
            break
        optimizer.step()
    return seen, loss.item()


def test_logits_are_finite_and_of_the_right_shape(classifier, clips, spec):
    logits, features = classifier(clips), classifier.features(clips)
    assert logits.shape == (2, 3) and features.shape == (2, spec.d_model)
    assert torch.isfinite(logits).all() and torch.isfinite(features).all()


def test_a_prediction_ignores_its_batch_mates(classifier, clips):
    with torch.no_grad():
        together = classifier(clips)
        alone = torch.cat([classifier(clip[None]) for clip in clips])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=2e-6)


def test_every_tuned_weight_learns_within_two_steps_and_no_other_does(fresh, clips):
    """From the initial values, many of which are zero.

    One weight of a thawed backbone cannot learn, the forward A of the last block: cls is the first step of
    that scan, where the state is zero.
    """
    before = {name: x.clone() for name, x in fresh.backbone.state_dict().items()}
    tuned = fresh.trainable()
    seen, _ = train_steps(fresh, clips, 2)
    inert = f"backbone.layers.{len(fresh.backbone.layers) - 1}.mixer.A_log"
    assert {name for name, total in seen.items() if total} == set(tuned) - {inert}
    # Trained are the weights of the tuner and the head, and the weights that the tuner thaws.
    added = {f"{part}.{name}" for part in ("tuner", "head") for name in getattr(fresh, part).state_dict()}
    assert {name for name in tuned if not name.startswith("backbone.")} == added
    assert all(x.grad is None for name, x in fresh.named_parameters() if name not in tuned)
    for name, x in fresh.backbone.state_dict().items():
        assert torch.equal(x, before[name]) == (f"backbone.{name}" not in set(tuned) - {inert}), name


def test_training_starts_at_the_backbones_output(fresh, clips, case, backbone):
    plain = Classifier.create(backbone, classes=["a", "b", "c"], method="linear")
    plain.head.load_state_dict(fresh.head.state_dict())
    with torch.no_grad():
        expected, first = plain.eval()(clips), fresh.eval()(clips)
    name, options = case
    gathering_alone = name == "ssp" and options.get("prompts") == 0
    if name in STARTS_AT_BACKBONE or options.get("silent") or gathering_alone:
        torch.testing.assert_close(first, expected, rtol=1e-5, atol=1e-6)
    else:
        assert not torch.allclose(first, expected, rtol=1e-5, atol=1e-6)


def test_saved_and_loaded_gives_the_same_logits(classifier, clips, tmp_path):
    classifier.save(tmp_path / "adapter")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert saved.keys() == classifier.trainable().keys()
    loaded = videossp.load(tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.equal(loaded(clips), classifier(clips))
    loaded.save(tmp_path / "again")
    first, second = ((tmp_path / x / "adapter_config.json").read_text() for x in ("adapter", "again"))
    assert first == second


def test_two_clips_are_overfitted_in_sixty_steps(fresh, clips, case):
    lr = 3e-3 if case[0] == "stop" else 1e-2  # larger ones destabilise its pixel network
    assert train_steps(fresh, clips, 60, lr, enough=0.1)[1] < 0.1


def test_merging_keeps_the_logits_and_forbids_training_and_saving(classifier, clips, tmp_path):
    with torch.no_grad():
        expected = classifier(clips)
        note = classifier.merge()
        torch.testing.assert_close(classifier(clips), expected, rtol=1e-5, atol=1e-5)
    assert note and not any(x.requires_grad for x in classifier.parameters())
    for forbidden in (
        lambda: classifier.save(tmp_path),
        classifier.merge,
        lambda: videossp.train(classifier, tmp_path),
    ):
        with pytest.raises(ValueError, match="merge"):
            forbidden()


def test_gradient_checkpointing_gives_the_same_gradients(classifier, clips):
    grads = []
    for classifier.backbone.grad_checkpoint in (False, True):
        classifier.zero_grad()
        classifier(clips).square().sum().backward()
        grads.append({name: x.grad.clone() for name, x in classifier.trainable().items()})
    for name, x in grads[0].items():
        torch.testing.assert_close(x, grads[1][name], rtol=1e-5, atol=1e-6 * x.abs().max().item())


@pytest.mark.parametrize("name", METHODS)
def test_bf16_products_stay_close_and_gradients_too(name, small_backbone):
    options = OPTIONS.get(name, {})
    classifier = Classifier.create(small_backbone, num_classes=3, method=name, **options)
    switch_on(classifier)
    classifier.eval()
    clips = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    logits, grads = [], []
    for precision in ("float32", "bf16"):
        classifier.to_precision(precision).zero_grad()
        logits.append(classifier(clips))
        logits[-1].square().sum().backward()
        grads.append(torch.cat([x.grad.flatten() for x in classifier.trainable().values()]))
    assert logits[1].dtype == torch.float32
    assert (logits[1] - logits[0]).norm() <= 2e-2 * logits[0].norm()
    assert (grads[1] - grads[0]).norm() <= 1e-1 * grads[0].norm()


@pytest.mark.parametrize("first", METHODS)
def test_any_two_methods_make_a_chain(first, small_backbone):
    """Finite and independent of batch mates, in either order, before and after merging."""
    clips = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    for second in METHODS:
        if second == first or first == "affix" or (first, second) == ("mean", "attentive"):
            continue  # the order is refused, see below
        options = {name: OPTIONS.get(name, {}) for name in (first, second)}
        classifier = Classifier.create(small_backbone, num_classes=2, method=f"{first}+{second}", **options)
        switch_on(classifier)
        classifier.eval()
        classifier(clips).sum().backward()
        with torch.no_grad():
            together = classifier(clips)
            torch.testing.assert_close(classifier(clips[1:]), together[1:], rtol=1e-5, atol=1e-5)
            classifier.merge()
            torch.testing.assert_close(classifier(clips), together, rtol=1e-5, atol=1e-5)


def test_swapped_weights_have_their_own_gradients(small_backbone):
    """`functional_call` has restored the module's weights when the backward recomputes."""
    classifier = Classifier.create(small_backbone, num_classes=2, method="full").train()
    clips = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    parameters = dict(classifier.named_parameters())
    grads = []
    for context in (nullcontext(), kernels("torch")):
        swapped = {name: (x.detach() * 1.5).requires_grad_(x.requires_grad) for name, x in parameters.items()}
        with context:
            loss = torch.func.functional_call(classifier, swapped, (clips,)).square().sum()
            grads.append(torch.autograd.grad(loss, [x for x in swapped.values() if x.requires_grad]))
    for fast, plain in zip(*grads, strict=True):
        assert (fast - plain).abs().max() <= 1e-3 * plain.abs().max().clamp_min(1e-3)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("method", ["ssp", "full"])
def test_a_compiled_classifier_trains_and_exports(small_backbone, method):
    options = SSP_SMALL if method == "ssp" else {}
    classifier = Classifier.create(small_backbone, num_classes=2, method=method, **options)
    switch_on(classifier)
    clips = torch.randn(1, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    tuned = list(classifier.trainable().values())
    logits = classifier(clips)
    plain = torch.autograd.grad(logits.square().sum(), tuned)
    compiled = torch.compile(classifier, backend="aot_eager")
    for fast, wanted in zip(torch.autograd.grad(compiled(clips).square().sum(), tuned), plain, strict=True):
        assert (fast - wanted).abs().max() <= 1e-3 * wanted.abs().max().clamp_min(1e-3)
    program = torch.export.export(classifier.eval(), (clips,), strict=False)
    torch.testing.assert_close(program.module()(clips), classifier(clips), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*METHODS, "vpt+additional_scan+affix"])
def test_an_exported_classifier_takes_batches_of_any_size(name, monkeypatch):
    monkeypatch.setitem(BACKBONES, "videomamba_tiny_test", TINY)
    options = (OPTIONS | CHAINS).get(name, {})
    classifier = Classifier.create("videomamba_tiny_test", num_classes=3, method=name, **options).eval()
    switch_on(classifier)
    clips = torch.randn(5, 3, 2, 32, 32, generator=torch.Generator().manual_seed(1))
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(classifier, (clips[:2],), dynamic_shapes=({0: batch},), strict=False)
    for count in (1, 3, 5):
        with torch.no_grad():
            exported, eager = program.module()(clips[:count]), classifier(clips[:count])
        torch.testing.assert_close(exported, eager, rtol=1e-4, atol=1e-5)


def test_biases_that_are_stacked_by_block_are_not_decayed():
    assert make_tuner("state_offset", SMALL, {"of": "output"}).undecayed == ("offset",)
    assert make_tuner("state_offset", SMALL, {}).undecayed == ()


@pytest.mark.parametrize("name", EDIT_CLS)
def test_a_chain_in_which_an_effect_would_be_lost_is_refused(name, small_backbone):
    with pytest.raises(
        ValueError, match=f"attentive replaces cls, which {name} adds to: put attentive first"
    ):
        Classifier.create(small_backbone, num_classes=2, method=f"{name}+attentive", attentive={"heads": 4})


@pytest.mark.parametrize("name", METHODS)
def test_clips_of_one_frame_or_one_column_are_computed(name, monkeypatch):
    for size, frames in (((32, 48), 1), ((48, 16), 2)):
        spec = VideoMambaConfig(depth=2, d_model=32, frames=frames, size=size, d_state=4)
        monkeypatch.setitem(BACKBONES, "videomamba_odd", spec)
        options = OPTIONS.get(name, {})
        classifier = Classifier.create("videomamba_odd", num_classes=2, method=name, **options)
        switch_on(classifier)
        clips = torch.randn(1, 3, frames, *size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            exact = classifier.eval()(clips)
            rounded = classifier.to_precision("bf16")(clips)
        assert (rounded - exact).norm() <= 5e-2 * exact.norm()


def test_each_layer_and_direction_learns_its_part_of_a_stacked_weight(small_backbone):
    """Only the forward A of the last block learns nothing: cls is the first step of that scan."""
    clips = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    for method, weight in (
        ("vpt", "prompts"),
        ("vfpt", "prompts"),
        ("affix", "inputs"),
        ("state_offset", "offset"),
        ("additional_scan", "A"),
    ):
        classifier = Classifier.create(
            small_backbone, num_classes=2, method=method, **OPTIONS.get(method, {})
        )
        switch_on(classifier)
        classifier(clips).square().sum().backward()
        grad = getattr(classifier.tuner, weight).grad
        parts = grad if weight == "prompts" else grad.flatten(0, 1)
        learns = [bool(x.abs().sum() > 0) for x in parts]
        expected = [True] * len(parts)
        if method == "additional_scan":
            expected[2 * (SMALL.depth - 1)] = False
        assert learns == expected, method


def test_predicting_in_one_thread_does_not_disturb_training_in_another(small_classifier):
    clips = torch.randn(1, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    small_classifier.backbone.grad_checkpoint = True
    stop, failures = threading.Event(), []

    def predict():
        while not stop.is_set():
            with torch.no_grad():
                small_classifier(clips)

    thread = threading.Thread(target=predict)
    thread.start()
    try:
        for _ in range(10):
            small_classifier(clips).sum().backward()
    except Exception as error:
        failures.append(error)
    finally:
        stop.set()
        thread.join()
    assert not failures


# Single methods


def tuner_and_tokens(method, spec=SMALL, **options):
    torch.manual_seed(0)
    tuner = make_tuner(method, spec, options)
    layout = Layout(spec.frames, spec.grid)
    shape = (2, layout.length, spec.d_model)
    return tuner, Tokens(torch.randn(shape), torch.randn(shape), layout)


@pytest.mark.parametrize("name", METHODS)
def test_an_unknown_option_lists_the_known_ones(name):
    with pytest.raises(ValueError, match=rf"{name} has no option nothing; it has "):
        make_tuner(name, SMALL, {"nothing": 1})


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("partial", {"parts": ("bias", "attention")}, "parts attention: name some, each once, of bias, A, D"),
        ("partial", {"parts": ()}, "parts none: name some"),
        ("partial", {"parts": "biases"}, "parts biases: name some"),
        (
            "lora",
            {"targets": ("in_proj.y",)},
            "targets in_proj.y: name some, each once, of in_proj, in_proj.x",
        ),
        ("lora", {"targets": ()}, "targets none: name some"),
        ("lora", {"targets": ("in_proj", "in_proj")}, "targets in_proj: name some, each once"),
        ("st_adapter", {"layers": 4}, "layers must be between 1 and 3"),
        ("svp", {"groups": 4}, "groups must be between 1 and 3"),
        ("vpt", {"position": "middle"}, "position must be one of after_cls"),
        ("vfpt", {"share": 1.5}, "share"),
        ("attentive", {"heads": 5}, "heads must divide d_model 32, got 5"),
        ("stop", {"heads": 12}, "heads divide 32"),
        ("stop", {"importance": "clips"}, "importance is clip or batch"),
        ("stop", {"token_kernel": (15, 8)}, "token_kernel must be 2 whole numbers of at least 1, odd"),
        ("stop", {"pixel_kernel": -3}, "pixel_kernel must be a whole number of at least 1, odd"),
        ("stop", {"position": "end"}, "position is frame_start or frame_end"),
        ("ssp", {"token": "first"}, r"token .'last', 'first.last', 'mean'., importance"),
        ("ssp", {"prompts": 0, "gathering": False}, "prompts must be a whole number of at least 1"),
        ("ssp", {"gather_width": 0}, "gather_width must be a whole number of at least 1"),
        ("st_adapter", {"layers": 2, "width": 0}, "width must be a whole number of at least 1, got 0"),
        ("additional_scan", {"states": 0}, "states must be a whole number of at least 1"),
        ("affix", {"length": 0}, "length must be a whole number of at least 1"),
        ("state_offset", {"of": "y"}, "state or output"),
        ("adapter", {"reads": "hidden"}, "reads residual, norm or output"),
        ("ssp", {"heads": 3}, "heads must divide spread_width"),
        ("ssp+sps", {}, "no method 'sps'; there are linear, mean, moments, attentive, full"),
        ("ssp+ssp", {}, "each method once"),
        ("ssp+lora", {"rank": 4}, "has no option rank; give those of a member as ssp="),
        ("ssp+lora", {"lora": {"ranks": 4}}, "lora has no option ranks; it has targets, rank"),
        ("affix+lora", {}, "affix makes the sequence longer inside the mixer: put it last"),
    ],
)
def test_invalid_options_give_one_line_that_lists_the_choices(method, options, message):
    with pytest.raises(ValueError, match=message) as error:
        make_tuner(method, SMALL, options)
    assert "\n" not in str(error.value)


def test_additional_scan_is_the_frozen_output_and_a_second_scan():
    torch.manual_seed(0)
    tuner = make_tuner("additional_scan", SMALL, {"states": 3})
    tuner.A.data.normal_()
    seen = []

    class Spy(Tuner):
        def edit_scan(self, layer, name, scan):
            more = tuner.edit_scan(layer, name, scan)
            second = replace(
                more, A=more.A[:, :3], B=more.B[..., :3], C=more.C[..., :3], D=torch.zeros(scan.u.shape[2])
            )
            expected = selective_scan(scan) + selective_scan(second)
            torch.testing.assert_close(selective_scan(more), expected, rtol=1e-4, atol=1e-5)
            assert not torch.allclose(selective_scan(more), selective_scan(scan), rtol=1e-2)
            seen.append(name)
            return scan

    with torch.no_grad():
        VideoMamba(SMALL)(torch.randn(2, 3, 4, 32, 32), Spy())
    assert seen == SMALL.depth * ["scan", "scan_b"]


@pytest.mark.parametrize(("start", "expected"), [("first", 0), ("last", -1)])
def test_additional_states_start_at_a_frozen_column(start, expected):
    tuner = make_tuner("additional_scan", SMALL, {"start": start, "states": 6})

    class Spy(Tuner):
        def edit_scan(self, layer, name, scan):
            more = tuner.edit_scan(layer, name, scan)
            assert torch.equal(more.A[:, :6], scan.A[:, [expected]].expand(-1, 6))
            return scan

    VideoMamba(SMALL)(torch.randn(1, 3, 4, 32, 32), Spy())


def test_fourier_tokens_have_the_symmetry_of_a_real_transform():
    """F[i, j] = F[-i, -j]: with every token transformed, half of the parameters are free."""
    tuner = make_tuner("vfpt", SMALL, {"length": 10, "share": 1.0})
    made = tuner.tokens(tuner.prompts)
    mirrored = made.flip(-2, -1).roll((1, 1), (-2, -1))
    torch.testing.assert_close(made, mirrored, rtol=1e-4, atol=1e-4)
    assert make_tuner("vfpt", SMALL, {"length": 7, "share": 0.5}).transformed == 3  # rounded down
    assert make_tuner("vfpt", SMALL, {"length": 100, "share": 0.29}).transformed == 29
    half = make_tuner("vfpt", SMALL, {"length": 10})
    assert torch.equal(half.tokens(half.prompts)[:, 5:], half.prompts[:, 5:])
    assert not torch.allclose(half.tokens(half.prompts)[:, :5], half.prompts[:, :5])


@pytest.mark.parametrize("method", ["vpt", "vfpt"])
def test_deep_prompts_do_not_depend_on_what_a_block_wrote_over_them(method):
    tuner, tokens = tuner_and_tokens(method, length=4)
    tokens = tuner.edit_tokens(0, tokens)
    (name,) = (x.name for x in tokens.layout.prompts)
    noise = {name: torch.randn_like(tokens.part(name))}
    for other in (tokens.write(**noise), tokens.restart(**noise)):
        first, second = tuner.edit_tokens(1, tokens), tuner.edit_tokens(1, other)
        assert torch.equal(first.hidden, second.hidden) and torch.equal(first.residual, second.residual)
    read = first.part(name) + first.residual_part(name)
    values = tuner.prompts[1] if method == "vpt" else tuner.tokens(tuner.prompts[1])
    torch.testing.assert_close(read, values.expand_as(read))


def test_accumulated_prompts_keep_their_residual():
    tuner, tokens = tuner_and_tokens("vpt", length=4, accumulate=True)
    tokens = tuner.edit_tokens(0, tokens)
    moved = replace(tokens, residual=tokens.residual + 1)
    first, second = tuner.edit_tokens(1, tokens), tuner.edit_tokens(1, moved)
    torch.testing.assert_close(
        second.residual_part("vpt_after_cls"), first.residual_part("vpt_after_cls") + 1
    )


@pytest.mark.parametrize(
    ("position", "where"),
    [
        ("after_cls", [1, 2]),
        ("prepend", [0, 1]),
        ("suffix", [17, 18]),
        ("prefix_suffix", [0, 18]),
        ("per_frame", [5, 6, 11, 12, 17, 18, 23, 24]),
    ],
)
def test_prompts_lie_where_the_position_puts_them(position, where):
    tuner, tokens = tuner_and_tokens("vpt", length=2, position=position)
    wide = tuner.edit_tokens(0, tokens)
    old = [i for i in range(wide.layout.length) if i not in where]
    assert torch.equal(wide.hidden[:, old], tokens.hidden)
    assert torch.equal(wide.residual[:, old], tokens.residual)
    assert not wide.hidden[:, where].any()
    expected = tuner.prompts[0].repeat(len(where) // 2, 1)
    assert torch.equal(wide.residual[:, where], expected.expand(2, -1, -1))
    assert torch.equal(wide.part("cls"), tokens.part("cls"))


def test_stochastic_depth_leaves_prompts_alone():
    tuner, tokens = tuner_and_tokens("vpt", length=2)
    torch.manual_seed(0)
    wide = tuner.edit_tokens(0, tokens)
    block = VideoMamba(SMALL).layers[2].train()
    block.drop_path = 0.99
    read = []

    class Spy(Tuner):
        def edit_mixer_output(self, layer, tokens, y):
            read.append(tokens.residual)
            return y

    block(wide, 2, Spy())
    assert torch.equal(read[0][:, 1:3], tuner.prompts[0].expand(2, -1, -1))


def test_ssp_without_prompts_is_an_st_adapter_on_the_hidden_stream():
    options = {"kernel": (3, 1, 1), "width": 8, "layers": SMALL.depth, "residual": False}
    adapter, tokens = tuner_and_tokens("st_adapter", **options)
    ssp = make_tuner("ssp", SMALL, {"prompts": 0, "gather_width": 8, "gather_kernel": (3, 1, 1)})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, x in ssp.gather.named_parameters():
            x.normal_(generator=generator)
            for bottleneck in adapter.bottlenecks:
                bottleneck.get_parameter(name).copy_(x)
        for layer in range(SMALL.depth):
            torch.testing.assert_close(
                ssp.edit_tokens(layer, tokens).hidden, adapter.edit_tokens(layer, tokens).hidden
            )


def test_ssp_reading_the_residual_gathers_from_what_the_block_reads():
    branch, tokens = tuner_and_tokens("ssp", gather_width=8, prompts=0)
    residual = make_tuner("ssp", SMALL, {"gather_width": 8, "prompts": 0, "reads": "residual"})
    for x in branch.parameters():
        x.data.normal_()
    residual.load_state_dict(branch.state_dict())
    summed = replace(tokens, hidden=tokens.hidden + tokens.residual)
    wanted = branch.edit_tokens(1, summed).hidden - summed.hidden  # the prompt of the sum of both streams
    torch.testing.assert_close(
        residual.edit_tokens(1, tokens).hidden - tokens.hidden, wanted, rtol=1e-4, atol=1e-5
    )
    assert not torch.equal(tokens.residual, torch.zeros_like(tokens.residual))


def test_svp_prompts_each_patch_from_itself_and_leaves_cls_alone():
    tuner, tokens = tuner_and_tokens("svp", width=4)
    for x in tuner.parameters():
        x.data.normal_()
    changed = tokens.hidden.clone()
    changed[:, 7] += 1
    first = tuner.edit_tokens(1, tokens).hidden
    second = tuner.edit_tokens(1, replace(tokens, hidden=changed)).hidden
    assert (first != second).any(-1)[0].nonzero().flatten().tolist() == [7]
    assert torch.equal(first[:, 0], tokens.hidden[:, 0]) and not torch.equal(first, tokens.hidden)


def test_svp_groups_are_neighbouring_layers():
    spec = VideoMambaConfig(depth=8, d_model=16)
    assert SVP(spec, groups=2).group == [0, 0, 0, 0, 1, 1, 1, 1]
    assert SVP(spec).group == 8 * [0]


@pytest.mark.parametrize("of", ["state", "output"])
def test_a_state_offset_is_added_at_every_step(of):
    torch.manual_seed(0)
    tuner = make_tuner("state_offset", SMALL, {"of": of})
    tuner.offset.data.normal_()
    seen = []

    class Spy(Tuner):
        def edit_scan_output(self, layer, name, scan, y):
            offset = tuner.offset[layer, ["scan", "scan_b"].index(name)]
            for t in (0, scan.u.shape[1] - 1):
                added = tuner.edit_scan_output(layer, name, scan, y)[:, t] - y[:, t]
                expected = scan.C[:, t] @ offset.T if of == "state" else offset.expand_as(added)
                torch.testing.assert_close(added, expected, rtol=1e-4, atol=1e-4)
            seen.append(name)
            return y

    with torch.no_grad():
        VideoMamba(SMALL)(torch.randn(2, 3, 4, 32, 32), Spy())
    assert seen == SMALL.depth * ["scan", "scan_b"]


def test_an_affix_changes_the_outputs_of_its_direction_only():
    """The forward affix changes the first forward output, the backward one the last backward output."""
    torch.manual_seed(0)
    backbone, clip = VideoMamba(SMALL), torch.randn(1, 3, 4, 32, 32)
    tuner = make_tuner("affix", SMALL, {"length": 2})
    outputs = {}

    def run(key):
        class Spy(Tuner):
            def edit_projection(self, layer, name, x, y):
                return tuner.edit_projection(layer, name, x, y)

            def edit_scan_output(self, layer, name, scan, y):
                if layer == 0:
                    outputs[key, name] = y
                return y

        with torch.no_grad():
            assert backbone(clip, Spy()).shape == (1, SMALL.d_model)

    run("start")
    tuner.inputs.data[:, 0] += 1  # of the forward direction
    run("forward")
    own, other = (
        outputs["forward", op][:, 2:-2] - outputs["start", op][:, 2:-2] for op in ("scan", "scan_b")
    )
    assert own[:, 0].abs().max() > 1e-3 and not other.any()
    tuner.inputs.data[:, 1] += 1
    run("both")
    own, other = (outputs["both", op][:, 2:-2] - outputs["forward", op][:, 2:-2] for op in ("scan_b", "scan"))
    assert own[:, -1].abs().max() > 1e-3 and not other.any()


def test_lora_halves_and_parts_touch_their_rows_only():
    x = torch.randn(2, 5, SMALL.d_model)
    d = SMALL.d_inner
    for target, rows in (("in_proj.x", slice(0, d)), ("in_proj.z", slice(d, 2 * d))):
        tuner = make_tuner("lora", SMALL, {"targets": (target,), "rank": 2})
        switched(tuner)
        change = tuner.edit_projection(1, "in_proj", x, torch.zeros(2, 5, 2 * d))
        assert change[..., rows].abs().min() > 0
        change[..., rows] = 0
        assert not change.any()
    assert SMALL.rows("x_proj_b.B") == ("x_proj_b", 2, 6) and SMALL.rows("x_proj.C") == ("x_proj", 6, 10)
    with pytest.raises(ValueError, match="out_proj has no part 'x'; it has none"):
        SMALL.rows("out_proj.x")


def switched(tuner):
    for x in tuner.parameters():
        x.data.normal_()


@pytest.mark.parametrize(
    ("method", "options", "nothing_remains", "note"),
    [
        (
            "lora",
            {"rank": 2, "targets": ["in_proj", "x_proj.B", "dt_proj", "out_proj"]},
            True,
            "folded into in_proj",
        ),
        (
            "ssp+lora",
            CHAINS["ssp+lora"],
            False,
            "ssp: gathering: convolution folded.*; lora: folded into in_proj",
        ),
        ("ssp", {**SSP_SMALL, "prompts": 0}, False, "one product"),
        ("ssp", {**SSP_SMALL, "gather_kernel": [1, 3, 3]}, False, "nothing to fold: the convolution"),
        ("ssp", {**SSP_SMALL, "gathering": False}, False, "or there is none"),
        ("vfpt", {"length": 4}, False, "transform is folded"),
        ("adapter", {"width": 8}, False, "nothing to fold"),
    ],
)
def test_merge_folds_exactly_and_gives_the_reason_for_what_it_leaves(
    small_backbone, method, options, nothing_remains, note
):
    classifier = Classifier.create(small_backbone, num_classes=2, method=method, **options)
    clips = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    switch_on(classifier)
    classifier.eval()
    with torch.no_grad():
        classifier(clips)  # products arranged for the frozen weights before they change
        expected = classifier(clips)
        returned = classifier.merge()
        torch.testing.assert_close(classifier(clips), expected, rtol=1e-5, atol=1e-5)
    assert re.search(note, returned), returned
    assert (type(classifier.tuner) is Tuner) == nothing_remains


def test_stop_weighs_frames_within_a_clip_or_as_published_within_the_batch():
    clips = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    differences = {}
    for importance in ("clip", "batch"):
        torch.manual_seed(0)
        tuner = make_tuner("stop", SMALL, {"heads": 4, "importance": importance}).eval()
        backbone = VideoMamba(SMALL)
        with torch.no_grad():
            differences[importance] = (backbone(clips, tuner)[:1] - backbone(clips[:1], tuner)).abs().max()
    assert differences["clip"] < 1e-5 < differences["batch"]


@pytest.mark.parametrize(("position", "where"), [("frame_start", 1), ("frame_end", 5)])
def test_stop_puts_the_same_tokens_before_every_block(position, where):
    tuner, tokens = tuner_and_tokens("stop", heads=4, position=position, prompts=2)
    tokens.memory["stop_mask"] = torch.zeros(2, 4, 4)
    first = tuner.edit_tokens(0, tokens)
    later = tuner.edit_tokens(2, replace(first, hidden=first.hidden + 1, residual=first.residual + 1))
    for x in (first, later):
        assert torch.equal(x.residual_part("stop"), first.memory["stop"]) and not x.part("stop").any()
        assert torch.equal(x.residual[:, where : where + 2], first.memory["stop"][:, 0])


def test_stop_marks_its_share_of_a_clip_without_differences():
    tuner, memory = make_tuner("stop", SMALL, {"share": 0.5}).eval(), {}
    tuner.edit_clip(torch.zeros(1, 3, 4, 32, 32), memory)
    assert (memory["stop_mask"] > 0.5).sum(-1).eq(2).all()


def test_stop_marks_its_share_of_patches_and_the_scorer_learns():
    torch.manual_seed(0)
    tuner = make_tuner("stop", SMALL, {"heads": 4, "share": 0.5}).eval()
    memory = {}
    tuner.edit_clip(torch.randn(2, 3, 4, 32, 32), memory).sum().backward()
    assert (memory["stop_mask"] > 0.5).sum(-1).eq(2).all()
    assert tuner.pixel_score.weight.grad.abs().sum() > 0


def test_mean_adds_a_map_of_the_normed_patches_whatever_their_order():
    tuner, tokens = tuner_and_tokens("mean")
    tuner.map.weight.data.normal_()
    cls = torch.randn(2, SMALL.d_model)
    edited = tuner.edit_cls(tokens, cls)
    patches = (tokens.hidden + tokens.residual)[:, 1:]
    normed = patches / (patches.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(edited, cls + normed.mean(1) @ tuner.map.weight.T)
    flipped = replace(
        tokens,
        hidden=torch.cat([tokens.hidden[:, :1], tokens.hidden[:, 1:].flip(1)], 1),
        residual=torch.cat([tokens.residual[:, :1], tokens.residual[:, 1:].flip(1)], 1),
    )
    torch.testing.assert_close(tuner.edit_cls(flipped, cls), edited)


def test_an_attentive_probe_reads_every_token():
    torch.manual_seed(0)
    tuner = make_tuner("attentive", SMALL, {"heads": 4})
    _, tokens = tuner_and_tokens("linear")
    y = torch.zeros(2, SMALL.d_model)
    with torch.no_grad():
        before = tuner.edit_cls(tokens, y)
        for position in (0, tokens.layout.length - 1):
            changed = tokens.hidden.clone()
            changed[0, position] += torch.randn(SMALL.d_model)
            after = tuner.edit_cls(replace(tokens, hidden=changed), y)
            assert not torch.allclose(after[0], before[0]) and torch.equal(after[1], before[1])
