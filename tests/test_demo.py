"""The bundled weights and clips, and the demo, which runs from end to end on them."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from videossp import demo as module
from videossp.bundled import CLIPS, FOLDER, WEIGHTS, unpack_clips
from videossp.classifier import Classifier
from videossp.cli.main import main
from videossp.data.clips import read_views
from videossp.data.datasets import read_data
from videossp.data.doctor.examine import examine
from videossp.demo import demo_lines
from videossp.model.config import BACKBONES
from videossp.model.videomamba import VideoMamba
from videossp.training.config import TrainConfig

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundled")
    return unpack_clips(folder)


def test_bundled_files_are_small_and_have_the_hashes_of_their_card():
    card = (FOLDER / "README.md").read_text()
    for path, limit in ((WEIGHTS["videomamba_nano"], 8e6), (CLIPS, 3e6)):
        assert path.stat().st_size <= limit
        assert hashlib.sha256(path.read_bytes()).hexdigest() in card


def test_the_bundled_weights_are_those_of_a_videomamba_nano_under_published_names():
    file = load_file(WEIGHTS["videomamba_nano"])
    expected = VideoMamba(BACKBONES["videomamba_nano"]).state_dict()
    assert expected.keys() <= file.keys() <= expected.keys() | {"norm_f.weight"}
    assert all(file[name].shape == x.shape for name, x in expected.items())
    assert all(x.dtype == torch.float16 and x.isfinite().all() for x in file.values())
    made = Classifier.create(num_classes=2).backbone.state_dict()
    assert all(torch.equal(made[name], file[name].float()) for name in expected)


def test_the_bundled_backbone_has_random_weights_on_request():
    random = Classifier.create("videomamba_nano", weights="random", num_classes=2)
    bundled = Classifier.create("videomamba_nano", num_classes=2)
    assert random.source.random and not bundled.source.random
    assert "RANDOM" in random.notes[0] and "simulated robots" in bundled.notes[0]
    again = Classifier.create("videomamba_nano", weights="random", num_classes=2)
    assert random.sha256 == again.sha256 != bundled.sha256


def test_the_clips_can_be_decoded_and_their_splits_share_nothing(clips):
    folder, unseen = clips
    diagnosis = examine(folder, workers=1)
    assert not diagnosis.errors
    data = read_data(folder)
    assert {split: len(x) for split, x in data.splits.items()} == {"train": 144, "test": 72}
    assert len(data.classes) == 6 and len({x.split("-")[0] for x in data.classes}) == 3  # opposite pairs
    for split, samples in data.splits.items():
        counts = [sum(x.label == k for x in samples) for k in range(6)]
        assert len(set(counts)) == 1, split
    content = [Path(x.path).read_bytes() for samples in data.splits.values() for x in samples]
    content += [path.read_bytes() for path in unseen]
    assert len(set(content)) == len(content)
    assert all(path.stem in data.classes for path in unseen)


def nearest_mean(classifier, data):
    """Top-1 on test of the nearest class mean of standardised features, without anything that trains."""
    with torch.inference_mode():
        x, y = {}, {}
        for split, every in data.splits.items():
            samples = every[::2]
            views = torch.cat([read_views(sample.path, classifier.clip_format) for sample in samples])
            x[split] = torch.cat([classifier.features(part) for part in views.split(8)])
            y[split] = torch.tensor([sample.label for sample in samples])
    mean, std = x["train"].mean(0), x["train"].std(0) + 1e-6
    train, test = (x["train"] - mean) / std, (x["test"] - mean) / std
    means = torch.stack([train[y["train"] == k].mean(0) for k in range(len(data.classes))])
    return (torch.cdist(test, means).argmin(1) == y["test"]).float().mean().item()


def test_the_pretraining_helps_on_classes_that_were_not_in_it(clips):
    data = read_data(clips[0])
    pretrained = nearest_mean(Classifier.create(classes=data.classes).eval(), data)
    random = [
        nearest_mean(Classifier.create(weights="random", seed=seed, classes=data.classes).eval(), data)
        for seed in range(3)  # the weights of a seed depend on the version of torch
    ]
    assert pretrained > max(random) and pretrained > sum(random) / 3 + 0.1


def test_the_demo_runs_from_end_to_end(tmp_path, monkeypatch, capsys):
    short = {name: TrainConfig(epochs=1, batch_size=8, flip="off") for name in module.METHODS}
    monkeypatch.setattr(module, "METHODS", short)
    monkeypatch.setattr(module, "unpack_clips", thinned)
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["methods"].keys() == {"linear", "ssp", "gather_spread"} and results["doctor"]["error"] == 0
    assert sum(results["unseen"]["probabilities"].values()) == pytest.approx(1)
    page = (out / "report.html").read_text()
    assert all(cell in page for row in module.table_of(results) for cell in row)
    assert "<h2>Explanation of a prediction</h2>" in page and "data:image/gif" in page
    assert "<h2>Wrong" in page and "<h2>Learning curves</h2>" in page
    assert (out / "ssp" / "adapter").is_dir() and (out / "linear" / "report.html").is_file()
    assert main(["demo", "--out", str(out)]) == 2  # nothing is overwritten
    assert "is not empty" in capsys.readouterr().err


def thinned(folder):
    """The bundled clips, four of each class to train and two to test."""
    clips, unseen = unpack_clips(folder)
    for split, count in (("train", 4), ("test", 2)):
        head, *rows = (clips / f"{split}.csv").read_text().splitlines()
        seen = {}
        for row in rows:
            seen.setdefault(row.split(",")[1], []).append(row)
        kept = [row for row in rows if row in seen[row.split(",")[1]][:count]]
        (clips / f"{split}.csv").write_text("\n".join([head, *kept]) + "\n")
    return clips, unseen


def test_the_readme_shows_the_figures_of_a_run():
    results = json.loads((ROOT / "docs" / "demo.json").read_text())
    readme = (ROOT / "README.md").read_text()
    assert "\n".join(demo_lines(results)) in readme
    assert results["backbone_sha256"] == Classifier.create(module.BACKBONE, num_classes=2).sha256, (
        "run it again"
    )
    for method, config in module.METHODS.items():
        expected = {"epochs": config.epochs, "lr": config.lr, "options": module.OPTIONS[method]}
        assert expected.items() <= results["methods"][method].items(), "run it again"
    assert "docs/demo.png" in readme
    with Image.open(ROOT / "docs" / "demo.png") as picture:
        run = hashlib.sha256((ROOT / "docs" / "demo.json").read_bytes()).hexdigest()
        assert picture.info["Source"] == run, "of another run: CONTRIBUTING.md"
