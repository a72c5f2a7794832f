"""A run folder of version 0.1, left by an interruption, is resumed bit-identically (tests/golden/old_run)."""

import json
import platform
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from test_resume import TIMES, assert_same, outcome

from conftest import GOLDEN
from videossp.classifier import Classifier
from videossp.cli.main import main
from videossp.data.datasets import read_data
from videossp.methods import published_options
from videossp.model.config import BACKBONES, VideoMambaConfig
from videossp.system.versions import versions
from videossp.training.checkpoints import list_states, load_state, save_state
from videossp.training.config import TrainConfig, current_names, has_old_names
from videossp.training.train import train
from videossp.training.train_step import TrainStep

OLD = GOLDEN / "old_run"
CREATE = ("backbone", "weights", "frames", "size", "sampling", "stride", "views", "drop_path", "dropout")


@pytest.fixture
def old_run(tmp_path, monkeypatch):
    """A copy of the old run folder, whose config.yaml names the copied data and the weights of the backbone.

    The old version drew these weights itself; another processor or version of torch may draw others.
    """
    config = VideoMambaConfig(depth=2, d_model=16, frames=2, size=(32, 32), d_state=4)
    monkeypatch.setitem(BACKBONES, "videomamba_old_run", config)
    torch.set_num_threads(1)  # as it was made
    for name in ("data", "run"):
        shutil.copytree(OLD / name, tmp_path / name)
    settings = tmp_path / "run" / "config.yaml"
    text = settings.read_text().replace("data: DATA", f"data: {tmp_path / 'data'}")
    settings.write_text(text.replace("weights: null", f"weights: {OLD / 'backbone.safetensors'}"))
    return tmp_path / "run"


def arguments_from(run, **change):
    """Classifier, data and settings as the old config.yaml means them."""
    old = yaml.safe_load((run / "config.yaml").read_text())
    assert has_old_names(old)
    settings = current_names(old) | change
    data = read_data(settings["data"])
    options = published_options(settings["method"], settings[settings["method"]])
    create = {name: settings[name] for name in CREATE}
    classifier = Classifier.create(
        **create, classes=data.classes, method=settings["method"], seed=settings["seed"], **options
    )
    fields = {name: x for name, x in settings.items() if name in TrainConfig.__dataclass_fields__}
    return classifier, data, TrainConfig(**fields)


class Break(Exception):
    pass


@pytest.fixture
def old_run_of_here(old_run, tmp_path, monkeypatch):
    """The old run folder with the tensors that this machine computes up to the interruption.

    Its settings and their names are those that the old version wrote. Weights that another processor computed
    could not be compared bit by bit.
    """
    _, old = load_state(old_run / "checkpoints", pytest.fail)
    loss = TrainStep.loss

    def break_in_step_6(self, batch, number):
        if self.state.step == 5:
            raise Break
        return loss(self, batch, number)

    with monkeypatch.context() as patch, pytest.raises(Break):
        patch.setattr(TrainStep, "loss", break_in_step_6)
        train(*arguments_from(old_run), out=tmp_path / "broken")
    tensors, own = load_state(tmp_path / "broken" / "checkpoints", pytest.fail)
    assert own["step"] == old["step"] == 5 and own.keys() == old.keys()
    shutil.rmtree(old_run / "checkpoints")
    save_state(old_run / "checkpoints", 5, tensors, {**own, "settings": old["settings"]})
    return old_run


def on_the_machine_of(made):
    """Whether numbers must be those of another run to the bit: the same libraries, processor, instructions.

    Virtual machines give processors with and without AVX-512 the same name.
    """
    cpu = Path("/proc/cpuinfo")
    model = cpu.read_text().partition("model name\t: ")[2].split("\n")[0] if cpu.is_file() else ""
    here = {name: x for name, x in versions().items() if name != "videossp"}
    there = {name: x for name, x in made["versions"].items() if name != "videossp"}
    vectors = torch.backends.cpu.get_cpu_capability()
    known = made["machine"], made["cpu"], made["vectors"]
    return here == there and (platform.machine(), model, vectors) == known


def test_an_old_run_is_resumed_to_the_weights_and_figures_of_an_uninterrupted_one(old_run_of_here, tmp_path):
    old_run = old_run_of_here
    ((step, _),) = list_states(old_run / "checkpoints")
    assert step == 5
    train(*arguments_from(old_run), out=tmp_path / "quiet")
    run = train(*arguments_from(old_run), out=old_run, resume=True)
    assert_same(old_run, tmp_path / "quiet")
    assert len(run.history) == 3 and not list_states(old_run / "checkpoints")


def test_an_old_run_ends_as_the_old_version_would_have_ended_it(old_run):
    train(*arguments_from(old_run), out=old_run, resume=True)
    weights, _, rows = outcome(old_run)
    expected = load_file(OLD / "end" / "adapter_model.safetensors")
    history = [json.loads(line) for line in (OLD / "end" / "metrics.jsonl").read_text().splitlines()]
    history = [{name: x for name, x in row.items() if name not in TIMES} for row in history]
    assert weights.keys() == expected.keys() and rows[:2] == history[:2]  # in the checkpoint
    made = json.loads((OLD / "end" / "machine.json").read_text())
    if on_the_machine_of(made):
        assert all(torch.equal(weights[name], x) for name, x in expected.items()) and rows == history
    if (torch.__version__, platform.machine()) == (made["versions"]["torch"], made["machine"]):
        for name, x in expected.items():  # others may draw other dropout
            torch.testing.assert_close(weights[name], x, rtol=1e-2, atol=1e-3)


def test_other_settings_than_those_of_an_old_run_are_refused_by_their_current_names(old_run):
    for change, words in (
        ({"ema_decay": 0.5}, r"ema_decay: 0\.9 before, 0\.5 now"),
        ({"adapter": {"drop": 0.1, "width": 8}}, r"options\.width: 64 before, 8 now"),
        ({"layer_decay": 0.5, "seed": 2}, r"layer_decay: 1\.0 before, 0\.5 now; .*seed: 1 before, 2 now"),
    ):
        classifier, data, config = arguments_from(old_run, **change)
        with pytest.raises(ValueError, match=rf"these settings differ: .*{words}"):
            train(classifier, data, config, out=old_run, resume=True)


def test_the_old_checkpoint_has_old_names_and_leaves_options_out():
    """The fixtures of this file hold old settings, not current ones."""
    _, facts = load_state(OLD / "run" / "checkpoints", pytest.fail)
    assert has_old_names(facts["settings"]) and facts["settings"]["options"] == {"drop": 0.1}
    assert facts["best_epoch"] == 2 and facts["step"] == 5


def test_the_command_line_resumes_an_old_run(old_run_of_here, tmp_path):
    old_run = old_run_of_here
    train(*arguments_from(old_run), out=tmp_path / "quiet")
    assert main(["train", "--resume", str(old_run)]) == 0
    assert_same(old_run, tmp_path / "quiet")
