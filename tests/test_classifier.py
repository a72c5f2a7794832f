"""Making, training, saving and loading a classifier, and its disabled, merged and rounded states."""

import copy
import dataclasses
import itertools
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import videossp
from conftest import GOLDEN, SMALL, SSP_SMALL, golden, published, switch_on
from videossp.adapter_folder import digest, read_adapter
from videossp.classifier import Classifier
from videossp.errors import VideoSSPWarning, WeightsError
from videossp.methods import METHODS, register_method
from videossp.model.backbones import fingerprint
from videossp.model.config import BACKBONES, VideoMambaConfig
from videossp.model.hooks import Tuner
from videossp.model.published import sort_published
from videossp.model.videomamba import VideoMamba


@pytest.fixture(params=["linear", "ssp"])
def classifier(request, small_backbone):
    options = SSP_SMALL if request.param == "ssp" else {}
    made = Classifier.create(small_backbone, classes=["a", "b", "c"], method=request.param, **options)
    switch_on(made)
    return made


@pytest.fixture
def clips():
    return torch.randn(3, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))


def train_steps(classifier, clips, steps):
    labels = torch.arange(len(clips)) % len(classifier.classes)
    optimizer = torch.optim.AdamW(classifier.trainable().values(), lr=1e-2, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(classifier(clips), labels)
        loss.backward()
        optimizer.step()
    return loss.item()


def test_saved_and_loaded_gives_the_same_logits(classifier, clips, tmp_path):
    classifier.metrics = {"note": "ünïcode"}
    classifier.save(tmp_path / "adapter")
    loaded = videossp.load(tmp_path / "adapter")
    with torch.no_grad():
        assert torch.equal(loaded(clips), classifier(clips))
    assert loaded.classes == classifier.classes and loaded.clip_format == classifier.clip_format
    assert loaded.metrics == classifier.metrics and loaded.options == classifier.options
    loaded.save(tmp_path / "again")
    first, second = ((tmp_path / x / "adapter_config.json").read_text() for x in ("adapter", "again"))
    assert first == second
    assert sorted(x.name for x in (tmp_path / "adapter").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_thawed_backbone_parameters_train_and_are_saved(small_backbone, clips, tmp_path, monkeypatch):
    class Norms(Tuner):
        thaw = ("layers.*.norm.weight",)

        def __init__(self, config):
            super().__init__()

    monkeypatch.setitem(METHODS, "norms", Norms)
    classifier = Classifier.create(small_backbone, num_classes=3, method="norms")
    train_steps(classifier, clips, 2)
    classifier.save(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    thawed = [name for name in saved if name.startswith("backbone.")]
    assert thawed == [f"backbone.layers.{i}.norm.weight" for i in range(SMALL.depth)]
    with torch.no_grad():
        assert torch.equal(videossp.load(tmp_path)(clips), classifier(clips))


def test_a_thaw_pattern_that_matches_nothing_is_an_error(small_backbone, monkeypatch):
    class Nothing(Tuner):
        thaw = ("layers.*.bias_of_nothing",)

        def __init__(self, config):
            super().__init__()

    monkeypatch.setitem(METHODS, "nothing", Nothing)
    with pytest.raises(ValueError, match=r"matches no backbone parameter; there are cls_token"):
        Classifier.create(small_backbone, num_classes=3, method="nothing")


def test_the_same_seed_gives_the_same_weights(small_backbone):
    state = torch.random.get_rng_state()
    make = [Classifier.create(small_backbone, num_classes=3, seed=s, **SSP_SMALL) for s in (1, 1, 2)]
    first, second, third = (x.state_dict() for x in make)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert make[0].sha256 == make[1].sha256 != make[2].sha256
    assert torch.equal(state, torch.random.get_rng_state())  # the caller's generator is left alone
    assert not torch.equal(first["tuner.gather.down.weight"], third["tuner.gather.down.weight"])


def test_another_backbone_is_refused_with_both_hashes(small_classifier, tmp_path):
    small_classifier.save(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    right = config["base_model_sha256"]
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"base_model_seed": 7}))
    with pytest.raises(WeightsError, match=right) as error:
        videossp.load(tmp_path)
    assert len(set(re.findall(r"[0-9a-f]{64}", str(error.value)))) == 2


def test_a_backbone_file_may_have_moved(tmp_path):
    save_file(published(), tmp_path / "weights.safetensors")
    classifier = Classifier.create(str(tmp_path / "weights.safetensors"), classes=["a", "b"], **SSP_SMALL)
    classifier.save(tmp_path / "adapter")
    (tmp_path / "weights.safetensors").rename(tmp_path / "moved.safetensors")
    with pytest.raises(WeightsError, match=r"weights.safetensors: no such file") as error:
        videossp.load(tmp_path / "adapter")
    assert "backbone=..., --backbone" in str(error.value) and classifier.sha256 in str(error.value)
    with pytest.raises(WeightsError, match=r"^.*lost.safetensors: no such file") as error:
        videossp.load(tmp_path / "adapter", backbone=str(tmp_path / "lost.safetensors"))
    assert "backbone=..." not in str(error.value)  # the caller knows this flag
    loaded = videossp.load(tmp_path / "adapter", backbone=str(tmp_path / "moved.safetensors"))
    assert loaded.sha256 == classifier.sha256


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("adapter_config.json", b"{"),
        ("adapter_config.json", {"spec": {}}),
        ("adapter_config.json", {"metrics": None}),
        ("adapter_config.json", {"precision": "fp8"}),
        ("adapter_config.json", {"dropout": "x"}),
        ("adapter_config.json", b"[]"),
        ("adapter_config.json", {"options": None}),
        ("adapter_config.json", {"classes": None}),
        ("adapter_config.json", {"classes": "abc"}),
        ("adapter_config.json", {"classes": ["a", "b", "a"]}),
        ("adapter_config.json", {"classes": ["a", "", "b"]}),
        ("adapter_config.json", {"classes": [0, 1, 2]}),
        ("adapter_config.json", {"clip": {"frames": 8, "size": [32, 32]}}),
        ("adapter_config.json", {"clip": {"frames": 4, "size": [32, 48]}}),
        ("adapter_config.json", {"method": "sps"}),
        ("adapter_config.json", {"base_model_seed": "x"}),
        ("adapter_model.safetensors", b""),
        ("adapter_model.safetensors", b"garbage"),
    ],
)
def test_a_damaged_adapter_is_one_line(small_classifier, tmp_path, file, content):
    small_classifier.save(tmp_path)
    if isinstance(content, dict):
        content = json.dumps(json.loads((tmp_path / file).read_text()) | content).encode()
    (tmp_path / file).write_bytes(content)
    with pytest.raises(WeightsError, match="adapter_|config is damaged") as error:
        videossp.load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "a Git LFS pointer.*git lfs pull",
        ),
        (b"<!DOCTYPE html><html><title>Sign in</title></html>", r"a web page \(HTML\)"),
        (b"", "an empty file"),
    ],
)
def test_an_adapter_whose_weights_were_not_downloaded_names_the_cure(
    small_classifier, tmp_path, content, words
):
    small_classifier.save(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=f"adapter_model.safetensors: {words}"):
        videossp.load(tmp_path)


def test_an_adapter_is_not_written_through_a_link(small_classifier, tmp_path):
    """A temporary file with the name that this process uses may be a link that another user has made."""
    folder, target = tmp_path / "adapter", tmp_path / "target"
    folder.mkdir()
    target.write_text("precious")
    writer = f"{os.getpid()}.{threading.get_ident()}"
    (folder / f".README.md.{writer}").symlink_to(target)
    small_classifier.save(folder)
    assert target.read_text() == "precious" and not (folder / "README.md").is_symlink()


@pytest.mark.parametrize(
    "wrong",
    [
        {"dropout": float("nan")},
        {"dropout": -0.1},
        {"dropout": 1.5},
        {"drop_path": float("nan")},
        {"drop_path": -1},
    ],
)
def test_rates_that_are_no_probability_are_refused_by_name(small_backbone, wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must be at least 0"):
        Classifier.create(small_backbone, num_classes=2, method="linear", **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": "64"},
        {"size": 64.0},
        {"size": (32, "32")},
        {"frames": True},
        {"seed": 1.5},
        {"seed": float("nan")},
    ],
)
def test_sizes_and_seeds_of_another_type_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must be "):
        Classifier.create(num_classes=2, method="linear", **wrong)


@pytest.mark.parametrize("arguments", [{"backbone": ""}, {"backbone": "videomamba_nano", "weights": ""}])
def test_an_empty_path_is_not_the_default(arguments):
    with pytest.raises(ValueError, match="must not be empty"):
        Classifier.create(**arguments, num_classes=2)


def test_an_adapter_that_lacks_a_tensor_is_refused(small_classifier, tmp_path):
    small_classifier.save(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = {name: x.clone() for name, x in load_file(path).items()}  # not views of the file
    del tensors["tuner.gain"]
    save_file(tensors, path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"tensors_sha256": digest(tensors)}))
    with pytest.raises(WeightsError, match="tuner.gain"):
        videossp.load(tmp_path)


def test_tensors_that_were_changed_after_saving_are_refused(small_classifier, tmp_path):
    small_classifier.save(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # one bit of the last weight
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"adapter_model.safetensors: damaged"):
        videossp.load(tmp_path)


def test_an_adapter_of_a_newer_version_is_refused(small_classifier, tmp_path):
    small_classifier.save(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["format"] == 2 and not {"peft_type", "task_type"} & set(config)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"format": 3}))
    with pytest.raises(WeightsError, match="format 3; this version of videossp reads up to 2"):
        videossp.load(tmp_path)


@pytest.mark.parametrize("file", [0, 1, 2])
def test_a_full_disk_leaves_the_old_adapter(small_classifier, tmp_path, monkeypatch, file):
    small_classifier.save(tmp_path)
    before = {x.name: x.read_bytes() for x in tmp_path.iterdir()}
    switch_on(small_classifier, seed=5)
    synced = []

    def fsync(number):
        if len(synced) == file:
            raise OSError(28, "No space left on device")
        synced.append(number)

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(OSError, match="No space"):
        small_classifier.save(tmp_path)
    assert {x.name: x.read_bytes() for x in tmp_path.iterdir()} == before


@pytest.mark.parametrize("replaced", [0, 1, 2, 3])
@pytest.mark.parametrize("first_format", [False, True])
def test_kill_between_file_replacements_leaves_a_complete_adapter(
    small_classifier, small_backbone, clips, tmp_path, replaced, first_format
):
    other = Classifier.create(small_backbone, classes=["c", "b", "a"], method="linear")
    switch_on(other, seed=5)
    small_classifier.save(tmp_path)
    if first_format:  # as versions wrote it that recorded no hash
        path = tmp_path / "adapter_model.safetensors"
        save_file(load_file(path), path)
        config = json.loads((tmp_path / "adapter_config.json").read_text())
        config = {key: x for key, x in config.items() if key not in ("format", "tensors_sha256")}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    real, done = Path.replace, []

    def replace(self, target):
        if len(done) == replaced:
            raise KeyboardInterrupt
        done.append(target)
        return real(self, target)

    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Path, "replace", replace)
        other.save(tmp_path)
    expected = other if replaced else small_classifier
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", VideoSSPWarning)
        loaded = videossp.load(tmp_path)
    assert any("a write was interrupted" in str(x.message) for x in caught) == (replaced == 1)
    assert loaded.method == expected.method and loaded.classes == expected.classes
    with torch.no_grad():
        assert torch.equal(loaded(clips), expected(clips))


@pytest.mark.parametrize("replaced", [0, 1, 2])
def test_files_of_a_killed_writer_are_removed_by_a_later_save(small_classifier, tmp_path, replaced):
    killed = """
import os, sys
from pathlib import Path
from videossp.adapter_folder import write_adapter
import torch
real, done = Path.replace, []
def replace(self, target):
    if len(done) == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    done.append(target)
    return real(self, target)
Path.replace = replace
config = {"method": "linear", "clip": {"frames": 2, "size": [8, 8], "sampling": "uniform"}, "metrics": {}}
config |= {f"base_model_{x}": "" for x in ("weights", "name_or_path", "sha256")}
write_adapter(Path(sys.argv[1]), {**config, "base_model_seed": 0, "classes": []}, {"x": torch.ones(3)})
"""
    folder = tmp_path / "adapter"
    small_classifier.save(folder)
    process = subprocess.run([sys.executable, "-c", killed, str(folder), str(replaced)])
    assert process.returncode == -signal.SIGKILL
    left = [x for x in folder.iterdir() if x.name.startswith(".")]
    assert len(left) == 3 - replaced
    (folder / ".gitattributes").write_text("")
    os.utime(folder / ".gitattributes", (0, 0))
    small_classifier.save(folder)
    assert all(x.exists() for x in left)  # it may be alive on another machine
    for path in left:
        hour_ago = path.stat().st_mtime - 3600
        os.utime(path, (hour_ago, hour_ago))
    live = folder / ".adapter_model.safetensors.1.1"
    live.write_bytes(b"half")
    small_classifier.save(folder)
    hidden = [x for x in folder.iterdir() if x.name.startswith(".")]
    assert sorted(hidden) == [live, folder / ".gitattributes"]


def test_a_reader_beside_a_writer_gets_one_whole_adapter(small_backbone, tmp_path):
    pair = [Classifier.create(small_backbone, classes=x, method="linear") for x in (["a", "b"], ["c", "d"])]
    expected = {}
    for i, classifier in enumerate(pair):
        switch_on(classifier, seed=i)
        expected[classifier.classes] = classifier.head.linear.weight
    pair[0].save(tmp_path)
    read_enough = threading.Event()

    def write():
        for classifier in itertools.cycle(reversed(pair)):
            classifier.save(tmp_path)
            if read_enough.is_set():
                break

    reads = []
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        try:
            while not writer.done() and (len(reads) < 50 or len(set(reads)) < 2):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", VideoSSPWarning)
                    config, tensors = read_adapter(tmp_path)
                reads.append(tuple(config["classes"]))
                assert torch.equal(tensors["head.linear.weight"], expected[reads[-1]])
        finally:
            read_enough.set()
        writer.result()


def test_saved_files_honour_the_umask(small_classifier, tmp_path):
    before = os.umask(0o077)
    try:
        small_classifier.save(tmp_path / "private")
        os.umask(0o002)
        small_classifier.save(tmp_path / "shared")
    finally:
        os.umask(before)
    for folder, mode in (("private", 0o600), ("shared", 0o664)):
        assert {stat.S_IMODE(x.stat().st_mode) for x in (tmp_path / folder).iterdir()} == {mode}


def test_dropout_drop_path_and_precision_are_restored(small_backbone, tmp_path):
    classifier = Classifier.create(small_backbone, num_classes=3, dropout=0.3, drop_path=0.2, **SSP_SMALL)
    classifier.to_precision("bf16").save(tmp_path)
    loaded = videossp.load(tmp_path)
    assert loaded.head.dropout.p == 0.3 and loaded.backbone.drop_path == 0.2
    rates = [[block.drop_path for block in x.backbone.layers] for x in (classifier, loaded)]
    assert rates[0] == rates[1] and any(rates[0])
    assert loaded.precision == "bf16"
    # An adapter of the first format: neither was recorded, the precision among the metrics only.
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    for name in ("dropout", "drop_path", "precision", "format"):
        del config[name]
    config["metrics"] = {"precision": "bf16"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    old = videossp.load(tmp_path)
    assert (old.head.dropout.p, old.backbone.drop_path, old.precision) == (0.0, 0.0, "bf16")


def test_a_loaded_adapter_computes_in_the_precision_of_its_training(classifier, clips, tmp_path):
    exact = logits_of(classifier, clips)
    copy.deepcopy(classifier).to_precision("bf16").save(tmp_path)  # as `train` does
    loaded = videossp.load(tmp_path)
    assert torch.equal(logits_of(loaded, clips), logits_of(classifier.to_precision("bf16"), clips))
    assert loaded.backbone.layers[0].mixer.in_proj.weight.dtype == torch.float32  # nothing is rounded yet
    assert torch.equal(logits_of(loaded.to_precision("float32"), clips), exact)


def logits_of(classifier, clips):
    with torch.no_grad():
        return classifier.eval()(clips)


def test_a_relative_path_of_the_backbone_is_recorded_as_absolute(tmp_path, monkeypatch):
    save_file(published(), tmp_path / "weights.safetensors")
    classifier = Classifier.create(str(tmp_path / "weights.safetensors"), classes=["a", "b"], method="linear")
    classifier.save(tmp_path / "first")
    (tmp_path / "weights.safetensors").rename(tmp_path / "moved.safetensors")
    monkeypatch.chdir(tmp_path)
    videossp.load("first", backbone="moved.safetensors").save("second")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert videossp.load(tmp_path / "second").sha256 == classifier.sha256


def test_unknown_names_list_the_known_ones(small_backbone):
    with pytest.raises(ValueError, match="no method 'sps'; there are linear, mean, moments, attentive"):
        Classifier.create(small_backbone, num_classes=2, method="sps")
    with pytest.raises(ValueError, match="ssp has no option rank; it has prompts, gathering"):
        Classifier.create(small_backbone, num_classes=2, rank=4)
    with pytest.raises(ValueError, match="no backbone 'videomamba_huge': name one of videomamba_nano"):
        Classifier.create("videomamba_huge", num_classes=2)
    with pytest.raises(ValueError, match="give num_classes or classes"):
        Classifier.create(small_backbone)
    with pytest.raises(ValueError, match="different class names"):
        Classifier.create(small_backbone, classes=["a", "a"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": "ab"}, "classes must be a list of names in the order of the labels, got str 'ab'"),
        ({"classes": b"ab"}, "classes must be a list .* got bytes"),
        ({"classes": {"a", "b"}}, "classes must be a list .* got set"),
        ({"classes": {"a": 0, "b": 1}}, "classes must be a list .* got dict"),
        ({"classes": 5}, "classes must be a list .* got int 5"),
        ({"classes": []}, "classes is empty"),
        ({"classes": ["a", ""]}, "must be non-empty strings, but that of label 1 is ''"),
        ({"classes": [" \n", "b"]}, r"that of label 0 is ' \\n'"),
        ({"classes": ["a", 1]}, "that of label 1 is 1"),
        ({"classes": ["x", "y", "x", "y"]}, "different class names are needed, but 'x' is given 2 times"),
        ({"classes": ["a", "b"], "num_classes": 3}, "num_classes is 3, but classes has 2 names"),
        ({"num_classes": 0}, "num_classes must be a whole number of at least 1, got 0"),
        ({"num_classes": -2}, "num_classes must be a whole number of at least 1, got -2"),
        ({"num_classes": 2.0}, "num_classes must be a whole number of at least 1, got 2.0"),
    ],
)
def test_classes_that_cannot_be_are_refused(small_backbone, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        Classifier.create(small_backbone, method="linear", **arguments)
    assert "\n" not in str(error.value)


def test_a_classifier_of_one_class_is_made_with_a_warning(small_backbone):
    with pytest.warns(VideoSSPWarning, match=r"one class: every prediction is only\\x07 with probability 1"):
        Classifier.create(small_backbone, classes=["only\x07"], weights="random", method="linear")


def test_any_sequence_of_names_and_any_integer_is_taken(small_backbone):
    names = {"a": 3, "b": 4}
    for classes in (("a", "b"), names.keys(), np.array(["a", "b"]), (name for name in names)):
        made = Classifier.create(small_backbone, classes=classes, method="linear")
        assert made.classes == ("a", "b")
    assert len(Classifier.create(small_backbone, num_classes=np.int64(3), method="linear").classes) == 3


def test_control_characters_in_class_names_are_kept_and_escaped_in_the_card(small_backbone, tmp_path):
    names = ("two\nlines", "esc\x1b[31m", os.fsdecode(b"not utf-8 \xff"), "turned \u202e", "日本", "a, b")
    Classifier.create(small_backbone, classes=names, method="linear").save(tmp_path)
    assert videossp.load(tmp_path).classes == names
    (line,) = [x for x in (tmp_path / "README.md").read_text().split("\n") if x.startswith("Classes:")]
    shown = r"two\nlines, esc\x1b[31m, not utf-8 \udcff, turned \u202e, 日本, a, b"
    assert line == f"Classes: {shown}"


@pytest.mark.parametrize("cast", ["half", "double", "bfloat16"])
def test_a_classifier_that_was_cast_says_so_instead_of_predicting(small_classifier, clips, cast):
    cast = getattr(small_classifier, cast)()
    for clip in (clips, clips.to(cast.backbone.cls_token.dtype)):
        for computing in (cast, cast.features, cast.frozen_features, cast.probabilities):
            with pytest.raises(
                ValueError, match=r"^the weights are torch.\w+, but a classifier computes with"
            ) as error:
                computing(clip)
            assert "\n" not in str(error.value)


def test_prompts_start_at_zero_and_slots_move_the_logits_a_little(small_backbone, clips):
    """SSP is not the backbone at the start: even zero slots pass through the convolution and the state."""
    plain = Classifier.create(small_backbone, num_classes=3, method="linear")
    ssp = Classifier.create(small_backbone, num_classes=3, **SSP_SMALL)
    without = Classifier.create(small_backbone, num_classes=3, prompts=0, **SSP_SMALL)
    for other in (ssp, without):
        other.head.load_state_dict(plain.head.state_dict())
    with torch.no_grad():
        expected = plain(clips)
        torch.testing.assert_close(without(clips), expected, rtol=1e-5, atol=1e-6)
        assert 0 < (ssp(clips) - expected).abs().max() < 0.5 * expected.abs().max()


def test_no_warning_is_given(small_classifier, clips):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small_classifier(clips).sum().backward()


def test_gather_kernels_of_any_size_keep_the_grid(small_backbone, clips):
    for kernel in ((1, 3, 3), (3, 1, 1), (3, 3, 3)):
        classifier = Classifier.create(small_backbone, num_classes=2, gather_kernel=kernel, **SSP_SMALL)
        assert classifier(clips).shape == (3, 2)


def test_a_classifier_of_a_published_checkpoint_is_saved_and_loaded(tmp_path):
    numbers, _ = golden("ssp_b1")
    save_file(numbers["param"], tmp_path / "ssp.safetensors")
    classifier = videossp.from_official(numbers["param"])
    classifier.save(tmp_path / "adapter")
    loaded = videossp.load(tmp_path / "adapter", backbone=str(tmp_path / "ssp.safetensors"))
    with torch.no_grad():
        assert torch.equal(loaded(numbers[""]["input"]), classifier(numbers[""]["input"]))


def test_weights_are_found_from_another_folder(tmp_path, monkeypatch):
    save_file(published(), tmp_path / "weights.safetensors")
    monkeypatch.chdir(tmp_path)
    Classifier.create("weights.safetensors", num_classes=2, method="linear").save("adapter")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert videossp.load("../adapter").method == "linear"


def test_bf16_products_stay_close_and_leave_trained_weights_alone(classifier, clips):
    classifier.eval()
    before = {name: x.clone() for name, x in classifier.trainable().items()}
    with torch.no_grad():
        exact = classifier(clips)
        rounded = classifier.to_precision("bf16")(clips)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    assert (rounded - exact).norm() <= 2e-2 * exact.norm()
    assert all(torch.equal(x, before[name]) for name, x in classifier.trainable().items())
    mixer = classifier.backbone.layers[0].mixer
    assert mixer.in_proj.weight.dtype == torch.bfloat16 and mixer.A_log.dtype == torch.float32
    with pytest.raises(ValueError, match="rounded to bf16 already"):
        classifier.to_precision("float32")
    with pytest.raises(ValueError, match="float32 or bf16"):
        classifier.to_precision("fp8")


def test_bf16_gradients_are_near_those_of_float32(classifier, clips):
    grads = []
    for precision in ("float32", "bf16"):
        classifier.to_precision(precision).zero_grad()
        classifier(clips).square().sum().backward()
        grads.append(torch.cat([x.grad.flatten() for x in classifier.trainable().values()]))
    assert (grads[1] - grads[0]).norm() <= 5e-2 * grads[0].norm()


OLD = VideoMambaConfig(depth=6, d_model=16, frames=2, size=(32, 32), d_state=2)
OLD_ADAPTERS = GOLDEN / "old_adapters.zip"
OLD_BACKBONE = str(GOLDEN / "old_adapters_backbone.safetensors")


def ramp(shape, offset=0):
    """The numbers -1 to 1 in 61 steps, again and again: the clip that the old adapters were tried on."""
    count = torch.Size(shape).numel()
    return (((torch.arange(count) + offset) % 61 - 30) / 30).reshape(shape)


@pytest.fixture(scope="module")
def old_adapters(tmp_path_factory):
    """Adapters as version 0.1.0 wrote them at commit 08e6bf9, and the logits that it gave.

    Every method with default options, a chain, and one with options of its own. All trained tensors are
    ramps, so that the archive is small. The backbone is `OLD_BACKBONE`: the random weights of the sizes
    `OLD` and seed 3 there. Another processor or version of torch may draw others.
    """
    folder = tmp_path_factory.mktemp("old")
    with zipfile.ZipFile(OLD_ADAPTERS) as archive:
        archive.extractall(folder)
    return folder


NEWER = ("full", "moments", "gather_spread")  # the archive has no adapter of these


@pytest.mark.parametrize("name", [x for x in METHODS if x not in NEWER] + ["ssp+lora", "ssp_options"])
def test_adapters_of_the_first_format_give_the_same_logits(old_adapters, monkeypatch, name):
    monkeypatch.setitem(BACKBONES, "videomamba_tiny_test", OLD)
    expected = load_file(old_adapters / "logits.safetensors")[name]
    classifier = videossp.load(old_adapters / name, backbone=OLD_BACKBONE)
    actual = logits_of(classifier, 2 * ramp((2, 3, 2, 32, 32)))
    assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert classifier.classes == ("a", "b", "c") and classifier.clip_format.views == (2, 1)
    assert classifier.metrics["best_epoch"] == 2
    if Classifier.create(OLD, num_classes=2, weights="random", seed=3).sha256 == classifier.sha256:
        assert videossp.load(old_adapters / name).sha256 == classifier.sha256
        assert videossp.load(old_adapters / name, backbone=OLD).sha256 == classifier.sha256


def test_options_that_an_old_adapter_lacks_are_the_published_ones(old_adapters, monkeypatch, tmp_path):
    monkeypatch.setitem(BACKBONES, "videomamba_tiny_test", OLD)
    published = {
        "gather_width": 384,
        "spread_width": 256,
        "heads": 8,
        "prompts": 3,
        "gather_kernel": (1, 1, 1),
    }
    classifier = videossp.load(old_adapters / "ssp", backbone=OLD_BACKBONE)
    assert published.items() <= classifier.options.items()
    chain = videossp.load(old_adapters / "ssp+lora", backbone=OLD_BACKBONE)
    assert published.items() <= chain.options["ssp"].items() and chain.options["lora"]["rank"] == 4
    given = videossp.load(old_adapters / "ssp_options", backbone=OLD_BACKBONE).options
    assert (given["prompts"], given["spread_width"], given["gather_width"]) == (1, 24, 384)
    # Saved again they are explicit.
    classifier.save(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["format"] == 2 and saved["options"]["gather_width"] == 384
    clip = ramp((1, 3, 2, 32, 32))
    assert torch.equal(logits_of(videossp.load(tmp_path), clip), logits_of(classifier, clip))


def test_all_options_are_resolved_and_survive_saving(small_backbone, tmp_path):
    classifier = Classifier.create(small_backbone, num_classes=2, method="lora", rank=4, targets=["in_proj"])
    assert classifier.options == {"targets": ("in_proj",), "rank": 4, "scale": 0.1, "drop": 0.0}
    classifier.save(tmp_path)
    assert videossp.load(tmp_path).options == classifier.options


def test_a_config_means_random_weights_of_those_sizes(clips, tmp_path, small_backbone):
    with pytest.warns(VideoSSPWarning, match="VideoMambaConfig: RANDOM weights"):
        classifier = Classifier.create(SMALL, num_classes=3, seed=4, **SSP_SMALL)
    assert len(classifier.warnings) == 1 and classifier.backbone.config == SMALL
    named = Classifier.create(small_backbone, num_classes=3, seed=4, **SSP_SMALL)
    assert torch.equal(logits_of(classifier, clips), logits_of(named, clips))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        requested = Classifier.create(SMALL, num_classes=3, weights="random", seed=4)
    assert not requested.warnings and "as requested" in requested.notes[0]
    with pytest.raises(ValueError, match="weights cannot be given with a VideoMambaConfig"):
        Classifier.create(SMALL, num_classes=3, weights="weights.pth")
    assert Classifier.create(SMALL, num_classes=3, frames=6).backbone.config.frames == 6
    # Its sizes and seed are in the adapter.
    classifier.save(tmp_path)
    for backbone in (None, SMALL, classifier.backbone):
        loaded = videossp.load(tmp_path, backbone=backbone)
        assert torch.equal(logits_of(loaded, clips), logits_of(classifier, clips))
    with pytest.raises(WeightsError, match=r"sha256 .* but VideoMambaConfig has"):
        videossp.load(tmp_path, backbone=dataclasses.replace(SMALL, depth=2))


@pytest.mark.parametrize("method", ["ssp", "full"])
def test_a_module_is_copied_and_stays_as_it_is(clips, method):
    backbone = VideoMamba(SMALL, drop_path=0.25)
    backbone.layers[0].requires_grad_(False)
    frozen = {name: x.requires_grad for name, x in backbone.named_parameters()}
    before = {name: x.clone() for name, x in backbone.state_dict().items()}
    options = SSP_SMALL if method == "ssp" else {}
    classifier = Classifier.create(backbone, num_classes=3, method=method, **options)
    assert classifier.sha256 == fingerprint(backbone) and not classifier.warnings + classifier.notes
    assert classifier.backbone.drop_path == 0.25
    train_steps(classifier, clips, 2)
    classifier.to_precision("bf16")
    assert {name: x.requires_grad for name, x in backbone.named_parameters()} == frozen
    assert all(torch.equal(x, before[name]) for name, x in backbone.state_dict().items())
    assert all(x.grad is None for x in backbone.parameters())
    assert backbone.layers[0].mixer.in_proj.weight.dtype == torch.float32
    with pytest.raises(WeightsError, match=r"takes 4 frames of \(32, 32\), not 8 of \(32, 32\)"):
        Classifier.create(backbone, num_classes=3, frames=8)
    with pytest.raises(ValueError, match="weights cannot be given with a VideoMamba"):
        Classifier.create(backbone, num_classes=3, weights="random")
    with pytest.raises(
        TypeError, match="backbone must be a str, a VideoMambaConfig or a VideoMamba, got Linear"
    ):
        Classifier.create(torch.nn.Linear(1, 1), num_classes=3)


@pytest.mark.parametrize("source", ["module", "state_dict"])
def test_an_adapter_on_an_object_is_loaded_with_the_backbone_given(clips, tmp_path, source):
    state = published()
    backbone = VideoMamba(SMALL)
    backbone.load_state_dict(sort_published(state).backbone)
    if source == "module":
        classifier = Classifier.create(backbone, num_classes=3, drop_path=0.5, **SSP_SMALL)
    else:
        classifier = videossp.from_official(state)
    switch_on(classifier)
    classifier.save(tmp_path / "adapter")
    with pytest.raises(WeightsError, match=r"cannot be built again: give it, load\(folder, backbone=...\)"):
        videossp.load(tmp_path / "adapter")
    save_file(state, tmp_path / "weights.safetensors")
    for given in (backbone, str(tmp_path / "weights.safetensors")):
        loaded = videossp.load(tmp_path / "adapter", backbone=given)
        assert torch.equal(logits_of(loaded, clips), logits_of(classifier, clips))
        assert loaded.backbone.drop_path == classifier.backbone.drop_path
        assert [x.drop_path for x in loaded.backbone.layers] == [
            x.drop_path for x in classifier.backbone.layers
        ]
    assert loaded.source.name == str(tmp_path / "weights.safetensors")
    for other in (VideoMamba(SMALL), SMALL):
        with pytest.raises(WeightsError, match="sha256"):
            videossp.load(tmp_path / "adapter", backbone=other)
    with pytest.raises(WeightsError, match="takes 6 frames"):
        videossp.load(tmp_path / "adapter", backbone=VideoMamba(dataclasses.replace(SMALL, frames=6)))


class Shift(Tuner):
    """Adds a learned vector to the cls token that the head reads."""

    def __init__(self, config, *, start=0.5):
        super().__init__()
        self.vector = torch.nn.Parameter(torch.full((config.d_model,), start))

    def edit_tokens(self, layer, tokens):
        return tokens.write(cls=tokens.part("cls") + self.vector)


def test_a_class_can_be_trained_and_is_saved_once_it_is_registered(small_backbone, clips, tmp_path):
    classifier = Classifier.create(small_backbone, num_classes=3, method=Shift, start=0.25)
    assert classifier.method == "Shift" and classifier.options == {"start": 0.25}
    train_steps(classifier, clips, 2)
    for refusing in (classifier.check_saving, lambda: classifier.save(tmp_path / "adapter")):
        with pytest.raises(ValueError, match=r"call videossp.register_method\(NAME, Shift\) first"):
            refusing()
    assert not (tmp_path / "adapter").exists()
    with pytest.raises(ValueError, match=r"register_method\(NAME, Shift\)"):  # before any epoch
        videossp.train(classifier, tmp_path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    before = set(METHODS)
    register_method("shift", Shift)
    try:
        classifier.save(tmp_path / "adapter")
        assert classifier.method == "shift"
        assert Classifier.create(small_backbone, num_classes=3, method=Shift).method == "shift"
        loaded = videossp.load(tmp_path / "adapter")
        assert torch.equal(logits_of(loaded, clips), logits_of(classifier, clips))
    finally:
        unregister("shift", before)
    with pytest.raises(WeightsError, match="its method 'shift' is not known here: install its package"):
        videossp.load(tmp_path / "adapter")


def unregister(name, before):
    """Undo `register_method`."""
    from videossp import methods

    for known in (METHODS, getattr(getattr(methods, "registry", None), "_registered", {})):
        known.pop(name, None)
    assert set(METHODS) == before


def test_a_bundled_class_is_its_name(small_backbone):
    by_class = Classifier.create(small_backbone, num_classes=3, method=METHODS["lora"], rank=2)
    assert by_class.method == "lora" and by_class.options["rank"] == 2
    by_class.check_saving()


FROZEN_METHODS = [name for name in METHODS if name not in ("linear", "full", "partial")]


@pytest.mark.parametrize("method", [*FROZEN_METHODS, "ssp+lora"])
def test_a_disabled_adapter_gives_the_frozen_backbone_with_the_head(small_backbone, clips, method):
    options = {"ssp": SSP_SMALL, "ssp+lora": {"ssp": SSP_SMALL}, "st_adapter": {"layers": 2}}.get(method, {})
    classifier = Classifier.create(small_backbone, num_classes=3, method=method, **options).eval()
    switch_on(classifier)
    plain = Classifier.create(small_backbone, num_classes=3, method="linear").eval()
    plain.head.load_state_dict(classifier.head.state_dict())
    tuned, frozen = logits_of(classifier, clips), logits_of(plain, clips)
    assert not torch.allclose(tuned, frozen, atol=1e-4)
    names = set(classifier.trainable())
    with classifier.disable_adapter():
        assert torch.equal(logits_of(classifier, clips), frozen)
        assert torch.equal(classifier(clips), frozen)  # with gradients too
        assert set(classifier.trainable()) == names
        with torch.no_grad(), classifier.disable_adapter():
            assert torch.equal(classifier(clips), frozen)
        assert torch.equal(logits_of(classifier, clips), frozen)  # still disabled after the inner context
        with pytest.raises(ValueError, match="within disable_adapter"):
            classifier.merge()
    assert torch.equal(logits_of(classifier, clips), tuned)


def test_an_error_within_disable_adapter_enables_it_again(small_classifier, clips):
    before = logits_of(small_classifier, clips)
    with pytest.raises(KeyError), small_classifier.disable_adapter():
        raise KeyError
    assert torch.equal(logits_of(small_classifier, clips), before)


def test_a_disabled_adapter_of_features_reads_the_cls_token(small_backbone, clips):
    classifier = Classifier.create(small_backbone, num_classes=3, method="mean").eval()
    switch_on(classifier)
    with classifier.disable_adapter():
        assert torch.equal(
            logits_of(classifier, classifier.frozen_features(clips)), logits_of(classifier, clips)
        )


@pytest.mark.parametrize("method", ["full", "partial", "ssp+partial"])
def test_an_adapter_that_trains_the_backbone_cannot_be_disabled(small_backbone, clips, method):
    options = {"ssp": SSP_SMALL} if "ssp" in method else {}
    classifier = Classifier.create(small_backbone, num_classes=3, method=method, **options).eval()
    before = logits_of(classifier, clips)
    with (
        pytest.raises(
            ValueError, match="trains backbone weights in place; the original weights are not kept"
        ),
        classifier.disable_adapter(),
    ):
        pass
    assert torch.equal(logits_of(classifier, clips), before)


def test_a_merge_cannot_be_undone(small_backbone, clips):
    classifier = Classifier.create(small_backbone, num_classes=3, method="lora")
    with pytest.raises(ValueError, match="is not merged"):
        classifier.unmerge()
    classifier.merge()
    merged = logits_of(classifier, clips)
    with pytest.raises(ValueError, match="load the adapter again"):
        classifier.unmerge()
    with pytest.raises(ValueError, match="load the adapter again"), classifier.disable_adapter():
        pass
    with pytest.raises(ValueError, match="merged already"):
        classifier.merge()
    assert torch.equal(logits_of(classifier, clips), merged)
    rounded = Classifier.create(small_backbone, num_classes=3, method="lora").to_precision("bf16")
    with pytest.raises(ValueError, match="needs float32: .* rounded to bf16 already: load the adapter again"):
        rounded.merge()


@pytest.mark.parametrize("method", ["lora", "ssp"])
def test_adapter_trained_in_bf16_merges_after_the_named_remedy(small_backbone, clips, tmp_path, method):
    options = SSP_SMALL if method == "ssp" else {}
    classifier = Classifier.create(small_backbone, num_classes=3, method=method, **options)
    switch_on(classifier)
    classifier.to_precision("bf16").save(tmp_path)
    loaded = videossp.load(tmp_path)
    with pytest.raises(ValueError, match=r"needs float32: call to_precision\('float32'\) first$"):
        loaded.merge()
    before = logits_of(loaded.to_precision("float32"), clips)
    loaded.merge()
    torch.testing.assert_close(logits_of(loaded, clips), before, rtol=1e-4, atol=1e-5)
