"""How a command line is split: flags that need a value, config files, arguments after "--"."""

import json
import shutil

import numpy as np
import pytest
import yaml
from safetensors.torch import save_file

from conftest import published, write_video
from videossp.classifier import Classifier
from videossp.cli.arguments import read_arguments
from videossp.training.config import RENAMED


@pytest.fixture
def adapter(small_backbone, tmp_path):
    """An adapter folder of a linear probe for the classes bright and dark."""
    classifier = Classifier.create(small_backbone, classes=["bright", "dark"], method="linear")
    classifier.save(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize("flag", ["--resume", "--config"])
@pytest.mark.parametrize("ending", [[], [""], ["--epochs", "1"], ["="]])
def test_a_flag_without_its_value_starts_no_run(
    call, small_backbone, class_folder, tmp_path, monkeypatch, flag, ending
):
    """Not even where a config.yaml lies in the working folder."""
    monkeypatch.chdir(tmp_path)
    settings = {"data": str(class_folder), "backbone": small_backbone, "method": "linear", "epochs": 1}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    arguments = [f"{flag}="] if ending == ["="] else [flag, *ending]
    code, stdout, stderr = call("train", *arguments)
    assert (code, stdout) == (2, "") and stderr.startswith(f"videossp: {flag} needs a value: ")
    assert [x.name for x in tmp_path.iterdir()] == ["config.yaml"]


def test_an_abbreviated_flag_is_unknown(call, small_backbone, class_folder, tmp_path):
    """--resum would resume a run without the settings of that run."""
    run = tmp_path / "run"
    run.mkdir()
    flags = ["--backbone", small_backbone, "--method", "linear", "--epochs", 1]
    code, _, stderr = call("train", class_folder, *flags, "--resum", run)
    assert code == 2 and "--resum" in stderr and list(run.iterdir()) == []
    assert call("train", class_folder, *flags, "--out", tmp_path / "b", "--scale", "[0.5,1]")[0] == 2


@pytest.mark.parametrize(
    ("verb", "arguments", "name"),
    [
        ("train", ["DATA", "--out", ""], "--out"),
        ("train", ["DATA", "--out="], "--out"),
        ("train", [""], "DATA"),
        ("train", ["--data", ""], "--data"),
        ("train", ["DATA", "--videos="], "--videos"),
        ("train", ["DATA", "--weights", ""], "--weights"),
        ("train", ["DATA", "--features="], "--features"),
        ("compare", ["DATA", "--methods", "linear", "--out="], "--out"),
        ("eval", ["ADAPTER", ""], "DATA"),
        ("eval", ["", "DATA"], "ADAPTER"),
        ("eval", ["ADAPTER", "DATA", "--split="], "--split"),
        ("eval", ["ADAPTER", "DATA", "--report="], "--report"),
        ("predict", ["ADAPTER", ""], "VIDEO"),
        ("predict", ["ADAPTER", "VIDEO", ""], "VIDEO"),
        ("doctor", ["DATA", "--write-clean-list="], "--write-clean-list"),
    ],
)
def test_an_empty_path_is_refused(call, adapter, class_folder, tmp_path, monkeypatch, verb, arguments, name):
    """It is a shell variable that was not set, and not a request for the default."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    places = {"DATA": class_folder, "ADAPTER": adapter, "VIDEO": class_folder / "test" / "dark" / "0.mp4"}
    code, stdout, stderr = call(verb, *(places.get(x, x) for x in arguments))
    assert (code, stdout) == (
        2,
        "",
    ) and stderr == f"videossp: {name} is empty: give a value, or leave it out\n"
    assert list(work.iterdir()) == []


def test_an_empty_path_in_a_config_file_is_refused(call, class_folder, tmp_path):
    (tmp_path / "c.yaml").write_text("out: ''\nmethod: linear\n")
    code, _, stderr = call("train", class_folder, "--config", tmp_path / "c.yaml")
    assert code == 2 and "--out is empty" in stderr


def test_resume_writes_to_the_folder_of_its_run_only(call, small_backbone, class_folder, tmp_path):
    flags = ["--backbone", small_backbone, "--method", "linear", "--epochs", 1]
    assert call("train", class_folder, *flags, "--out", tmp_path / "run")[0] == 0
    code, _, stderr = call("train", "--resume", tmp_path / "run", "--out", tmp_path / "other")
    assert code == 2 and "leave out --out" in stderr and not (tmp_path / "other").exists()
    (tmp_path / "resume.yaml").write_text(f"resume: {tmp_path / 'run'}\n")
    code, _, stderr = call("train", "--config", tmp_path / "resume.yaml")
    assert code == 2 and "resume.yaml: resume is not a setting; give --resume RUN" in stderr


@pytest.mark.parametrize("name", ["--odd-name.mp4", "--a_b-c--d.mp4", "-x.mp4"])
def test_a_video_after_the_separator_keeps_its_name(call, adapter, class_folder, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copy(class_folder / "test" / "dark" / "0.mp4", tmp_path / name)
    code, stdout, stderr = call("predict", adapter, "--json", "--", name)
    assert code == 0, stderr
    assert json.loads(stdout)["path"] == name


def test_after_the_separator_there_are_no_options(call, adapter, class_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, level in (("bright", 220), ("dark", 40)):
        write_video(tmp_path / "--my-clips" / name / "a_b-c.mp4", np.full((4, 32, 32, 3), level, np.uint8))
    code, stdout, stderr = call("data", "--fast", "--json", "--", "--my-clips")
    assert code == 0 and json.loads(stdout)["videos"] == {"train": 2}, stderr
    code, _, stderr = call("predict", adapter, "--", "--debug")  # a file, not the flag that shows tracebacks
    assert code == 3 and "--debug: no such file or folder" in stderr


def test_values_keep_their_hyphens_and_underscores():
    flags = ["--grad-accum-steps=2", "--out=my-run_1--x", "--ssp.gather-width", "3", "a-b_c", "--", "--a-b"]
    expected = ["--grad_accum_steps=2", "--out=my-run_1--x", "--ssp.gather_width", "3", "a-b_c"]
    assert read_arguments("train", flags).flags == [*expected, "--", "--a-b"]


def test_the_last_config_wins_and_options_of_a_method_are_merged(tmp_path):
    (tmp_path / "a.yaml").write_text("epochs: 3\nlr: 0.1\nssp: {prompts: 2, heads: 4}\n")
    (tmp_path / "b.yaml").write_text("epochs: 5\nssp: {heads: 2}\n")
    given = read_arguments("train", ["--config", str(tmp_path / "a.yaml"), f"--config={tmp_path / 'b.yaml'}"])
    assert given.settings == {"epochs": 5, "lr": 0.1, "ssp": {"prompts": 2, "heads": 2}}
    assert given.flags == [] and given.value("epochs") == 5


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "a: [", "just words", "1: 2"])
def test_a_config_file_without_settings_is_refused_by_name(call, tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    code, _, stderr = call("train", "--config", tmp_path / "c.yaml")
    assert code == 2 and str(tmp_path / "c.yaml") in stderr and stderr.count("\n") == 1


OLD = {
    "accumulate": ("grad_accum_steps", 4),
    "clip_grad": ("max_grad_norm", 1.5),
    "ema": ("ema_decay", 0.9),
    "scale": ("crop_scale", [0.3, 0.8]),
    "val_share": ("val_fraction", 0.25),
    "choose_on": ("select_on", "test"),
    "draws": ("fixed_augmentations", 2),
}


@pytest.mark.parametrize("name", OLD)
def test_old_names_in_a_config_file_are_mapped_and_reported(tmp_path, capsys, name):
    new, value = OLD[name]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"method": "linear", "lr": 0.2, name: value}))
    for arguments in (["--config", str(tmp_path / "config.yaml")], ["--resume", str(tmp_path)]):
        settings = read_arguments("train", arguments).settings
        assert settings == {"method": "linear", "lr": 0.2, new: value, "linear": {}}
        notice = f"videossp: {tmp_path / 'config.yaml'}: written by an older version: {name} is now {new}\n"
        assert capsys.readouterr().err == notice


def test_all_old_names_are_mapped():
    assert {name: new for name, (new, _) in OLD.items()} == RENAMED


def test_a_setting_under_both_names_is_refused(call, tmp_path):
    (tmp_path / "c.yaml").write_text("accumulate: 2\ngrad_accum_steps: 4\n")
    code, _, stderr = call("train", "--config", tmp_path / "c.yaml")
    assert code == 2 and "accumulate is the old name of grad_accum_steps; remove one of them" in stderr


@pytest.mark.parametrize("name", OLD)
def test_an_old_flag_is_refused_and_the_new_one_named(call, class_folder, name):
    for verb in (["train"], ["compare", "--methods", "linear"]):
        code, stdout, stderr = call(*verb, class_folder, f"--{name.replace('_', '-')}", "1")
        flags = [x.replace("_", "-") for x in (name, OLD[name][0])]
        assert (code, stdout) == (2, "")
        assert stderr == "videossp: unknown option --{}; it is now --{}\n".format(*flags)


def test_missing_options_of_an_old_config_are_the_published_ones(tmp_path):
    """Versions that had these names used the sizes published for VideoMamba-M on every backbone."""
    path = tmp_path / "config.yaml"
    path.write_text("backbone: videomamba_nano\nmethod: ssp+lora\nssp: {heads: 4}\nema: 0.0\n")
    settings = read_arguments("train", ["--config", str(path)]).settings
    assert settings["ssp"]["heads"] == 4 and settings["lora"]["rank"] == 16 and settings["lr"] == 0.001
    assert (settings["ssp"]["gather_width"], settings["ssp"]["spread_width"]) == (384, 256)
    path.write_text("method: ssp\nssp: {heads: 4}\nema_decay: 0.0\n")
    assert read_arguments("train", ["--config", str(path)]).settings["ssp"] == {"heads": 4}


def test_a_run_of_an_old_config_equals_that_of_the_same_settings(
    call, small_backbone, class_folder, tmp_path
):
    flags = ["--backbone", small_backbone, "--method", "linear", "--epochs", 1, "--batch-size", 4]
    flags += ["--grad-accum-steps", 2, "--crop-scale", "[0.3,0.8]", "--ema-decay", 0.5, "--lr", 0.01]
    assert call("train", class_folder, *flags, "--out", tmp_path / "new")[0] == 0
    text = (tmp_path / "new" / "config.yaml").read_text()
    for old, (new, _) in OLD.items():
        assert text.count(f"{new}:") == 1
        text = text.replace(f"{new}:", f"{old}:")
    (tmp_path / "old.yaml").write_text(text)
    code, _, stderr = call("train", "--config", tmp_path / "old.yaml", "--out", tmp_path / "old")
    assert code == 0 and "accumulate is now grad_accum_steps" in stderr
    weights = [tmp_path / x / "adapter" / "adapter_model.safetensors" for x in ("new", "old")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ssp: 3", "ssp in the config file must have lines OPTION: VALUE"),
        ("method: lora\nssp: {heads: 3}", "options of ssp are in the config file, but the method is lora"),
    ],
)
def test_invalid_method_options_in_config_are_refused(call, tmp_path, text, words):
    (tmp_path / "c.yaml").write_text(text)
    code, _, stderr = call("train", "--config", tmp_path / "c.yaml", "--dry-run")
    assert code == 2 and stderr == f"videossp: {words}\n"


@pytest.mark.parametrize("recipe", ["breakfast", "hmdb51", "run"])
def test_compare_reads_recipes_and_configs_of_runs(call, class_folder, tmp_path, recipe):
    weights = tmp_path / "small.safetensors"
    save_file(published(), weights)
    flags = [class_folder, "--backbone", weights, "--frames", 2, "--size", 32, "--epochs", 1]
    if recipe == "run":
        settings = ["--method", "svp", "--batch-size", 8, "--seed", 5, "--out", tmp_path / "run"]
        assert call("train", *flags, *settings)[0] == 0
    config = tmp_path / "run" / "config.yaml" if recipe == "run" else recipe
    batches = ["--batch-size", 8, "--grad-accum-steps", 1, "--num-sample", 1]
    small = [*batches, "--rand-augment", "", "--views=[1,1]"]
    arguments = [*flags, *small, "--config", config, "--methods", "linear", "--seeds", 2]
    code, _, stderr = call("compare", *arguments, "--out", tmp_path / "out")
    assert code == 0, stderr
    unused = "method, seed" if recipe == "run" else "method, seed, expect"
    assert f"videossp: not used of the config file, because only train has them: {unused}\n" in stderr
    (run,) = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    assert (run["method"], run["seed"], run["error"]) == ("linear", 2, None)


def test_settings_that_neither_verb_has_are_refused_by_compare(call, class_folder, tmp_path):
    (tmp_path / "c.yaml").write_text("method: ssp\nbatchsize: 3\n")
    code, _, stderr = call("compare", class_folder, "--methods", "linear", "--config", tmp_path / "c.yaml")
    assert code == 2 and "unknown setting 'batchsize' in a config file; did you mean batch_size?" in stderr
    code, _, stderr = call("compare", class_folder, "--methods", "linear", "--seed", 3)
    assert code == 2 and "unknown option --seed; did you mean --seeds?" in stderr


@pytest.mark.parametrize("word", ["off", "on", "yes", "No", "false", "'on'", "auto"])
def test_on_and_off_in_a_config_file_are_choices_of_an_option(
    call, small_backbone, class_folder, tmp_path, word
):
    """YAML reads these words as truth values, which other options take."""
    (tmp_path / "c.yaml").write_text(f"flip: {word}\nscale_lr: {word if word == 'yes' else 'off'}\n")
    flags = ["--backbone", small_backbone, "--method", "linear", "--config", tmp_path / "c.yaml"]
    code, plan, _ = call("train", class_folder, *flags, "--dry-run")
    assert code == 0 and f"flip {'off' if word in ('off', 'No', 'false') else 'on'}" in plan
    assert ("clips per step / 256" in plan) == (word == "yes")


@pytest.mark.parametrize("number", [".inf", "-.Inf", ".nan", "1e400"])
def test_numbers_that_are_not_finite_are_refused_before_anything_is_read(call, tmp_path, number):
    for verb, name, value in (
        ("train", "lr", number),
        ("train", "epochs", number),
        ("train", "dropout", number),
        ("train", "crop_scale", f"[0.5, {number}]"),
        ("train", "lora", f"{{scale: {number}}}"),
        ("compare", "lr", number),
        ("compare", "lr", f"[0.1, {number}]"),
    ):
        (tmp_path / "c.yaml").write_text(f"{name}: {value}\n")
        method = ["--method", "lora"] if verb == "train" else ["--methods", "lora"]
        code, out, err = call(verb, "nowhere", *method, "--config", tmp_path / "c.yaml")
        flag = "--lora.scale" if name == "lora" else f"--{name.replace('_', '-')}"
        assert code == 2 and out == "" and err.count("\n") == 1 and f"{flag} must be " in err, err
    number = number.replace(".Inf", "inf").replace(".", "") if "e" not in number else number
    for verb, flag in (("train", "--min-lr"), ("train", "--lora.scale"), ("doctor", "--timeout")):
        method = ["--method", "lora"] if verb == "train" else []
        code, out, err = call(verb, "nowhere", *method, f"{flag}={number}")
        assert code == 2 and out == "" and err.count("\n") == 1 and f"{flag} must be " in err, err


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30])
def test_seeds_out_of_range_are_refused_before_anything_is_read(call, seed):
    code, _, err = call("train", "nowhere", "--method", "linear", f"--seed={seed}")
    assert code == 2 and f"seed must be from 0 to 4294967295, got {seed}" in err
    code, _, err = call("compare", "nowhere", "--methods", "linear", f"--seeds=0,{seed}")
    assert code == 2 and f"--seeds must be whole numbers from 0 to 4294967295, got 0, {seed}" in err
