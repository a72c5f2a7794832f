"""`Adapters`: one backbone in memory, replacing and unloading while requests run, allowed folders."""

import gc
import json
import os
import shutil
import weakref

import pytest
import torch
from running import save_adapter

from conftest import SMALL
from videossp import load
from videossp.errors import VideoSSPError
from videossp.serving.adapters import Adapters
from videossp.serving.problem import Problem

CLIP = torch.randint(
    0, 256, (1, 3, SMALL.frames, *SMALL.size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


@pytest.fixture
def root(tmp_path):
    for i in range(3):
        save_adapter(tmp_path / f"a{i}", seed=i)
    return tmp_path


def served(root, *names, **options):
    adapters = Adapters(torch.device("cpu"), **options)
    for name in names:
        adapters.add(root / name)
    return adapters


@torch.no_grad()
def test_adapters_share_a_frozen_backbone_and_compute_what_they_compute_alone(root):
    save_adapter(root / "trains", method="full")
    save_adapter(root / "bf16").joinpath("README.md").unlink()
    adapters = served(root, "a0", "a1", "a2", "trains")
    backbones = [x.classifier.backbone for x in adapters.all()]
    assert backbones[0] is backbones[1] is backbones[2] and backbones[3] is not backbones[0]
    assert adapters.backbones() == 2
    for x in adapters.all():
        assert torch.equal(x.classifier(CLIP), load(x.folder).eval()(CLIP))


def test_an_adapter_of_other_precision_has_its_own_backbone(root):
    classifier = load(root / "a1").to_precision("bf16")
    classifier.save(root / "b")
    assert served(root, "a0", "b").backbones() == 2


def test_the_backbone_of_the_last_adapter_is_freed(root):
    adapters = served(root, "a0", "a1")
    backbone = weakref.ref(adapters.all()[0].classifier.backbone)
    adapters.remove("a0")
    gc.collect()
    assert backbone() is not None
    adapters.remove("a1")
    gc.collect()
    assert backbone() is None
    with pytest.raises(Problem, match="no adapter 'a1'; there are none") as error:
        adapters.remove("a1")
    assert error.value.status == 404


@torch.no_grad()
def test_a_replaced_folder_is_loaded_and_who_has_the_old_one_keeps_it(root):
    lines = []
    adapters = served(root, "a0", "a1", report=lines.append)
    old = adapters.get("a0").classifier
    before = old(CLIP)
    adapters.reload_changed()
    assert adapters.get("a0").classifier is old  # nothing has changed
    save_adapter(root / "a0", seed=9, classes=("x", "y", "z"))
    adapters.reload_changed()
    new = adapters.get("a0").classifier
    assert new.classes == ("x", "y", "z") and torch.equal(new(CLIP), load(root / "a0").eval()(CLIP))
    assert torch.equal(old(CLIP), before) and new.backbone is old.backbone
    assert adapters.get("a1").classifier.backbone is new.backbone
    assert "replaced a0" in lines[-1]


def test_a_folder_that_was_moved_in_place_of_another_is_seen(root):
    """As deployments do it: the new folder is complete before it gets the name."""
    adapters = served(root, "a0")
    save_adapter(root / "new", seed=9, classes=("x", "y"))
    os.rename(root / "a0", root / "old")
    os.rename(root / "new", root / "a0")
    adapters.reload_changed()
    assert adapters.get("a0").classifier.classes == ("x", "y")


ODD = {  # changes of a config that raise errors of other kinds
    "nested": lambda config: "[" * 100_000,
    "a list as name": lambda config: json.dumps({**config, "base_model_name_or_path": []}),
    "words as mean": lambda config: json.dumps(
        {**config, "clip": {**config["clip"], "mean": ["a", "b", "c"]}}
    ),
    "two colours": lambda config: json.dumps({**config, "clip": {**config["clip"], "mean": [0.5, 0.5]}}),
    "no text": lambda config: "\0",
}


@pytest.mark.parametrize("damage", ["removed", "cut", "no config", *ODD])
def test_a_folder_that_cannot_be_loaded_leaves_the_adapter_in_memory_and_says_so(root, damage):
    lines = []
    adapters = served(root, "a0", report=lines.append)
    old, before = adapters.get("a0").classifier, adapters.get("a0").state
    file = root / "a0/adapter_model.safetensors"
    if damage == "removed":
        shutil.rmtree(root / "a0")
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-7])
    else:
        config = root / "a0/adapter_config.json"
        config.write_text(ODD[damage](json.loads(config.read_text())) if damage in ODD else "{")
    adapters.reload_changed()
    adapters.reload_changed()
    kept = adapters.get("a0")
    assert kept.classifier is old and kept.error and str(root) not in kept.error
    if damage in ODD:
        with pytest.raises(VideoSSPError):
            adapters.add(root / "a0", "again")
    assert len(lines) == 2 and "kept a0 as it was" in lines[1]  # it is reported once
    assert kept.state == before  # that of the files in memory
    save_adapter(root / "a0", seed=3)
    adapters.reload_changed()
    assert adapters.get("a0").classifier is not old and adapters.get("a0").error is None


def test_a_link_that_is_set_to_another_adapter_is_seen_and_keeps_its_name(root, tmp_path_factory):
    save_adapter(root / "v2", classes=("x", "y"))
    (root / "current").symlink_to("a0")
    adapters = Adapters(torch.device("cpu"), below=root)
    assert adapters.load_below("current").name == "current"
    (root / "new").symlink_to("v2")
    os.replace(root / "new", root / "current")
    adapters.reload_changed()
    assert adapters.get("current").classifier.classes == ("x", "y")
    outside = save_adapter(tmp_path_factory.mktemp("outside") / "x", classes=("p", "q"))
    (root / "new").symlink_to(outside)
    os.replace(root / "new", root / "current")
    adapters.reload_changed()
    kept = adapters.get("current")
    assert kept.classifier.classes == ("x", "y") and "leads out of" in kept.error
    (root / "a1/adapter_model.safetensors").unlink()
    (root / "a1/adapter_model.safetensors").symlink_to(outside / "adapter_model.safetensors")
    with pytest.raises(Problem, match="leads out of"):
        adapters.load_below("a1")


def test_names_are_those_of_the_folders_and_differ(root):
    os.makedirs(root / "run")
    shutil.copytree(root / "a0", root / "run/adapter")
    adapters = served(root, "a0", "run", "run/adapter/../../a1")
    assert [x.name for x in adapters.all()] == ["a0", "run", "a1"]
    with pytest.raises(ValueError, match="two adapters are named run"):
        adapters.add(root / "run/adapter")
    for name in ("", ".", "..", "a/b", "x" * 101, "a\nb"):
        with pytest.raises(ValueError, match="cannot be the name"):
            adapters.add(root / "a2", name)
    with pytest.raises(VideoSSPError, match="no adapter here"):
        adapters.add(root / "nothing")


def test_requests_load_only_from_below_the_folder(root, tmp_path_factory):
    outside = save_adapter(tmp_path_factory.mktemp("outside") / "x")
    (root / "link").symlink_to(outside)
    (root / "empty").mkdir()
    os.makedirs(root / "deep/er")
    shutil.copytree(root / "a0", root / "deep/er/adapter")
    adapters = Adapters(torch.device("cpu"), below=root)
    assert adapters.folders_below() == ["a0", "a1", "a2", "deep/er"]
    for folder in (
        str(outside),
        "../x",
        "link",
        "a0/../../x",
        "a\0",
        "nothing",
        "empty",
        "/",
        ".",
        "x" * 900,
    ):
        with pytest.raises(Problem, match="no adapter folder") as error:
            adapters.load_below(folder)
        assert error.value.status == 404
    assert adapters.load_below("deep/er").name == "er"
    assert adapters.load_below("a0", "mine").name == "mine"
    with pytest.raises(Problem) as error:
        adapters.load_below("a1", "mine")
    assert error.value.status == 409
    (root / "a2/adapter_config.json").write_text("{}")
    with pytest.raises(Problem) as error:
        adapters.load_below("a2")
    assert error.value.status == 422 and str(root) not in error.value.detail
    with pytest.raises(Problem) as error:
        served(root).load_below("a0")
    assert error.value.status == 403
