"""A run folder that was edited, cut or copied: `resume` continues faithfully or refuses. Nothing is lost."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from conftest import SMALL, SSP_SMALL
from videossp.classifier import Classifier
from videossp.model.config import BACKBONES
from videossp.system.files import exclusive_lock
from videossp.training.config import TrainConfig
from videossp.training.run_folder import LOCK
from videossp.training.train import train
from videossp.training.train_step import TrainStep

CONFIG = TrainConfig(epochs=2, batch_size=4, lr=1e-2, seed=1)


class Break(Exception):
    pass


def run(backbone, data, folder, config=CONFIG, **options):
    classifier = Classifier.create(backbone, classes=["bright", "dark"], **SSP_SMALL, **options)
    return train(classifier, data, config, out=folder, resume=folder.is_dir())


@pytest.fixture(scope="module")
def originals(class_folder, tmp_path_factory):
    """A finished run, and one that ended in its second epoch; the tests get copies."""
    folder, real = tmp_path_factory.mktemp("runs"), TrainStep.loss

    def loss(self, batch, number):
        if self.state.step == 4:
            raise Break
        return real(self, batch, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "videomamba_small_test", SMALL)
        run("videomamba_small_test", class_folder, folder / "finished")
        patch.setattr(TrainStep, "loss", loss)
        with pytest.raises(Break):
            run("videomamba_small_test", class_folder, folder / "broken")
    return folder


@pytest.fixture
def finished(originals, tmp_path):
    return shutil.copytree(originals / "finished", tmp_path / "finished")


@pytest.fixture
def broken(originals, tmp_path):
    return shutil.copytree(originals / "broken", tmp_path / "broken")


def contents(folder):
    return {
        x.relative_to(folder): x.read_bytes() for x in folder.rglob("*") if x.is_file() and x.name != LOCK
    }


def cut(file):
    file.write_text(file.read_text().splitlines(True)[0])


# What happens to the folder of a finished run, other settings of the resumed one, words of the error.
FINISHED = {
    "more epochs": (lambda x: None, {"epochs": 4}, "finished, all 2 epochs; .*epochs: 2 before, 4 now"),
    "fewer epochs": (lambda x: None, {"epochs": 1}, "finished, all 2 epochs; .*epochs: 2 before, 1 now"),
    "another rate": (lambda x: None, {"lr": 0.5}, r"lr: 0\.01 before, 0\.5 now, and a finished run cannot"),
    "nothing": (lambda x: None, {"workers": 1}, "finished, all 2 epochs; its adapter is .*adapter$"),
    "no metrics": (
        lambda x: (x / "metrics.jsonl").unlink(),
        {},
        "no checkpoint .*metrics.jsonl has 0 of 2 epochs",
    ),
    "metrics cut": (
        lambda x: cut(x / "metrics.jsonl"),
        {},
        "no checkpoint .*metrics.jsonl has 1 of 2 epochs",
    ),
    "metrics cut and more epochs": (
        lambda x: cut(x / "metrics.jsonl"),
        {"epochs": 3},
        r"1 of 2 epochs\); these settings differ: epochs: 2 before, 3 now",
    ),
    "of an older version": (lambda x: (x / "env.json").write_text("{}"), {"epochs": 4}, "has 2 of 4 epochs"),
    "only the report": (
        lambda x: [shutil.rmtree(x / "adapter"), (x / "metrics.jsonl").unlink()],
        {},
        "has report.html, curves.png, confusion.png, but no checkpoint",
    ),
    "no adapter": (
        lambda x: shutil.rmtree(x / "adapter"),
        {},
        "finished, all 2 epochs, but its adapter is gone",
    ),
}


def test_a_finished_run_is_never_started_over(finished, small_backbone, class_folder, tmp_path):
    for name, (change, settings, words) in FINISHED.items():
        folder = shutil.copytree(finished, tmp_path / name)
        change(folder)
        before = contents(folder)
        with pytest.raises(ValueError, match=words) as refusal:
            run(small_backbone, class_folder, folder, replace(CONFIG, **settings))
        assert str(folder) in str(refusal.value) and "\n" not in str(refusal.value), name
        assert contents(folder) == before, name


def test_an_unfinished_run_without_checkpoints_is_not_started_over(broken, small_backbone, class_folder):
    shutil.rmtree(broken / "checkpoints")
    before = contents(broken)
    with pytest.raises(ValueError, match="has adapter, metrics.jsonl, but no checkpoint .*1 of 2 epochs"):
        run(small_backbone, class_folder, broken)
    assert contents(broken) == before


def test_a_run_that_was_killed_before_its_first_checkpoint_starts(
    broken, finished, small_backbone, class_folder
):
    for name in ("adapter", "checkpoints"):
        shutil.rmtree(broken / name)
    (broken / "metrics.jsonl").write_text("")
    run(small_backbone, class_folder, broken)
    assert_equal(broken, finished)


def assert_equal(folder, other):
    weights, expected = (load_file(x / "adapter" / "adapter_model.safetensors") for x in (folder, other))
    assert weights.keys() == expected.keys()
    assert all(torch.equal(x, weights[name]) for name, x in expected.items())


def test_a_copy_and_a_run_without_its_adapter_resume_to_the_same(
    broken, finished, small_backbone, class_folder, tmp_path
):
    """The checkpoint has the best weights."""
    copy = shutil.copytree(broken, tmp_path / "copy")
    shutil.rmtree(broken / "adapter")
    (copy / "metrics.jsonl").unlink()
    for folder in (broken, copy):
        run(small_backbone, class_folder, folder)
        assert_equal(folder, finished)
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_checkpoint_of_another_data_set_or_more_epochs_is_refused(
    broken, small_backbone, class_folder, tmp_path
):
    data = shutil.copytree(class_folder, tmp_path / "data")
    next((data / "train" / "dark").iterdir()).rename(data / "train" / "dark" / "renamed.mp4")
    before = contents(broken)
    for source, config, words in (
        (data, CONFIG, "training_videos: .* before"),
        (class_folder, replace(CONFIG, epochs=4), "these settings differ: epochs: 2 before, 4 now"),
    ):
        with pytest.raises(ValueError, match=words):
            run(small_backbone, source, broken, config)
    assert contents(broken) == before


@pytest.mark.parametrize("name", ["adapter", "checkpoints", "broken"])
def test_a_run_does_not_write_through_a_link(broken, small_backbone, class_folder, tmp_path, name):
    """TensorBoard writes to a folder with the name of the run."""
    (broken / "broken").mkdir()
    (broken / name).rename(tmp_path / "elsewhere")
    (broken / name).symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=f"{name}: a run does not write through a symbolic link"):
        run(small_backbone, class_folder, broken)
    assert contents(tmp_path / "elsewhere") == before


def test_links_in_a_run_folder_are_replaced_and_their_targets_spared(
    broken, small_backbone, class_folder, tmp_path
):
    """The folder itself may be a link."""
    target = tmp_path / "target"
    target.write_text("precious")
    made = ["metrics.jsonl", "curves.png", "confusion.png", "report.html"]
    weights = ["adapter/adapter_model.safetensors", "adapter/adapter_config.json", "adapter/README.md"]
    for name in (*made, *weights):
        (broken / name).unlink(missing_ok=True)
        (broken / name).symlink_to(target)
    (tmp_path / "link").symlink_to(broken)
    run(small_backbone, class_folder, tmp_path / "link")
    assert target.read_text() == "precious" and (tmp_path / "link").is_symlink()
    assert not any((broken / name).is_symlink() for name in (*made, *weights))


def test_the_command_refuses_with_one_line(call, small_backbone, finished):
    config = finished / "config.yaml"
    good, before = config.read_text(), contents(finished)
    for text, words in {
        good.replace("epochs: 2", "epochs: 4"): "epochs: 2 before, 4 now",
        good.replace("epochs: 2", "epochs: two"): "--epochs must be a whole number",
        good + "epochs: [": "config.yaml: cannot be read",
        "- a\n- list\n": "must have lines NAME: VALUE",
        "": "config.yaml: has no settings",
    }.items():
        config.write_text(text)
        code, out, err = call("train", "--resume", finished)
        lines = [x for x in err.splitlines() if "RANDOM" not in x and " | " not in x]
        assert code == 2 and out == "" and len(lines) == 1 and words in lines[0], err
    config.write_text(good)
    with exclusive_lock(finished / LOCK, "held by the test"):
        code, _, err = call("train", "--resume", finished)
        assert code == 2 and "another process trains in it" in err
    assert contents(finished) == before
    assert json.loads((finished / "env.json").read_text())["settings"]["epochs"] == 2
