"""Quantities of the model: their shapes and values, for every method, without changing the prediction."""

import pytest
import torch
from small_models import clip_of, made
from test_hidden_attention import chained

from conftest import SMALL
from videossp import Classifier, Tuner
from videossp.explanation.mechanism import HIDDEN_ATTENTION, mechanism
from videossp.methods import METHODS
from videossp.methods.chain import Chain

FRAMES, GRID = SMALL.frames, SMALL.grid
SHAPES = {"patch": (FRAMES, *GRID), "frame": (FRAMES,), "frame_pair": (FRAMES, FRAMES)}


@pytest.mark.parametrize("method", [*METHODS, "ssp+lora", "vpt+ssp"])
def test_every_method_has_finite_quantities_and_keeps_its_logits(method):
    classifier, clips = made(method), torch.stack([clip_of(0), clip_of(1)])
    with torch.no_grad():
        before = classifier(clips)
    found = mechanism(classifier, clips)
    for x in found:
        assert tuple(x.values.shape) == (2, *SHAPES[x.per]) and x.values.isfinite().all(), x.name
    # The rest of the weights of cls lies on cls itself and on prompts.
    total = found[-1].values.sum((1, 2, 3))
    assert (found[-1].values >= 0).all() and (total > 0).all() and (total <= 1 + 1e-5).all()
    with torch.no_grad():
        assert classifier(clips).equal(before)
    assert classifier.check_saving()


def test_quantities_of_a_clip_do_not_depend_on_its_batch():
    classifier = made("ssp")
    pair = mechanism(classifier, torch.stack([clip_of(0), clip_of(1)]))
    for one, both in zip(mechanism(classifier, clip_of(1)[None]), pair, strict=True):
        torch.testing.assert_close(one.values[0], both.values[1], rtol=1e-4, atol=1e-6)


def test_the_quantities_of_ssp_are_those_of_its_equations():
    classifier = made("ssp")
    found = {x.name: x for x in mechanism(classifier, clip_of()[None])}
    read = []

    class Recorder(type(classifier.tuner)):
        def edit_tokens(self, layer, tokens):
            read.append(tokens.part("patches"))
            return super().edit_tokens(layer, tokens)

    classifier.tuner.__class__ = Recorder
    with torch.no_grad():
        classifier(clip_of()[None])
        gather, sizes = classifier.tuner.gather, []
        for x in read:
            code = gather.down(x) * gather.conv.weight.flatten() + gather.conv.bias
            sizes.append(gather.up(code).norm(dim=-1) / x.norm(dim=-1))
    size = found["size of the gathered prompt / size of the patch token"].values
    torch.testing.assert_close(size.flatten(), torch.stack(sizes).mean(0).flatten(), rtol=1e-4, atol=1e-6)
    attention = found["attention of the spreading between frames"].values
    torch.testing.assert_close(attention.sum(-1), torch.ones(1, FRAMES))
    weights = found["frame weight of the spreading"].values
    torch.testing.assert_close(weights.sum(-1), torch.ones(1))


@pytest.mark.parametrize("options", [{"prompts": 0}, {"gathering": False}])
def test_half_of_ssp_has_the_quantities_of_this_half(options):
    classifier = made("ssp", **options)
    names = " ".join(x.name for x in mechanism(classifier, clip_of()[None]))
    assert ("gathered" in names) == ("gathering" not in options)
    assert ("spreading" in names) == ("prompts" not in options)


def test_the_attention_of_the_query_is_that_of_the_attentive_probe():
    classifier = made("attentive")
    found = mechanism(classifier, clip_of()[None])
    with torch.no_grad():
        tokens = classifier.backbone.encode(clip_of()[None])
        tuner = classifier.tuner
        read = tuner.norm(tokens.residual + tokens.hidden)
        weights = tuner.attention(tuner.query, read, read)[1][0, 0, 1:]
    torch.testing.assert_close(found[0].values.flatten(), weights, rtol=1e-4, atol=1e-6)


def test_a_method_of_a_user_brings_its_own_by_one_function(small_backbone):
    import videossp
    from videossp.model.quantity import Quantity

    class Bright(videossp.Tuner):
        def __init__(self, config):
            super().__init__()

        def quantities(self, layer, tokens):
            return [Quantity("layer", torch.full((1, FRAMES), float(layer)), "frame")]

    classifier = Classifier.create(small_backbone, num_classes=2, method=Bright)
    first = mechanism(classifier, clip_of()[None])[0]
    assert first.name == "layer"
    torch.testing.assert_close(first.values, torch.full((1, FRAMES), sum(range(4)) / 4))


SSP_NAMES = [
    "size of the gathered prompt / size of the patch token",
    "attention of the spreading between frames",
    "frame weight of the spreading",
    "size of the slots of a frame",
]


@pytest.mark.parametrize(
    ("method", "options", "names"),
    [
        ("ssp", {}, SSP_NAMES),  # its spreading stays after `merge`
        ("ssp", {"prompts": 0, "gather_width": 32}, []),
        ("svp", {}, ["size of the prompts / size of the patch token"]),
        ("lora", {}, []),
    ],
)
def test_merged_and_disabled_classifiers_have_the_quantities_that_are_left(method, options, names):
    classifier = made(method, **options)
    with classifier.disable_adapter():
        assert [x.name for x in mechanism(classifier, clip_of()[None])] == [HIDDEN_ATTENTION]
    before = mechanism(classifier, clip_of()[None])
    classifier.merge()
    after = mechanism(classifier, clip_of()[None])
    assert [x.name for x in after] == [*names, HIDDEN_ATTENTION]
    torch.testing.assert_close(after[-1].values, before[-1].values, rtol=1e-3, atol=1e-5)


class Recorder(Tuner):
    """Keeps the arguments of all scans."""

    def __init__(self):
        super().__init__()
        self.scans = {}

    def edit_scan(self, layer, name, scan):
        self.scans.setdefault(layer, {})[name] = scan
        return scan


@pytest.mark.parametrize(
    ("method", "options", "layout"),
    [
        ("linear", {}, "C" + "PPPP" * 4),
        ("affix", {"length": 2}, "NN" + "C" + "PPPP" * 4 + "NN"),
        ("ssp", {"prompts": 1}, "C" + "PPPPN" * 4),
        ("stop", {"prompts": 1}, "C" + "NPPPP" * 4),
        ("vpt", {"length": 2}, "CNN" + "PPPP" * 4),
        ("vpt", {"length": 2, "deep": False}, "COO" + "PPPP" * 4),
    ],
)
def test_the_hidden_attention_ends_at_positions_that_the_method_replaces(method, options, layout):
    """`layout`: cls C, patches P, prompts that are replaced before every block N, and those that stay O."""
    classifier = made(method, **options)
    found = mechanism(classifier, clip_of()[None])[-1].values[0].flatten()
    recorder = Recorder()
    members = [("recorder", recorder), ("method", classifier.tuner)]
    if method != "affix":  # which must be the last of a chain, and edits no argument of a scan
        members.reverse()
    with torch.no_grad():
        classifier.backbone(clip_of()[None], Chain(dict(members)))
    kept = torch.tensor([float(x != "N") for x in layout]).expand(len(recorder.scans), -1)
    start = torch.tensor([[float(x == "C") for x in layout]])
    scans = [recorder.scans[k] for k in sorted(recorder.scans)]
    expected = chained(scans, kept, start)[0, [i for i, x in enumerate(layout) if x == "P"]]
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("part", ["taps", "moments", None])
def test_gather_spread_has_the_quantities_of_its_parts(part):
    classifier = made("gather_spread", **({part: False} if part else {}))
    names = [x.name.split(" /")[0] for x in mechanism(classifier, clip_of()[None])[:-1]]
    parts = {
        None: "size of the prompt",
        "taps": "size of the message from neighbouring frames",
        "moments": "size of the part that a patch adds to cls by its moments",
    }
    assert names == [name for key, name in parts.items() if key is None or key != part]
