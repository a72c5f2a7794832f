"""A saved adapter gives the same logits after loading, or saving is an error that names the difference."""

import copy
import io
import json
import pickle
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import videossp
from conftest import SMALL, SSP_SMALL, switch_on
from videossp.classifier import Classifier
from videossp.methods import registry
from videossp.model.hooks import Tuner
from videossp.model.videomamba import VideoMamba
from videossp.training.config import TrainConfig

OPTIONS = {
    "linear": {},
    "partial": {"parts": ("norm", "dt_bias")},
    "full": {},
    "ssp": SSP_SMALL,
    "lora": {"rank": 2},
    "ssp+lora": {"ssp": SSP_SMALL, "lora": {"rank": 2}},
    "partial+vpt": {"partial": {"parts": ("A",)}, "vpt": {"length": 2}},
}


def make(backbone, method="lora", classes=("a", "b", "c"), **more):
    made = Classifier.create(backbone, classes=list(classes), method=method, **OPTIONS[method], **more)
    switch_on(made)
    return made.eval()


@pytest.fixture(params=OPTIONS)
def classifier(request, small_backbone):
    return make(small_backbone, request.param)


@pytest.fixture
def lora(small_backbone):
    return make(small_backbone)


CLIPS = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))


def logits_of(classifier):
    with torch.no_grad():
        return classifier.eval()(CLIPS)


def assert_same_after_loading(classifier, folder):
    expected = logits_of(classifier)
    classifier.save(folder)
    assert torch.equal(logits_of(videossp.load(folder)), expected)
    return set(load_file(folder / "adapter_model.safetensors"))


def refused(classifier, folder, message):
    """Check that neither saving nor training starts, with one line, and that nothing is written."""
    for refusing in (classifier.check_saving, lambda: classifier.save(folder / "adapter")):
        with pytest.raises(ValueError, match=message) as error:
            refusing()
        assert "\n" not in str(error.value)
    assert not (folder / "adapter").exists()


# States in which an adapter is whole


def test_the_flags_of_the_parameters_do_not_change_the_adapter(classifier, tmp_path):
    names = set(classifier.trainable())
    classifier.requires_grad_(False)
    assert assert_same_after_loading(classifier, tmp_path / "frozen") == names
    classifier.head.requires_grad_(True)
    assert assert_same_after_loading(classifier, tmp_path / "head") == names


@pytest.mark.parametrize("part", ["head", "head.norm", "tuner.pairs.in_proj.1"])
def test_a_part_that_was_frozen_is_saved(lora, tmp_path, part):
    names = set(lora.trainable())
    lora.get_submodule(part).requires_grad_(False)
    assert assert_same_after_loading(lora, tmp_path) == names


def test_a_loaded_classifier_can_train_on_and_is_saved_again(classifier, tmp_path):
    classifier.save(tmp_path / "first")
    loaded = videossp.load(tmp_path / "first").train()
    optimizer = torch.optim.SGD(loaded.trainable().values(), lr=0.1)
    nn.functional.cross_entropy(loaded(CLIPS), torch.tensor([0, 1])).backward()
    optimizer.step()
    before = logits_of(classifier)
    assert_same_after_loading(loaded, tmp_path / "second")
    assert not torch.equal(logits_of(videossp.load(tmp_path / "second")), before)


@pytest.mark.parametrize("copied", ["deepcopy", "pickle", "torch.save"])
def test_a_copy_is_saved_like_its_original(classifier, tmp_path, copied):
    names = set(classifier.trainable())
    if copied == "deepcopy":
        other = copy.deepcopy(classifier)
    elif copied == "pickle":
        other = pickle.loads(pickle.dumps(classifier))
    else:
        file = io.BytesIO()
        torch.save(classifier, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    assert assert_same_after_loading(other.requires_grad_(False), tmp_path / "copy") == names
    if classifier.contents.frozen:
        with torch.no_grad():
            next(x for x in other.backbone.parameters() if not_held(other, x)).add_(1)
        refused(other, tmp_path, "was changed since the classifier was made")
    classifier.check_saving()


def not_held(classifier, tensor):
    return not any(x is tensor for x in classifier.check_saving().values())


@pytest.mark.parametrize("part", ["", "backbone", "tuner", "head"])
def test_a_compiled_classifier_is_saved_under_the_plain_names(small_backbone, tmp_path, part):
    classifier = make(small_backbone, "partial+vpt")
    names = set(classifier.trainable())
    expected = logits_of(classifier)
    if part:
        setattr(classifier, part, torch.compile(getattr(classifier, part), backend="eager"))
        classifier.save(tmp_path)
    else:
        torch.compile(classifier, backend="eager").save(tmp_path)
    assert set(load_file(tmp_path / "adapter_model.safetensors")) == names
    assert torch.equal(logits_of(videossp.load(tmp_path)), expected)


def test_a_double_classifier_is_saved_after_float(lora, tmp_path):
    expected = logits_of(lora)
    refused(lora.double(), tmp_path, "torch.float64, but its adapter holds torch.float32: call float()")
    assert_same_after_loading(lora.float(), tmp_path / "again")
    assert torch.equal(logits_of(lora), expected)


def test_bf16_rounds_by_the_method_and_not_by_the_flags(small_backbone, tmp_path):
    classifier = make(small_backbone, "full").requires_grad_(False).to_precision("bf16")
    assert {x.dtype for x in classifier.parameters()} == {torch.float32}
    assert_same_after_loading(classifier, tmp_path / "full")
    classifier = make(small_backbone, "lora").to_precision("bf16")
    assert_same_after_loading(classifier, tmp_path / "lora")
    with torch.no_grad():
        classifier.backbone.layers[2].mixer.out_proj.weight.mul_(2)
    refused(classifier, tmp_path, "backbone.layers.2.mixer.out_proj.weight was changed")


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_present_precision_is_saved_not_that_of_the_training(lora, tmp_path, precision):
    trained = "bf16" if precision == "float32" else "float32"
    lora.to_precision(precision).metrics = {"precision": trained}
    assert_same_after_loading(lora, tmp_path)


def test_numbers_of_numpy_are_settings_that_can_be_saved(tmp_path):
    whole, real = np.int64, np.float32
    made = Classifier.create(
        replace(SMALL, depth=whole(2), size=(whole(32), whole(32))),
        num_classes=whole(3),
        method="ssp+lora",
        ssp={**SSP_SMALL, "gather_width": whole(6)},
        lora={"rank": whole(2), "scale": real(0.5)},
        size=whole(16),
        frames=whole(2),
        stride=whole(2),
        views=(whole(1), whole(1)),
        dropout=real(0.25),
        drop_path=real(0.25),
        seed=whole(3),
    )
    made.save(tmp_path)
    loaded = videossp.load(tmp_path)
    assert loaded.options == made.options and loaded.clip_format == made.clip_format
    assert loaded.backbone.config == made.backbone.config and loaded.head.dropout.p == 0.25
    config = TrainConfig(lr=real(0.5), seed=whole(3), crop_scale=[real(0.5), 1])
    assert json.loads(json.dumps(asdict(config))) == json.loads(
        json.dumps(asdict(TrainConfig(lr=0.5, seed=3, crop_scale=(0.5, 1))))
    )


def test_a_change_before_rounding_is_found_after_it(lora, tmp_path):
    with torch.no_grad():
        lora.backbone.layers[0].mixer.in_proj.weight.add_(0.5)
    refused(lora.to_precision("bf16"), tmp_path, "backbone.layers.0.mixer.in_proj.weight was changed")


def test_within_disable_adapter_nothing_is_saved_and_after_it_all(lora, tmp_path):
    with lora.disable_adapter():
        refused(lora, tmp_path, "within disable_adapter")
    assert_same_after_loading(lora, tmp_path)


def test_classes_may_be_renamed_and_the_head_replaced_by_a_larger_one(lora, tmp_path):
    lora.classes = ["x", "y", "z"]
    assert_same_after_loading(lora, tmp_path / "renamed")
    assert videossp.load(tmp_path / "renamed").classes == ("x", "y", "z")
    lora.head.linear = nn.Linear(SMALL.d_model, 5)
    refused(lora, tmp_path, r"head.linear.bias has shape \(5,\), but 3 classes .* need \(3,\)")
    lora.classes = tuple("vwxyz")
    assert_same_after_loading(lora, tmp_path / "more")


def test_a_whole_state_dict_of_the_same_backbone_is_loaded_and_saved(small_backbone, tmp_path):
    source, target = (
        make(small_backbone),
        Classifier.create(small_backbone, num_classes=3, method="lora", rank=2),
    )
    target.load_state_dict(source.state_dict())
    assert_same_after_loading(target, tmp_path)
    assert torch.equal(logits_of(target), logits_of(source))


def test_minus_infinity_may_switch_a_class_off(lora, tmp_path):
    with torch.no_grad():
        lora.head.linear.bias[1] = -torch.inf
    lora.save(tmp_path)
    assert (videossp.load(tmp_path).probabilities(CLIPS)[:, 1] == 0).all()


class Running(Tuner):
    """Has what no bundled method has: a buffer that training changes, and a random weight that is frozen."""

    def __init__(self, config):
        super().__init__()
        self.norm = nn.BatchNorm1d(config.d_model)
        self.mix = nn.Parameter(torch.randn(config.d_model, config.d_model), requires_grad=False)

    def edit_cls(self, tokens, y):
        return self.norm(y) @ self.mix


def test_buffers_and_frozen_weights_of_a_method_are_saved(small_backbone, tmp_path, monkeypatch):
    monkeypatch.setitem(registry.METHODS, "running", Running)
    classifier = Classifier.create(SMALL, num_classes=3, method="running", seed=5, weights="random")
    classifier.train()(CLIPS)  # updates the running mean
    saved = assert_same_after_loading(classifier, tmp_path)
    assert {"tuner.norm.running_mean", "tuner.norm.num_batches_tracked", "tuner.mix"} <= saved
    assert "tuner.mix" not in classifier.trainable()


# Differences that an adapter would not hold


def unfreeze(name):
    return lambda x: x.get_parameter(name).requires_grad_()


def in_place(name):
    def change(x):
        with torch.no_grad():
            x.get_parameter(name).view(-1)[-1:].add_(1e-3)

    return change


def through_data(x):
    x.backbone.pos_embed.data[0, 0, 0] = 5.0


def other_state(x):
    x.backbone.load_state_dict(VideoMamba(SMALL).state_dict())


def other_backbone(x):
    x.backbone = VideoMamba(SMALL).requires_grad_(False)


def buffer_in_backbone(x):
    x.backbone.layers[1].register_buffer("count", torch.zeros(1))


def buffer_in_tuner(x):
    x.tuner.register_buffer("count", torch.zeros(1))


def quantised(x):
    x.head = torch.ao.quantization.quantize_dynamic(x.head, {nn.Linear}, dtype=torch.qint8)


def weight_norm(x):
    nn.utils.parametrizations.weight_norm(x.head.linear)


def cosine(x):
    class Cosine(nn.Linear):
        def forward(self, y):
            return nn.functional.normalize(super().forward(y), dim=-1)

    x.head.linear = Cosine(SMALL.d_model, 3)


def without_bias(x):
    x.head.linear = nn.Linear(SMALL.d_model, 3, bias=False)


def nan(x):
    with torch.no_grad():
        x.tuner.pairs["out_proj"][1][0].weight[0, 0] = torch.nan


def attribute(name, value):
    return lambda x: setattr(x, name, value)


def option(x):
    x.options["scale"] = 3.0


def clip(x):
    x.clip_format = type(x.clip_format)(8, (32, 32))


CHANGES = {
    "unfrozen norm": (
        unfreeze("backbone.layers.0.norm.weight"),
        r"backbone.layers.0.norm.weight requires a grad",
    ),
    "unfrozen A": (
        unfreeze("backbone.layers.2.mixer.A_b_log"),
        r"backbone.layers.2.mixer.A_b_log requires a grad",
    ),
    "in place": (
        in_place("backbone.layers.1.mixer.x_proj_b.weight"),
        r"layers.1.mixer.x_proj_b.weight was changed",
    ),
    "in place, cls": (in_place("backbone.cls_token"), "backbone.cls_token was changed"),
    "through data": (through_data, "backbone.pos_embed was changed"),
    "other state": (other_state, "backbone.cls_token was changed"),
    "other backbone": (other_backbone, "backbone.cls_token was changed"),
    "half": (lambda x: x.half(), "head.linear.bias is torch.float16, but its adapter holds torch.float32"),
    "half backbone": (lambda x: x.backbone.half(), "backbone.cls_token was changed"),
    "bfloat16 and back": (lambda x: x.to(torch.bfloat16).float(), "backbone.cls_token was changed"),
    "half tuner": (lambda x: x.tuner.half(), "tuner.pairs.in_proj.0.0.weight is torch.float16"),
    "buffer": (buffer_in_backbone, "backbone.layers.1.count of the backbone is new"),
    "buffer in tuner": (buffer_in_tuner, "tuner.count was added to the classifier"),
    "quantised": (quantised, "head.linear.bias is gone"),
    "weight norm": (weight_norm, "head.linear.parametrizations.weight.original0 was added"),
    "cosine": (cosine, "head has other layers"),
    "no bias": (without_bias, "head.linear.bias is gone"),
    "nan": (nan, "tuner.pairs.out_proj.1.0.weight contains NaN"),
    "tensor in metrics": (
        lambda x: x.metrics.update(top1=torch.ones(1)),
        "metrics cannot be saved: .*Tensor",
    ),
    "merged": (lambda x: x.merge(), "merged"),
    "fewer classes": (attribute("classes", ("a", "b")), r"head.linear.bias has shape \(3,\), but 2 classes"),
    "class twice": (attribute("classes", ("a", "b", "a")), "'a' is given 2 times"),
    "letters": (attribute("classes", "abc"), "classes must be a list of names"),
    "method": (attribute("method", "vpt"), "method or options were edited"),
    "option": (option, "method or options were edited"),
    "clip": (clip, r"the clip format has 8 frames of \(32, 32\), but the backbone takes 4 of \(32, 32\)"),
}


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize("change", CHANGES)
def test_a_difference_is_refused_and_named(lora, tmp_path, change):
    changed, message = CHANGES[change]
    changed(lora)
    refused(lora, tmp_path, message)


@pytest.mark.parametrize("method", ["partial", "ssp+lora", "partial+vpt"])
def test_any_backbone_tensor_that_the_method_does_not_train_must_be_as_made(small_backbone, method):
    classifier = make(small_backbone, method)
    trained = set(classifier.trainable())
    for name, x in classifier.named_parameters():
        kept = x.detach().clone()
        with torch.no_grad():
            x.view(-1)[0] += 1.0
            if name in trained:
                classifier.check_saving()
            else:
                with pytest.raises(ValueError, match=f"^{re.escape(name)} was changed"):
                    classifier.check_saving()
            x.copy_(kept)
    classifier.check_saving()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_device_plays_no_part(lora, tmp_path):
    lora.cuda().save(tmp_path)
    assert torch.equal(logits_of(videossp.load(tmp_path)), logits_of(lora.cpu()))
