"""The bundled recipes plan the published runs; deviations from them are reported."""

import pytest
import yaml

from videossp.bundled import RECIPES
from videossp.cli.main import main

# The published scripts: steps of an epoch, all steps, learning rate, clips of a step, views, classes, videos.
PUBLISHED = {
    "hmdb51": (3570 // 32, 111 * 10, 7.5e-4, 64, "8 x 3", 51, 3570),
    "ucf101": (9537 // 32, 298 * 10, 1.25e-3, 64, "4 x 3", 101, 9537),
    "ssv2": (168913 // 512, 329 * 7, 8e-4, 1024, "2 x 9", 174, 168913),
    "breakfast": (1705 // 64, 26 * 20, 5e-4, 128, "8 x 6", 10, 1705),
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_recipe_plans_the_published_run_without_the_data(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # recipes are bundled, so the working folder does not matter
    assert main(["train", "--config", name, "--dry-run", "--json"]) == 0
    plan = yaml.safe_load(capsys.readouterr().out)
    steps, every, lr, clips, views, classes, training = PUBLISHED[name]
    assert (plan["steps_per_epoch"], plan["steps"], plan["clips_per_step"]) == (steps, every, clips)
    assert (plan["views"], plan["classes"], plan["training_videos"]) == (views, classes, training)
    assert plan["lr"] == pytest.approx(lr)
    head = 577 * classes + 576  # a linear layer on 576 features, and the norm
    # The spread prompts and summaries do not depend on the number of frames.
    assert plan["tuned_parameters"] == 2_418_274 + head


def test_there_is_a_recipe_for_each_published_data_set():
    assert sorted(RECIPES) == sorted(PUBLISHED)


def test_an_unknown_recipe_lists_the_bundled_ones(capsys):
    assert main(["train", "--config", "hmdb52", "--dry-run"]) == 2
    known = ", ".join(sorted(PUBLISHED))
    err = capsys.readouterr().err
    assert err == f"videossp: hmdb52: no such file, and no bundled recipe; there are {known}\n"


def test_a_file_named_like_a_recipe_wins_but_a_folder_does_not(tmp_path, monkeypatch, capsys):
    """A data set may lie in a folder hmdb51 of the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hmdb51").mkdir()
    assert main(["train", "--config", "hmdb51", "--dry-run", "--json"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["classes"] == 51
    (tmp_path / "ucf101").write_text("method: linear\nepochs: 3\nexpect: {classes: 7, train: 70}\n")
    assert main(["train", "--config", "ucf101", "--dry-run", "--json"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["classes"] == 7


def test_another_method_can_be_trained_by_a_recipe(capsys):
    assert main(["train", "--config=hmdb51", "--method", "linear", "--dry-run", "--json"]) == 0
    out, err = capsys.readouterr()
    plan = yaml.safe_load(out)
    assert plan["method"] == "linear" and plan["steps_per_epoch"] == 3570 // 32
    assert "options of ssp in the config file are not used: the method is linear" in err


def test_deviations_from_the_recipe_are_reported(small_backbone, class_folder, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("expect: {classes: 51, train: 16, backbone: best.pth}\nmethod: linear\n")
    arguments = ["--config", str(recipe), "--backbone", small_backbone, "--dry-run"]
    assert main(["train", *arguments, "--data", str(class_folder)]) == 0
    err = capsys.readouterr().err
    assert "the recipe expects classes 51, this is 2" in err and "backbone best.pth" in err
    assert "train" not in err
    recipe.write_text("expect: {classes: 51, train: 160}\nmethod: linear\n")
    assert main(["train", *arguments]) == 0
    assert (
        "109 training videos, 51 validation videos" in capsys.readouterr().out
    )  # one of each class is held out
    recipe.write_text("expect: {clases: 51}")
    assert main(["train", *arguments, "--data", str(class_folder)]) == 2
    assert main(["train", *arguments]) == 2
    assert (
        "name the data set: without it the plan needs the number of classes and train"
        in capsys.readouterr().err
    )
