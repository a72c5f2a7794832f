"""Layouts of training checkpoints: each gives the classifier that the plain state dict gives."""

import argparse
import sys
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import videossp
from conftest import SMALL, published
from videossp.classifier import Classifier
from videossp.errors import WeightsError
from videossp.model.checkpoint import read_checkpoint, unwrap

CLIP = torch.randn(2, 3, SMALL.frames, *SMALL.size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "weights.safetensors"
    save_file(published(), path)
    return Classifier.create(str(path), num_classes=3, method="linear").eval()


def assert_same(classifier, plain, head=True):
    assert classifier.sha256 == plain.sha256
    with torch.no_grad():
        if head:
            assert torch.equal(classifier.eval()(CLIP), plain(CLIP))
        else:
            assert torch.equal(classifier.backbone(CLIP), plain.backbone(CLIP))


def prefixed(prefix, state=None):
    return {prefix + key: x for key, x in (published() if state is None else state).items()}


def split(head_prefix, backbone_prefix):
    """Head and final norm under one prefix, the rest under another."""
    ends = ("head.", "norm_f.")
    return {
        (head_prefix if key.startswith(ends) else backbone_prefix) + key: x for key, x in published().items()
    }


def inside_layers(part):
    """A wrapper around each block, as activation checkpointing and compiled blocks make it."""
    return {key.replace(".mixer.", f".{part}.mixer."): x for key, x in published().items()}


def other():
    return {key: x + 1 for key, x in published().items()}


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("wrap", [None, "model", "module", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "encoder.", "_orig_mod."])
def test_every_kind_of_checkpoint_file_is_read(tmp_path, suffix, wrap, prefix):
    state = published()
    path = tmp_path / f"weights.{suffix}"
    content = prefixed(prefix)
    if suffix == "safetensors":
        save_file(content, path)
    else:
        torch.save(content if wrap is None else {wrap: content, "epoch": 1}, path)
    read, notes = read_checkpoint(path)
    assert not notes
    assert read.keys() == state.keys() and all(torch.equal(read[key], state[key]) for key in state)


LAYOUTS = {
    "Lightning, model.": lambda: {"state_dict": prefixed("model."), "pytorch-lightning_version": "2.5"},
    "Lightning, net.": lambda: {"state_dict": prefixed("net.")},
    "Lightning, two levels": lambda: {"state_dict": split("model.", "model.backbone.")},
    "Lightning, head at the top": lambda: {"state_dict": split("", "model.video_encoder.")},
    "DDP of a compiled model": lambda: prefixed("module._orig_mod."),
    "compiled DDP": lambda: prefixed("_orig_mod.module."),
    "DDP of a part": lambda: {"model": split("module.", "module.backbone.module.")},
    "a prefix of another project": lambda: prefixed("student_net.trunk."),
    "checkpointed blocks": lambda: inside_layers("_checkpoint_wrapped_module"),
    "compiled blocks": lambda: prefixed("module.", inside_layers("_orig_mod")),
    "FSDP": lambda: prefixed("_fsdp_wrapped_module.", inside_layers("_fsdp_wrapped_module")),
    "accelerate": lambda: prefixed("_forward_module."),
    "SlowFast": lambda: {"epoch": 3, "model_state": published(), "optimizer_state": {}, "cfg": "TRAIN: x"},
    "only model_ema": lambda: {"model_ema": published(), "epoch": 1},
    "only state_dict_ema": lambda: {"state_dict_ema": prefixed("module.")},
    "only ema": lambda: {"ema": {"module": published(), "decay": 0.999}},
    "only a teacher": lambda: {"teacher": prefixed("backbone."), "epoch": 1},
    "an OrderedDict of parameters": lambda: OrderedDict(
        (key, nn.Parameter(x)) for key, x in published().items()
    ),
    "four dicts": lambda: {"a": {"b": {"c": {"d": published()}}}},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_gives_the_classifier_of_the_plain_state_dict(tmp_path, plain, layout):
    torch.save(LAYOUTS[layout](), tmp_path / "weights.pth")
    classifier = Classifier.create(str(tmp_path / "weights.pth"), num_classes=3, method="linear")
    assert_same(classifier, plain)
    assert not classifier.notes


@pytest.mark.parametrize(
    ("content", "taken", "also"),
    [
        (lambda: {"model": published(), "model_ema": other()}, "model", "model_ema"),
        (lambda: {"model_ema": other(), "model": published()}, "model", "model_ema"),
        (
            lambda: {"state_dict": prefixed("module."), "state_dict_ema": other()},
            "state_dict",
            "state_dict_ema",
        ),
        (lambda: {"network": published(), "ema": {"module": other()}}, "network", "ema.module"),
        (lambda: {"module": published(), "copy": other()}, "module", "copy"),
        (
            lambda: {"state_dict": prefixed("net.") | prefixed("ema_net.", other())},
            "state_dict.net",
            "state_dict.ema_net",
        ),
        (lambda: published() | prefixed("averaged.module.", other()), "the top level", "averaged"),
        (
            lambda: prefixed("vision_encoder.") | prefixed("vision_encoder_m.", other()),
            "vision_encoder",
            "vision_encoder_m",
        ),
    ],
)
def test_weights_are_taken_before_their_moving_average_and_a_note_names_both(
    tmp_path, plain, content, taken, also
):
    torch.save(content(), tmp_path / "weights.pth")
    classifier = Classifier.create(str(tmp_path / "weights.pth"), num_classes=3, method="linear")
    assert_same(classifier, plain)
    assert classifier.notes[0] == f"taken: the weights of {taken}; the checkpoint also has {also}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: {"student": published(), "teacher": other()}, "student, teacher"),
        (lambda: prefixed("rgb.") | prefixed("flow.", other()), "rgb, flow"),
        (lambda: {"model_ema": published(), "ema": other()}, "model_ema, ema"),
    ],
)
def test_several_backbones_of_equal_rank_are_an_error_that_names_them(content, words):
    with pytest.raises(WeightsError, match=rf"file.pth: it holds several backbones \({words}\): save"):
        unwrap(content(), "file.pth")


def test_one_backbone_under_two_names_is_taken(tmp_path, plain):
    torch.save({"state_dict": prefixed("model.") | prefixed("compiled._orig_mod.")}, tmp_path / "weights.pth")
    classifier = Classifier.create(str(tmp_path / "weights.pth"), num_classes=3, method="linear")
    assert_same(classifier, plain)


def test_two_different_tensors_of_one_name_are_an_error(tmp_path, plain):
    path = tmp_path / "weights.pth"
    torch.save(published() | {"module.cls_token": torch.ones(1, 1, SMALL.d_model)}, path)
    with pytest.raises(WeightsError, match=r"unknown: module.cls_token"):
        Classifier.create(str(path), num_classes=3)
    torch.save(published() | {"module.cls_token": published()["cls_token"].clone()}, path)
    assert_same(Classifier.create(str(path), num_classes=3, method="linear"), plain)
    text = {"text.weight": torch.ones(1), "text.module.weight": torch.zeros(1)}
    torch.save(prefixed("video.") | text, path)
    classifier = Classifier.create(str(path), num_classes=3, method="linear")
    assert_same(classifier, plain)
    assert classifier.notes == ("left out: text (2 tensors), not part of the backbone",)


ZEROS = torch.zeros(4)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["clip_decoder.0.head.weight", "clip_decoder.0.norm.bias"], "clip_decoder (2 tensors)"),
        (["clip_pos_embed", "mask_token"], "clip_pos_embed (1 tensor), mask_token (1 tensor)"),
        (["distill_head.0.weight", "distill_head.1.bias"], "distill_head (2 tensors)"),
        (["decoder.blocks.0.attn.qkv.weight", "encoder_to_decoder.weight"], "decoder (1 tensor)"),
        (["decoder_embed.weight", "decoder_pos_embed"], "decoder_pos_embed"),
        (["cls_head.fc_cls.weight"], "cls_head (1 tensor)"),
        (["pool_norm.weight"], "pool_norm"),
        (["n_averaged"], "n_averaged"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "vision_encoder.", "module.encoder."])
def test_tensors_of_the_pretraining_are_left_out_with_a_note(tmp_path, plain, extra, words, prefix):
    content = prefixed(prefix) | {prefix + key: ZEROS for key in extra}
    torch.save({"model": content}, tmp_path / "weights.pth")
    classifier = Classifier.create(str(tmp_path / "weights.pth"), num_classes=3, method="linear")
    assert_same(classifier, plain)
    (note,) = classifier.notes
    assert note.startswith("left out: ") and words in note


def test_tensors_outside_the_prefix_of_the_backbone_are_left_out_with_a_note(tmp_path, plain):
    """As in recognisers, models of video and text, and masked autoencoders with a Mamba as decoder."""
    state = {key: x for key, x in published().items() if not key.startswith("head.")}
    content = prefixed("backbone.", state) | {
        "cls_head.fc_cls.weight": torch.zeros(3, SMALL.d_model),
        "data_preprocessor.mean": ZEROS,
        "text_encoder.embeddings.weight": ZEROS,
        "decoder.layers.0.mixer.A_log": ZEROS,
        "temp": torch.zeros(()),
    }
    torch.save({"state_dict": content, "meta": {"epoch": 3}}, tmp_path / "weights.pth")
    classifier = Classifier.create(str(tmp_path / "weights.pth"), num_classes=3, method="linear")
    assert_same(classifier, plain, head=False)
    assert torch.equal(classifier.head.norm.weight, plain.head.norm.weight)
    note = classifier.notes[0]
    for name in ("cls_head", "data_preprocessor", "text_encoder", "decoder", "temp"):
        assert f"{name} (1 tensor)" in note
    assert "head: none in the checkpoint; it starts at random" in classifier.notes


def test_the_final_norm_may_be_called_norm(tmp_path, plain):
    state = published()
    state["norm.weight"] = state.pop("norm_f.weight")
    torch.save(state, tmp_path / "weights.pth")
    classifier = Classifier.create(str(tmp_path / "weights.pth"), num_classes=3, method="linear")
    assert_same(classifier, plain)
    assert classifier.notes == ("norm.weight: taken as norm_f.weight, the name of the final norm",)
    torch.save(published() | {"norm.weight": ZEROS}, tmp_path / "both.pth")
    with pytest.raises(WeightsError, match="unknown: norm.weight"):
        Classifier.create(str(tmp_path / "both.pth"), num_classes=3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_become_float32(tmp_path, dtype):
    state = {key: x.to(dtype) for key, x in published().items()}
    save_file(state, tmp_path / "weights.safetensors")
    classifier = Classifier.create(str(tmp_path / "weights.safetensors"), num_classes=3, method="linear")
    for name, x in classifier.backbone.state_dict().items():
        assert x.dtype == torch.float32 and torch.equal(x, state[name].float())
    assert torch.equal(classifier.head.linear.weight, state["head.weight"].float())


def test_integer_tensors_are_an_error_that_names_them(tmp_path):
    state = published()
    state["layers.1.mixer.in_proj.weight"] = state["layers.1.mixer.in_proj.weight"].to(torch.int8)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"type: layers.1.mixer.in_proj.weight is int8"):
        Classifier.create(str(tmp_path / "weights.pth"), num_classes=3)


@pytest.mark.parametrize("change", [torch.Tensor.to_sparse, lambda x: x.to("meta")])
def test_tensors_without_dense_values_are_an_error_that_names_them(tmp_path, change):
    state = published()
    state["pos_embed"] = change(state["pos_embed"])
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"type: pos_embed is sparse or has no values"):
        Classifier.create(str(tmp_path / "weights.pth"), num_classes=3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model": {"encoder.blocks.0.attn.qkv.weight": ZEROS}}, "it has encoder.blocks.0.attn.qkv.weight$"),
        ({"encoder.patch_embed.proj.weight": ZEROS, "a": ZEROS}, "layers.0.mixer.A_log missing; it has"),
        ({"backbone.layers.0.mixer.A_log": ZEROS}, "patch_embed.proj.weight missing"),
        ({f"blocks.{i}.weight": ZEROS for i in range(9)}, r"blocks.3.weight, ... \(9 tensors\)$"),
        (
            {"a.layers.0.mixer.A_log": ZEROS, "b.patch_embed.proj.weight": ZEROS},
            "one prefix for all tensors",
        ),
    ],
)
def test_another_model_is_an_error_that_names_its_tensors(content, words):
    with pytest.raises(WeightsError, match=f"^file.pth: not a VideoMamba checkpoint: .*{words}"):
        unwrap(content, "file.pth")


@pytest.mark.parametrize("content", [{"model": {"a": 1}}, {}, [1], None, {"optimizer": {0: ZEROS}}])
def test_a_state_without_tensors_is_refused(content):
    with pytest.raises(WeightsError, match="no tensors by name in it, only "):
        unwrap(content)


def test_an_error_of_a_checkpoint_names_the_file(tmp_path):
    state = published() | {"classifier.weight": ZEROS}
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"weights.pth: 1 tensors .*\n.*classifier.weight .*\n.*left out"):
        Classifier.create(str(tmp_path / "weights.pth"), num_classes=3)


def test_a_dict_that_holds_itself_is_searched_once():
    content = {"model": published()}
    content["self"] = content
    assert unwrap(content)[0].keys() == published().keys()


def test_from_official_reads_the_same_layouts(plain):
    classifier = videossp.from_official(
        {"model_ema": prefixed("module._orig_mod.") | {"module.mask_token": ZEROS}}
    )
    assert_same(classifier, plain)
    assert classifier.notes == ("left out: mask_token (1 tensor), not part of the backbone",)


def trained():
    """What a fine-tuning saves: numbers of NumPy in the optimiser's state, flags, random states."""
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    for group, lr in zip(optimizer.param_groups, np.linspace(0, 1e-3, 5)[3:], strict=False):
        group["lr"] = lr
    return {
        "model": published(),
        "optimizer": optimizer.state_dict(),
        "epoch": np.int64(9),
        "args": argparse.Namespace(lr=np.float32(1e-3), data=Path("data"), name=np.str_("run")),
        "scores": np.arange(6.0).reshape(2, 3),
        "best": np.bool_(True),
        "empty": np.zeros((0, 3)),
        "rng": np.random.RandomState(0).get_state(),
    }


@pytest.mark.parametrize("module", ["numpy._core", "numpy.core"])
def test_numbers_of_numpy_1_and_2_are_read(tmp_path, plain, module):
    path = tmp_path / "weights.pth"
    torch.save(trained(), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert b"cnumpy._core.multiarray\nscalar\n" in content
    path.write_bytes(content.replace(b"numpy._core", module.encode()))
    assert_same(Classifier.create(str(path), num_classes=3, method="linear"), plain)


def test_a_zip_with_numbers_of_numpy_is_read(tmp_path, plain):
    torch.save(trained(), tmp_path / "weights.pth")
    assert_same(Classifier.create(str(tmp_path / "weights.pth"), num_classes=3, method="linear"), plain)


def class_of(monkeypatch, module, name, base=object):
    """A class of another program, importable while the file is written and gone when it is read."""
    made = type(name, (base,), {"__module__": module})
    for count in range(1, module.count(".") + 2):
        parent = ".".join(module.split(".")[:count])
        monkeypatch.setitem(sys.modules, parent, types.SimpleNamespace(**{name: made}))
    return made


@pytest.mark.parametrize(
    ("module", "name", "base"),
    [
        ("deepspeed.runtime.fp16.loss_scaler", "LossScaler", object),
        ("deepspeed.runtime.fp16.loss_scaler", "DynamicLossScaler", object),
        ("mmengine.logging.history_buffer", "HistoryBuffer", object),
        ("lightning.fabric.utilities.data", "AttributeDict", dict),
        ("yacs.config", "CfgNode", dict),
    ],
)
def test_objects_of_training_programs_are_not_needed(tmp_path, plain, monkeypatch, module, name, base):
    with monkeypatch.context() as patch:
        value = class_of(patch, module, name, base)()
        value.__dict__["scale"] = 2.0**16
        if base is dict:
            value["lr"] = 1e-3
        content = {"module": published(), "optimizer": {"loss_scaler": value}}
        torch.save(content, tmp_path / "mp_rank_00_model_states.pt")
    path = tmp_path / "mp_rank_00_model_states.pt"
    assert_same(Classifier.create(str(path), num_classes=3, method="linear"), plain)
    assert module not in sys.modules
