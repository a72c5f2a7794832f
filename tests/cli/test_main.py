"""The command line: results on stdout, messages on stderr, exit codes, one-line errors."""

import contextlib
import inspect
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors import safe_open

from conftest import SMALL, SSP_SMALL, write_video
from videossp.classifier import Classifier
from videossp.cli.main import main
from videossp.comparison.intervals import wilson
from videossp.inference.predict import find_videos
from videossp.methods import METHODS
from videossp.model.config import BACKBONES

FLAGS = [f"--ssp.{name.replace('_', '-')}={value}" for name, value in SSP_SMALL.items()]


@pytest.fixture(scope="module")
def trained(class_folder, tmp_path_factory):
    """The run folder of a training from the command line, made once."""
    out, printed, messages = tmp_path_factory.mktemp("trained") / "run", io.StringIO(), io.StringIO()
    settings = ["--epochs", "3", "--batch-size", "4", "--lr", "1e-2", "--out", str(out), "--json"]
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(messages),
    ):
        patch.setitem(BACKBONES, "videomamba_small_test", SMALL)
        code = main(["train", str(class_folder), "--backbone", "videomamba_small_test", *FLAGS, *settings])
    stderr = messages.getvalue()
    assert code == 0, stderr
    summary = json.loads(printed.getvalue())
    assert summary["run"] == str(out) and summary["val_top1"] == 1.0
    assert "RANDOM weights" in stderr and "epoch 3/3" in stderr
    return out


@pytest.fixture
def run_folder(trained, small_backbone, tmp_path):
    """A copy of that run for one test."""
    return shutil.copytree(trained, tmp_path / "run")


def test_a_training_prints_a_table_of_its_results(call, small_backbone, class_folder, tmp_path):
    data, out = tmp_path / "clips", tmp_path / "run"
    shutil.copytree(class_folder, data)
    (data / "train" / "dark" / "broken.mp4").write_text("no video")
    settings = ["--epochs", 2, "--batch-size", 4, "--on-error", "skip", "--lr", 0.01, "--out", out]
    code, stdout, stderr = call("train", data, "--backbone", small_backbone, *FLAGS, *settings)
    assert code == 0 and "learning rate 0.01" in stderr
    table = {line[:20].strip(): line[20:] for line in stdout.splitlines()}
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    best = max(rows, key=lambda row: (row["val_top1"], -row["val_loss"]))
    with safe_open(out / "adapter" / "adapter_model.safetensors", "pt") as file:
        tuned = sum(np.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    assert table["weights"].startswith(f"{tuned:,.0f} of ")
    assert table["best epoch"].startswith(f"{best['epoch']} of 2,")
    assert table["validation"].startswith(f"top-1 {100 * best['val_top1']:.1f} %, mean class accuracy ")
    low, high = wilson(best["val_top1"], 4)  # of 8 + 9 videos, 2 of each class are held out
    assert table["95 % interval"].startswith(f"{100 * low:.1f} to {100 * high:.1f} %")
    assert table["videos not decoded"] == "train/dark/broken.mp4"
    assert table["time"].startswith(f"{sum(row['seconds'] for row in rows):.0f} s without validation, ")
    assert str(out / "adapter") in table["run folder"] and (out / "adapter").is_dir()


def test_train_then_eval_then_predict(call, run_folder, class_folder, tmp_path):
    code, stdout, _ = call("eval", run_folder, class_folder, "--segments", 2, "--crops", 3, "--json")
    result = json.loads(stdout)
    assert code == 0 and result["top1"] == 1.0 and result["views"] == "2 x 3" and result["split"] == "test"
    assert result["confusion"] == [[4, 0], [0, 4]]
    picture = tmp_path / "confusion.png"
    flags = ["--split", "train", "--confusion", picture, "--report", tmp_path / "page.html"]
    code, stdout, _ = call("eval", run_folder, class_folder, *flags)
    assert "top-1 100.0 %" in (tmp_path / "page.html").read_text()
    for flag in ("--confusion", "--report"):
        code_, _, said = call("eval", run_folder, class_folder, flag, tmp_path / "no" / "page.html")
        assert code_ == 2 and "in a folder that exists" in said
    # Wilson's interval of 16 of 16 videos: 16 / (16 + 1.96^2) to 1.
    assert code == 0 and "top-1 100.0 % (95 % interval 80.6 to 100.0 %)" in stdout
    assert "confusion matrix" in stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    videos = class_folder / "test" / "dark"
    command = ["predict", run_folder / "adapter", videos, videos / "0.mp4", "--top", 1, "--json"]
    code, stdout, stderr = call(*command)
    predictions = [*map(json.loads, stdout.splitlines())]
    assert code == 0 and len(predictions) == 4 and "1 repetitions of videos are left out" in stderr
    assert all(x["top"][0]["class"] == "dark" and len(x["top"]) == 1 for x in predictions)
    code, stdout, _ = call("predict", run_folder, videos / "0.mp4")
    assert code == 0 and re.fullmatch(r"(.*): [\d.]+ % dark, [\d.]+ % bright\n", stdout)[1] == str(
        videos / "0.mp4"
    )


def test_a_saved_config_reproduces_the_run(call, run_folder, class_folder, tmp_path):
    again = tmp_path / "again"
    code, _, stderr = call("train", "--config", run_folder / "config.yaml", "--out", again)
    assert code == 0, stderr

    def figures(folder):
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [(row["loss"], row["val_loss"]) for row in rows]

    assert figures(again) == figures(run_folder)
    configs = [yaml.safe_load((x / "config.yaml").read_text()) for x in (run_folder, again)]
    assert configs[0] == configs[1]
    model = "adapter/adapter_model.safetensors"
    assert (again / model).read_bytes() == (run_folder / model).read_bytes()


def test_the_config_of_a_chain_has_the_options_of_its_members_and_reproduces_the_run(
    call, small_backbone, class_folder, tmp_path
):
    flags = ["--method", "ssp+vpt", *FLAGS, "--vpt.length", 2, "--vpt.deep=false", "--epochs", 1]
    runs = [tmp_path / "run", tmp_path / "again"]
    code, _, stderr = call("train", class_folder, "--backbone", small_backbone, *flags, "--out", runs[0])
    assert code == 0 and f"{small_backbone} + ssp+vpt: " in stderr
    config = yaml.safe_load((runs[0] / "config.yaml").read_text())
    assert config["method"] == "ssp+vpt" and config["ssp"]["heads"] == 4 and config["vpt"]["length"] == 2
    assert call("train", "--config", runs[0] / "config.yaml", "--out", runs[1])[0] == 0
    models = [(run / "adapter" / "adapter_model.safetensors").read_bytes() for run in runs]
    assert models[0] == models[1] and (runs[1] / "config.yaml").read_text() == yaml.safe_dump(
        config, sort_keys=False, allow_unicode=True
    )


@pytest.mark.parametrize("method", METHODS)
def test_no_option_of_a_method_has_the_name_of_an_argument_of_create(method):
    """Its flag --METHOD.option could not reach it."""
    options = list(inspect.signature(METHODS[method]).parameters)[1:]
    assert not set(options) & set(inspect.signature(Classifier.create).parameters)


def test_predict_reports_videos_that_fail_and_predicts_the_others(call, run_folder, class_folder, tmp_path):
    folder = tmp_path / "mixed"
    write_video(folder / "good.mp4", np.full((4, 32, 32, 3), 220, np.uint8))
    (folder / "bad.mp4").write_bytes(b"no video")
    code, stdout, stderr = call("predict", run_folder, folder)
    assert code == 3 and "bad.mp4: FAILED" in stdout and " % bright" in stdout
    assert stderr.strip() == "videossp: 1 of 2 videos could not be decoded"


def test_evaluation_counts_skipped_videos_as_wrong(call, run_folder, tmp_path):
    for name, level in (("bright", 220), ("dark", 40)):
        write_video(tmp_path / "data" / name / "0.mp4", np.full((4, 32, 32, 3), level, np.uint8))
    (tmp_path / "data" / "dark" / "1.mp4").write_bytes(b"no video")
    code, _, stderr = call("eval", run_folder, tmp_path / "data")
    assert code == 3 and "1.mp4: not a readable video" in stderr
    code, stdout, _ = call("eval", run_folder, tmp_path / "data", "--on-error", "skip", "--json")
    result = json.loads(stdout)
    assert code == 0 and result["top1"] == pytest.approx(2 / 3) and list(result["failures"]) == ["dark/1.mp4"]


NANO = ["--backbone", "videomamba_nano", "--weights", "random", "--size", "32", "--frames", "2"]
ERRORS = {
    "no verb": (
        ["fly"],
        2,
        "no verb 'fly'; there are demo, train, compare, eval, predict, explain, export, watch",
    ),
    "no data": (["train", "NOWHERE", "--backbone", "videomamba_tiny"], 3, "no such file or folder"),
    "no backbone": (["train", "DATA", "--backbone", "videomamba_huge"], 4, "no backbone 'videomamba_huge'"),
    "wrong backbone": (["train", "DATA", "--backbone", "videomamba_huge"], 4, "name one of"),
    "unknown flag": (["train", "DATA", "--backbone", "videomamba_tiny", "--speed", "9"], 2, "speed"),
    "wrong type": (["train", "DATA", "--backbone", "videomamba_tiny", "--epochs", "many"], 2, "epochs"),
    "wrong value": (["train", "DATA", "--backbone", "videomamba_tiny", "--epochs", "0"], 2, "at least 1"),
    "wrong method": (
        ["train", "DATA", "--backbone", "videomamba_tiny", "--method", "sps"],
        2,
        "there are linear,",
    ),
    "wrong member": (
        ["train", "DATA", "--backbone", "videomamba_tiny", "--method", "ssp+"],
        2,
        "no method ''; there are linear,",
    ),
    "other's option": (
        ["train", "DATA", "--backbone", "videomamba_tiny", "--method", "linear", "--ssp.prompts", "2"],
        2,
        "options of ssp are given, but the method is linear",
    ),
    "no data to compare on": (["compare", "NOWHERE", *NANO, "--methods", "ssp"], 3, "no such file or folder"),
    "no methods": (["compare", "DATA", *NANO], 2, "methods"),
    "empty methods": (["compare", "DATA", *NANO, "--methods="], 2, "methods: at least one is needed"),
    "wrong methods": (["compare", "DATA", *NANO, "--methods", "ssp,sps"], 2, "no method 'sps'; there are"),
    "a method twice": (["compare", "DATA", *NANO, "--methods", "ssp,ssp"], 2, "repetitions"),
    "no seeds": (["compare", "DATA", *NANO, "--methods", "ssp", "--seeds="], 2, "seeds: at least one"),
    "wrong seeds": (["compare", "DATA", *NANO, "--methods", "ssp", "--seeds", "1,-2"], 2, "whole numbers"),
    "no such split": (["eval", "RUN", "DATA", "--split", "val"], 3, "no split val; it has"),
    "no classes to print": (["predict", "RUN", "DATA", "--top", "0"], 2, "--top must be at least 1"),
    "no rates": (["compare", "DATA", *NANO, "--methods", "ssp", "--lr="], 2, "--lr must be numbers"),
    "wrong rates": (
        ["compare", "DATA", *NANO, "--methods", "ssp", "--lr", "1e-3,x"],
        2,
        "--lr must be numbers",
    ),
    "a rate twice": (
        ["compare", "DATA", *NANO, "--methods", "ssp", "--lr", "0.1,1e-1"],
        2,
        "repetitions",
    ),
    "a rate of 0": (
        ["compare", "DATA", *NANO, "--methods", "ssp", "--lr", "0.1,0"],
        2,
        "lr must be above 0",
    ),
    "a seed twice": (
        ["compare", "DATA", *NANO, "--methods", "ssp", "--seeds", "1,01"],
        2,
        "repetitions",
    ),
    "impossible option": (
        ["compare", "DATA", *NANO, "--methods", "linear,ssp", "--ssp.heads", "7"],
        2,
        "heads must divide spread_width",
    ),
    "option of none of them": (
        ["compare", "DATA", *NANO, "--methods", "linear,vpt", "--ssp.heads", "4"],
        2,
        "options of ssp are given, but the method is linear, vpt",
    ),
    "no folder of a comparison": (
        ["compare", "DATA", *NANO, "--methods", "linear", "--out", "RUN"],
        2,
        "exists and is not a comparison",
    ),
    "wrong size": (["train", "DATA", "--backbone", "videomamba_tiny", "--size", "50"], 2, "multiples"),
    "no place for a picture": (["eval", "RUN", "DATA", "--confusion", "no/x.png"], 2, "a folder that exists"),
    "no views": (["predict", "RUN", "VIDEO", "--crops", "0"], 2, "segments and crops must be at least 1"),
    "no adapter": (["predict", "NOWHERE", "x.mp4"], 4, "no adapter here"),
    "no config": (["train", "--config", "NOWHERE/x.yaml", "--backbone", "videomamba_tiny"], 2, "x.yaml"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_mistakes_get_one_line_and_a_fitting_code(
    call, small_classifier, class_folder, tmp_path, tmp_path_factory, monkeypatch, case
):
    monkeypatch.chdir(tmp_path)
    run = tmp_path_factory.mktemp("adapter")
    small_classifier.save(run)
    arguments, expected, words = ERRORS[case]
    video = str(class_folder / "test" / "dark" / "0.mp4")
    places = {
        "DATA": str(class_folder),
        "RUN": str(run),
        "VIDEO": video,
        "NOWHERE": str(tmp_path / "nowhere"),
    }
    code, stdout, stderr = call(*(places.get(x, x.replace("NOWHERE", places["NOWHERE"])) for x in arguments))
    lines = [line for line in stderr.splitlines() if "RANDOM weights" not in line]
    assert code == expected and stdout == "" and words in stderr
    assert len(lines) == 1 and lines[0].startswith("videossp: ") and "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_predict_names_a_missing_video(call, small_classifier, tmp_path):
    small_classifier.save(tmp_path / "adapter")
    for name, words in (("none.mp4", "no such file"), (".", "no videos in this folder")):
        code, _, stderr = call("predict", tmp_path / "adapter", tmp_path / "adapter" / name)
        assert code == 3 and words in stderr


def test_predict_searches_folders_by_the_rules_of_the_readers(tmp_path, class_folder):
    for name in ("c1", "__MACOSX"):
        (tmp_path / "all" / name).mkdir(parents=True)
    (tmp_path / "all" / "c1" / "x.mp4").write_bytes(b"")
    for name in ("c1/._x.mp4", "__MACOSX/x.mp4"):
        (tmp_path / "all" / name).write_bytes(b"")
    (tmp_path / "all" / "c2").symlink_to(class_folder / "test" / "dark")
    (tmp_path / "all" / "c1" / "loop").symlink_to(tmp_path / "all")
    found = [Path(x).relative_to(tmp_path / "all").as_posix() for x in find_videos([str(tmp_path / "all")])]
    assert found == ["c1/x.mp4", *(f"c2/{i}.mp4" for i in range(4))]


def test_a_name_that_is_not_utf8_does_not_end_the_predictions(small_classifier, class_folder, tmp_path):
    small_classifier.save(tmp_path / "adapter")
    video = (class_folder / "test" / "dark" / "0.mp4").read_bytes()
    for name in (b"a.mp4", b"b\xff.mp4"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(video)
    stdout = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict")
    with contextlib.redirect_stdout(stdout):
        assert main(["predict", str(tmp_path / "adapter"), str(tmp_path), "--json"]) == 0
    stdout.flush()
    results = [*map(json.loads, stdout.buffer.getvalue().splitlines())]
    assert [x["error"] for x in results] == [None, None]


def test_eval_prints_figures_though_no_picture_can_be_written(call, small_backbone, class_folder, tmp_path):
    classifier = Classifier.create(small_backbone, classes=["bright", "dark"], method="linear")
    classifier.save(tmp_path / "adapter")
    (tmp_path / "x.png").mkdir()
    code, out, err = call("eval", tmp_path / "adapter", class_folder, "--confusion", tmp_path / "x.png")
    assert code == 1 and "top-1" in out and "Is a directory" in err


def test_a_dangling_link_named_runs_is_an_error(call, small_backbone, class_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(tmp_path / "not mounted")
    code, _, err = call("train", class_folder, "--backbone", small_backbone, "--method", "linear")
    assert code == 2 and "runs: exists and is no folder (a link to nothing?); give --out" in err


def test_an_existing_out_folder_is_not_removed_after_an_error(call, small_backbone, class_folder, tmp_path):
    (tmp_path / "mine").mkdir()
    flags = ["--backbone", small_backbone, "--method", "linear", "--val-fraction", 2]
    assert call("train", class_folder, *flags, "--out", tmp_path / "mine")[0] == 2
    flags[-2:] = ["--batch-size", 500, "--drop-last", "true"]
    assert call("train", class_folder, *flags, "--out", tmp_path / "mine")[0] == 3
    assert (tmp_path / "mine").is_dir()


def test_runs_without_out_get_the_next_free_number(call, small_backbone, class_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--backbone", small_backbone, "--method", "linear", "--epochs", 1]
    for _ in range(2):
        assert call("train", class_folder, *arguments)[0] == 0
    assert call("train", class_folder, *arguments, "--val-fraction", 2)[0] == 2
    assert sorted(x.name.split("-", 1)[1] for x in (tmp_path / "runs").iterdir()) == ["linear-1", "linear-2"]


def test_changes_to_a_checkpoint_are_reported(call, class_folder, tmp_path):
    import torch

    from conftest import published

    torch.save({"model": published(classes=7)}, tmp_path / "weights.pth")
    arguments = ["--backbone", tmp_path / "weights.pth", "--size", 48, "--frames", 3, "--method", "linear"]
    code, _, stderr = call("train", class_folder, *arguments, "--epochs", 1, "--out", tmp_path / "run")
    assert code == 0 and "RANDOM" not in stderr
    assert "head: 7 classes in the checkpoint, 2 here" in stderr
    assert "pos_embed: resized from (2, 2) to (3, 3) patches" in stderr
    assert "temporal_pos_embedding: resized from 4 to 3 frames" in stderr
    assert call("predict", tmp_path / "run", class_folder / "test" / "dark" / "0.mp4")[0] == 0


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ValueError, match="no adapter here"):
        main(["predict", str(tmp_path), "x.mp4", "--debug"])


def test_help_version_and_info(call):
    assert call("--help")[0] == 0 and call()[0] == 2
    assert call("--version")[1].strip()
    code, stdout, _ = call("info", "--json")
    facts = json.loads(stdout)
    assert code == 0 and facts["scan on cpu"] == "numba" and "ssp" in facts["methods"]
    for verb in ("train", "compare", "eval", "predict", "info", "bench"):
        with pytest.raises(SystemExit) as end:
            main([verb, "--help"])
        assert end.value.code == 0


def test_bench_prints_the_figures_of_this_machine(call, monkeypatch):
    monkeypatch.setitem(BACKBONES, "videomamba_nano", SMALL)
    code, stdout, _ = call("bench", "--backbone", "videomamba_nano", "--rounds", "1", "--json")
    facts = json.loads(stdout)
    assert code == 0 and facts.pop("backbone") == "videomamba_nano" and facts.pop("device") == "cpu"
    assert all(value > 0 for value in facts.values())
    code, stdout, _ = call("bench", "--backbone", "videomamba_nano", "--rounds", "1")
    assert code == 0 and all(name in stdout for name in facts if name != "threads")
    assert call("bench", "--rounds", "0")[0] == 2


def test_bf16_predictions_from_the_command_line(call, run_folder, class_folder):
    video, tops = class_folder / "test" / "dark" / "0.mp4", []
    for precision in ("float32", "bf16"):
        code, stdout, _ = call("predict", run_folder, video, "--precision", precision, "--json")
        assert code == 0
        tops.append({x["class"]: x["probability"] for x in json.loads(stdout)["top"]})
    assert tops[0] != tops[1] and all(abs(tops[0][name] - p) < 0.02 for name, p in tops[1].items())
    assert call("eval", run_folder, class_folder, "--precision", "bf16")[0] == 0
    assert call("predict", run_folder, video, "--precision", "fp8")[0] == 2


def test_an_interrupted_training_keeps_its_best_adapter(class_folder, tmp_path):
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-c",
        "import sys; from videossp.cli.main import main; sys.exit(main())",
        "train",
    ]
    flags = ["--backbone", "videomamba_nano", "--size", "32", "--frames", "2", "--epochs", "1000", *FLAGS]
    process = subprocess.Popen(
        [*command, str(class_folder), *flags, "--out", str(out)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not (out / "adapter" / "README.md").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130 and f"the best adapter so far is {out / 'adapter'}" in stderr
    assert "Traceback" not in stderr
    assert main(["predict", str(out), str(class_folder / "test" / "dark" / "0.mp4")]) == 0


@pytest.mark.parametrize(
    ("arguments", "config", "name"),
    [
        (["--epochz", "3"], "", "--epochs"),
        (["--batch-sise=3"], "", "--batch-size"),
        (["--ssp.gather-widht", "3"], "", "--ssp.gather-width"),
        ([], "epochz: 3", "epochs"),
        ([], "ssp: {heeds: 3}", "ssp.heads"),
        ([], "batch-size: 3", "batch_size"),
    ],
)
def test_an_unknown_name_is_an_error_that_suggests_the_nearest(
    call, class_folder, tmp_path, arguments, config, name
):
    (tmp_path / "config.yaml").write_text(config or "{}")
    flags = ["--backbone", "videomamba_nano", "--config", tmp_path / "config.yaml", "--dry-run"]
    code, stdout, stderr = call("train", class_folder, *flags, *arguments)
    assert code == 2 and stdout == "" and f"did you mean {name}?" in stderr and stderr.count("\n") == 1
