"""Settings and plans of a training; groups and learning rates of the optimiser."""

import csv
import json
import math
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from conftest import SMALL, SSP_SMALL
from videossp.classifier import Classifier
from videossp.cli.main import main
from videossp.data.datasets import Sample, VideoDataset
from videossp.errors import DataError
from videossp.methods import default_lr
from videossp.model.config import BACKBONES
from videossp.model.hooks import Tuner
from videossp.training.config import RENAMED, TrainConfig, current_names, has_old_names
from videossp.training.loop import Loop
from videossp.training.optimizer import parameter_groups
from videossp.training.plan import make_plan, resolve, steps_per_epoch
from videossp.training.splits import choose_splits
from videossp.training.summaries import plan_lines
from videossp.training.train import wanted_device

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def data(classes=("a", "b"), **splits):
    """As many samples as asked for of each split."""
    return VideoDataset(
        classes,
        {
            split: [Sample(f"/{split}{i}", f"{split}{i}", i % len(classes)) for i in range(count)]
            for split, count in splits.items()
        },
    )


def test_existing_val_split_is_used_unchanged():
    samples = data(train=4, val=4, test=4)
    training, validation, how, warnings = choose_splits(samples, ("a", "b"), TrainConfig())
    assert (training, validation) == (samples.splits["train"], samples.splits["val"])
    assert how == "the val split" and not warnings


def test_validation_videos_that_are_test_videos_are_warned_of():
    """As the lists of many published runs are."""
    samples = data(train=4, test=4)
    samples.splits["val"] = samples.splits["test"][:3]
    *_, warnings = choose_splits(samples, ("a", "b"), TrainConfig())
    assert warnings == [
        "3 of 3 validation videos are also test videos: the epoch is selected on TEST videos, "
        "which gives an optimistically biased accuracy"
    ]


def test_the_epoch_is_selected_on_the_test_split_on_request_with_a_warning():
    samples = data(train=4, val=2, test=4)
    training, validation, how, warnings = choose_splits(samples, ("a", "b"), TrainConfig(select_on="test"))
    assert (training, validation) == (samples.splits["train"], samples.splits["test"])
    assert how == "the test split" and "TEST" in warnings[0]
    with pytest.raises(DataError, match="no test split"):
        choose_splits(data(train=4), ("a", "b"), TrainConfig(select_on="test"))


def test_no_group_is_divided_between_training_and_validation():
    members = [Sample(f"/{i}", f"{i}", i % 2, group=f"person {i // 4}") for i in range(20)]
    samples = VideoDataset(("a", "b"), {"train": members})
    training, validation, how, _ = choose_splits(samples, ("a", "b"), TrainConfig())
    assert not {x.group for x in training} & {x.group for x in validation} and validation
    assert "whole groups" in how


def test_nothing_to_train_on_or_to_validate_with():
    with pytest.raises(DataError, match="no training split"):
        choose_splits(data(test=2), ("a", "b"), TrainConfig())
    with pytest.raises(DataError, match="too few videos"):
        choose_splits(data(train=2), ("a", "b"), TrainConfig())
    with pytest.raises(DataError, match="do not fill one step"):
        make_plan(data(train=4, val=4), ("a", "b"), TrainConfig(lr=1e-3, drop_last=True))


@pytest.mark.parametrize(
    ("videos", "change", "steps"),
    [
        (64, {}, 8),
        (65, {}, 9),
        (65, {"drop_last": True}, 8),
        (65, {"grad_accum_steps": 4}, 3),
        (65, {"grad_accum_steps": 4, "drop_last": True}, 2),
    ],
)
def test_steps_of_an_epoch(videos, change, steps):
    assert steps_per_epoch(videos, TrainConfig(**change)) == steps


def test_the_papers_rule_scales_both_ends_by_the_clips_of_a_step():
    config = TrainConfig(batch_size=8, grad_accum_steps=4, num_sample=2, lr=3e-3, min_lr=1e-6, scale_lr=True)
    plan = make_plan(data(train=100, val=4), ("a", "b"), config)
    assert plan.clips_per_step == 64
    assert plan.lr == pytest.approx(7.5e-4) and plan.min_lr == pytest.approx(2.5e-7)


def test_flip_is_disabled_with_a_note_or_refused_where_class_names_hold_a_direction():
    classes = ("turn left", "turn right")
    plan = make_plan(data(classes, train=8, val=4), classes, TrainConfig(lr=1e-3))
    assert not plan.flip and "'turn left' and 'turn right'" in plan.notes[-1] and not plan.warnings
    with pytest.raises(ValueError, match="'turn left' and 'turn right'"):
        make_plan(data(classes, train=8, val=4), classes, TrainConfig(lr=1e-3, flip="on"))
    assert make_plan(data(classes, train=8, val=4), classes, TrainConfig(lr=1e-3, flip="force")).flip


def test_the_learning_rate_warms_up_and_falls_along_a_cosine():
    config = TrainConfig(epochs=10, lr=2.0, min_lr=0.2, warmup_epochs=2, batch_size=4)
    factor = make_plan(data(train=20, val=4), ("a", "b"), config).rate_factor
    rates = [2.0 * factor(step) for step in range(51)]
    assert rates[9] == pytest.approx(2.0) and rates[4] == pytest.approx(0.2 + 1.8 / 2)
    assert rates[30] == pytest.approx(1.1) and rates[50] == pytest.approx(0.2)
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)


def groups_of(classifier, **change):
    """(rate, weight decay) by parameter name."""
    config = TrainConfig(lr=1.0, **change)
    plan = make_plan(data(train=20, val=4), ("a", "b"), config)
    names = {id(x): name for name, x in classifier.trainable().items()}
    groups = parameter_groups(classifier, plan, config)
    found = {names[id(x)]: (g["lr"], g["weight_decay"]) for g in groups for x in g["params"]}
    assert set(found) == set(names.values()) and sum(len(g["params"]) for g in groups) == len(names)
    return found


def test_only_matrices_are_decayed(small_backbone):
    groups = groups_of(Classifier.create(small_backbone, num_classes=2, **SSP_SMALL))
    decayed = {name for name, (_, decay) in groups.items() if decay}
    assert all(groups[name][1] == 0.05 and name.endswith("weight") for name in decayed)
    assert not {"tuner.gain", "tuner.spread.0.scale", "head.norm.weight"} & decayed
    assert "tuner.gather.down.weight" in decayed


def test_layer_decay_gives_each_block_its_rate(small_backbone):
    """Three blocks: embedding 0.5^4, blocks 0.5^3, 0.5^2, 0.5, the head 1."""
    groups = groups_of(Classifier.create(small_backbone, num_classes=2, method="full"), layer_decay=0.5)
    assert groups["backbone.patch_embed.proj.weight"][0] == 0.5**4
    assert groups["backbone.temporal_pos_embedding"][0] == 0.5**4
    assert [groups[f"backbone.layers.{i}.mixer.D"][0] for i in range(3)] == [0.125, 0.25, 0.5]
    assert groups["head.linear.weight"][0] == groups["head.norm.weight"][0] == 1.0
    same = groups_of(Classifier.create(small_backbone, num_classes=2, method="full"))
    assert {rate for rate, _ in same.values()} == {1.0}


@pytest.mark.parametrize(
    ("method", "options", "names"),
    [
        ("lora", {}, {"pairs.in_proj.0.0.weight": 0.125, "pairs.out_proj.2.1.weight": 0.5}),
        ("adapter", {"scale": None}, {"down.0.weight": 0.125, "up.2.bias": 0.5, "scale": 1.0}),
        ("svp", {}, {"down.1.weight": 0.25, "alpha.2": 0.5, "cross.0.weight": 1.0}),
        ("st_adapter", {"layers": 2}, {"bottlenecks.0.down.weight": 0.25, "bottlenecks.1.up.bias": 0.5}),
        ("additional_scan", {}, {"BC.0.weight": 0.125, "BC.1.weight": 0.125, "BC.5.weight": 0.5, "A": 1.0}),
        ("ssp", SSP_SMALL, {"gather.down.weight": 1.0}),
        ("ssp+lora", {"ssp": SSP_SMALL}, {"lora.pairs.in_proj.1.0.weight": 0.25, "ssp.gain": 1.0}),
    ],
)
def test_layer_decay_gives_method_weights_the_rate_of_their_block(small_backbone, method, options, names):
    classifier = Classifier.create(small_backbone, num_classes=2, method=method, **options)
    groups = groups_of(classifier, layer_decay=0.5)
    assert {name: groups[f"tuner.{name}"][0] for name in names} == names


IMPOSSIBLE = [
    {"epochs": 0},
    {"grad_accum_steps": 0},
    {"num_sample": 0},
    {"lr": 0.0},
    {"layer_decay": 1.5},
    {"seed": -1},
    {"label_smoothing": 3.0},
    {"erasing": 2.0},
    {"mixup": -1.0},
    {"val_fraction": 1.0},
    {"crop_scale": (0.9, 0.1)},
    {"workers": -1},
    {"rand_augment": "rand-x7"},
    {"flip": "sometimes"},
    {"select_on": "train"},
    {"on_error": "ignore"},
    {"precision": "fp16"},
    {"crop_scale": (0.5,)},
    {"epochs": 2.5},
    {"batch_size": True},
    {"seed": 2**32},
    {"drop_last": "yes"},
    {"scale_lr": 1},
    {"grad_checkpoint": None},
    {"lr": "1e-3"},
    {"lr": True},
    {"mixup": False},
    {"timeout": None},
    {"epochs": "3"},
    {"crop_scale": ("0.5", 1.0)},
    {"crop_scale": 0.5},
    {"crop_scale": "0.5"},
    {"trackers": "tensorboard"},
    {"trackers": (1,)},
    {"rand_augment": None},
    {"features": 3},
    {"flip": False},
    {"flip": ["on"]},
]


def test_numbers_of_numpy_and_whole_numbers_for_fractions_are_accepted():
    config = TrainConfig(epochs=np.int64(3), lr=np.float32(0.5), mixup=1, crop_scale=[1, 1], timeout=0)
    assert config.epochs == 3 and config.crop_scale == (1, 1)


@pytest.mark.parametrize("change", IMPOSSIBLE)
def test_impossible_settings_are_refused(change):
    with pytest.raises(ValueError, match=f"^{next(iter(change))} must |^'rand-x7'"):
        TrainConfig(**change)


NUMBERS = ["lr", *(x.name for x in fields(TrainConfig) if isinstance(x.default, (int, float)))]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [*NUMBERS, "crop_scale"])
def test_settings_that_are_not_finite_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be (finite|a whole number|True or False)"):
        TrainConfig(**{name: (value, 1.0) if name == "crop_scale" else value})


@pytest.mark.parametrize(
    ("epochs", "warmup", "reached"),
    [(1, 1.0, "100 %"), (2, 5.0, "40 %"), (3, 3.0, "100 %"), (4, 16.0, "25 %"), (2, 1.7, ""), (10, 1.0, "")],
)
def test_a_run_that_ends_within_its_warm_up_is_warned_of(epochs, warmup, reached):
    """The percentage is that of the last step's learning rate."""
    config = TrainConfig(epochs=epochs, warmup_epochs=warmup, lr=1.0, min_lr=0.0, batch_size=4)
    plan = make_plan(data(train=20, val=4), ("a", "b"), config)
    if not reached:
        assert plan.warnings == ()
        return
    assert len(plan.warnings) == 1 and f"ends at {reached} of its peak and never decays" in plan.warnings[0]
    assert f"{100 * plan.rate_factor(plan.steps - 1):.0f} %" == reached


def test_by_default_a_training_computes_in_bf16_on_cuda_and_in_float32_elsewhere(small_backbone):
    classifier = Classifier.create(small_backbone, num_classes=2, method="linear")
    devices = (CPU, GPU, torch.device("mps"))
    assert [resolve(TrainConfig(), classifier, x).precision for x in devices] == [
        "float32",
        "bf16",
        "float32",
    ]
    for precision in ("float32", "bf16"):
        given = TrainConfig(precision=precision)
        assert {resolve(given, classifier, x).precision for x in devices} == {precision}


def test_without_a_learning_rate_that_of_method_and_backbone_is_used(small_backbone):
    classifier = Classifier.create(small_backbone, num_classes=2, method="linear")
    config = resolve(TrainConfig(), classifier, CPU)
    assert config.lr == default_lr("linear", classifier.backbone.config) > 0
    assert resolve(TrainConfig(lr=0.5), classifier, CPU).lr == 0.5
    plan = make_plan(data(train=20, val=4), ("a", "b"), config)
    source = "(default: not measured for linear on this backbone)"
    assert f"learning rate {config.lr:.3g} {source}" in plan_lines(classifier, plan, config, CPU)
    given = TrainConfig(lr=0.5)
    plan = make_plan(data(train=20, val=4), ("a", "b"), given)
    assert "learning rate 0.5" in plan_lines(classifier, plan, given, CPU)


def test_the_default_rate_of_a_class_that_is_not_registered_is_its_own(small_backbone):
    class Unregistered(Tuner):
        lr = 0.07

        def __init__(self, config):
            super().__init__()

    classifier = Classifier.create(small_backbone, num_classes=2, method=Unregistered)
    assert resolve(TrainConfig(), classifier, CPU).lr == 0.07


def test_settings_with_old_names_get_the_current_ones():
    old = {"ema": 0.5, "lr": 1e-2, "scale": [0.3, 1.0], "lora": {"scale": 2.0}}
    assert has_old_names(old) and not has_old_names(current_names(old))
    assert current_names(old) == {
        "ema_decay": 0.5,
        "lr": 1e-2,
        "crop_scale": [0.3, 1.0],
        "lora": {"scale": 2.0},
    }
    assert set(RENAMED.values()) < {x.name for x in fields(TrainConfig)}


def test_a_peak_below_the_ends_is_refused():
    with pytest.raises(ValueError, match="min_lr, the learning rate at both ends, is above the peak"):
        TrainConfig(lr=1e-7)
    TrainConfig(lr=1e-7, min_lr=1e-8)


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    small_backbone, class_folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    flags = ["--backbone", small_backbone, "--method", "linear", "--batch-size", "4", "--scale-lr", "true"]
    assert main(["train", str(class_folder), *flags, "--lr", "0.5", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "12 training videos, 4 validation videos" in out and "10 epochs of 3 steps" in out
    assert "learning rate 0.00781 = 0.5 x 4 clips per step / 256" in out and "test views" not in out
    assert main(["train", str(class_folder), *flags, "--views", "[8,3]", "--dry-run"]) == 0
    assert "4 frames, uniform; test views (segments x crops) 8 x 3" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_lists_the_warnings_of_the_classifier(class_folder, monkeypatch, capsys):
    monkeypatch.setitem(BACKBONES, "videomamba_unpublished_test", SMALL)
    flags = ["--backbone", "videomamba_unpublished_test", "--epochs", "1", "--dry-run", "--json"]
    assert main(["train", str(class_folder), "--method", "linear", *flags]) == 0
    out, err = capsys.readouterr()
    random, warmup = json.loads(out)["warnings"]
    assert "RANDOM weights" in random and random in err
    assert warmup.startswith("the warm-up takes")


CONFLICT = ["--method", "linear", "--fixed-augmentations", "2", "--mixup", "0.5"]


@pytest.mark.parametrize("more", [[], ["--out", "R"], ["--dry-run"]])
def test_a_cache_of_features_with_mixup_is_refused_before_a_folder_is_made(
    small_backbone, class_folder, tmp_path, capsys, monkeypatch, more
):
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(class_folder), "--backbone", small_backbone, *CONFLICT, *more]) == 2
    assert "mixup and cutmix mix pixels: leave out one of them" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [[], ["--out", "R"]])
def test_a_training_that_fails_before_its_first_file_leaves_no_folder(
    small_backbone, class_folder, tmp_path, monkeypatch, more
):
    """The lock is in the folder by then."""

    def fail(*_):
        assert [x.name for x in tmp_path.rglob(".lock")] == [".lock"]
        raise ValueError("no loop")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Loop, "__init__", fail)
    assert main(["train", str(class_folder), "--backbone", small_backbone, "--method", "linear", *more]) == 2
    assert list(tmp_path.iterdir()) == []


def test_flags_override_the_config_file_in_any_order(small_backbone, class_folder, tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(f"data: /nowhere\nbackbone: {small_backbone}\nmethod: linear\nepochs: 3\n")
    arguments = [str(class_folder), "--epochs", "7", "--config", str(config), "--dry-run", "--json"]
    assert main(["train", *arguments]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["epochs"] == 7


def test_a_run_on_a_csv_file_is_repeated_by_its_config(small_backbone, class_folder, tmp_path, capsys):
    table = tmp_path / "clips.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        for path in sorted((class_folder / "train").glob("*/*.mp4")):
            rows.writerow([path.relative_to(class_folder).as_posix(), path.parent.name])
    flags = ["--backbone", small_backbone, "--method", "linear", "--epochs", "1"]
    videos = ["--videos", str(class_folder)]
    assert main(["train", str(table), *flags, *videos, "--out", str(tmp_path / "run")]) == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (config["data"], config["format"], config["videos"]) == (str(table), "csv", str(class_folder))
    again = ["--config", str(tmp_path / "run" / "config.yaml"), "--out", str(tmp_path / "again")]
    assert main(["train", *again]) == 0
    weights = [tmp_path / x / "adapter" / "adapter_model.safetensors" for x in ("run", "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_the_letters_of_a_str_are_no_classes():
    with pytest.raises(ValueError, match="classes must be a list of names, got the str 'ab'"):
        VideoDataset("ab", {})


def test_the_plan_names_a_device_that_is_no_cpu_and_the_precision(small_backbone, monkeypatch):
    classifier = Classifier.create(small_backbone, num_classes=2, method="linear")
    facts = SimpleNamespace(name="NVIDIA H100", total_memory=80e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)
    lines = {}
    for device in (CPU, torch.device("cuda", 1), torch.device("mps")):
        config = resolve(TrainConfig(), classifier, device)
        plan = make_plan(data(train=20, val=4), ("a", "b"), config)
        found = [x for x in plan_lines(classifier, plan, config, device) if x.startswith("device ")]
        lines[device.type] = found
    assert lines == {
        "cpu": [],
        "cuda": ["device cuda:1, NVIDIA H100, 80 GB; matrix products in bf16"],
        "mps": ["device mps, which has no fast kernels here: slow; matrix products in float32"],
    }


@pytest.mark.parametrize(
    "asked, place, several, wanted",
    [
        ("auto", "cpu", False, "auto"),
        ("auto", "cuda:1", False, "cuda:1"),
        ("auto", "cuda:1", True, "cuda"),
        ("cpu", "cuda:1", False, "cpu"),
    ],
)
def test_auto_is_the_device_of_a_classifier_that_is_not_on_the_cpu(
    monkeypatch, asked, place, several, wanted
):
    monkeypatch.setenv("WORLD_SIZE", "2" if several else "1")
    classifier = SimpleNamespace(device=torch.device(place))
    assert str(wanted_device(TrainConfig(device=asked), classifier)) == wanted
