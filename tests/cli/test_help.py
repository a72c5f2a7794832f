"""The help of every verb: short, grouped, and with the options of the chosen method only."""

import argparse
import inspect
import re
from dataclasses import fields

import pytest

from videossp.classifier import Classifier
from videossp.cli.main import main
from videossp.cli.options import SUPPRESS, argument_docs, first_clause, metavar_of
from videossp.cli.verbs import VERBS
from videossp.methods import METHODS
from videossp.model.hooks import Tuner
from videossp.training.config import TrainConfig

GROUPS = ["optimisation", "augmentation", "validation and checkpoints", "hardware", "output"]


@pytest.fixture
def help_of(capsys, monkeypatch):
    """The help of a command, on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def show(*arguments):
        with pytest.raises(SystemExit) as end:
            main([*map(str, arguments), "--help"])
        out, err = capsys.readouterr()
        assert end.value.code == 0 and err == ""
        return out

    return show


def flags_of(text):
    """The flags that a help text lists, in order."""
    return re.findall(r"^  --([\w.-]+)", text, re.MULTILINE)


def options_of(method):
    """The flags of a method."""
    names = list(inspect.signature(METHODS[method]).parameters)[1:]
    return [f"{method}.{name}".replace("_", "-") for name in names]


@pytest.mark.parametrize("method", METHODS)
def test_train_shows_the_options_of_its_method_only(help_of, method):
    text = help_of("train", "--method", method)
    assert len(text.splitlines()) < 120 and max(map(len, text.splitlines())) < 100
    assert [x for x in flags_of(text) if "." in x] == options_of(method)
    titles = ["data", "backbone", "method", f"options of {method}", *GROUPS]
    assert re.findall(r"^(\w[\w ]*):$", text, re.MULTILINE) == titles


def test_ssp_is_the_method_whose_options_are_shown_by_default(help_of):
    assert help_of("train") == help_of("train", "--method=ssp")


def test_train_shows_every_training_setting_and_no_flag_twice(help_of):
    shown = flags_of(help_of("train", "--method", "linear"))
    assert len(shown) == len(set(shown))
    assert {x.name.replace("_", "-") for x in fields(TrainConfig)} <= set(shown)
    create = inspect.signature(Classifier.create).parameters.keys()
    assert {x.replace("_", "-") for x in create - {"num_classes", "classes", "options"}} <= set(shown)


def test_the_options_of_a_chain_are_those_of_its_members(help_of):
    shown = flags_of(help_of("train", "--method", "lora+vpt"))
    assert [x for x in shown if "." in x] == options_of("lora") + options_of("vpt")


@pytest.mark.parametrize("separator", ["=", " "])
def test_compare_shows_the_options_of_the_methods_it_is_given(help_of, separator):
    shown = flags_of(help_of("compare", *f"--methods{separator}ssp,lora+vpt,linear".split()))
    assert [x for x in shown if "." in x] == options_of("ssp") + options_of("lora") + options_of("vpt")
    assert not [x for x in flags_of(help_of("compare")) if "." in x]


def test_the_method_of_a_config_file_counts_unless_a_flag_names_another(help_of, tmp_path):
    (tmp_path / "config.yaml").write_text("method: vpt\n")
    config = ["--config", tmp_path / "config.yaml"]
    assert {x.split(".")[0] for x in flags_of(help_of("train", *config)) if "." in x} == {"vpt"}
    assert {x.split(".")[0] for x in flags_of(help_of("train", "--resume", tmp_path)) if "." in x} == {"vpt"}
    shown = flags_of(help_of("train", *config, "--method", "lora"))
    assert {x.split(".")[0] for x in shown if "." in x} == {"lora"}
    (tmp_path / "config.yaml").write_text("methods: [vpt, stop]\n")
    shown = flags_of(help_of("compare", *config))
    assert {x.split(".")[0] for x in shown if "." in x} == {"vpt", "stop"}


@pytest.mark.parametrize("verb", VERBS)
def test_help_reads_as_sentences_and_names_no_python_type(help_of, verb):
    text = help_of(verb)
    usage, _, description = text.splitlines()[:3]
    assert usage.startswith(f"usage: videossp {verb} ")
    assert re.fullmatch(r"[A-Z].*\.", description)
    assert not re.search(r"\(type:|\bnull\b|\bNone\b|CONFIG|print.config|default:|<class|--\w*_", text)


def test_defaults_and_choices_are_readable(help_of):
    text = " ".join(help_of("train", "--backbone", "videomamba_middle").split())
    for words in [
        "--drop-last true|false skip the incomplete last step [false]",
        "--crop-scale [X,X] fraction of the frame in a random crop [0.5,1]",
        "--flip auto|on|off|force",
        "--ssp.gather-width N",
        "--min-lr X learning rate at start and end [1e-06]",
    ]:
        assert words in text
    assert re.search(r"--ssp.prompts N [^\[]*\[3\]", text)
    published = help_of("train", "--backbone", "videomamba_m16_k400_mask_ft_f8_res224")
    assert " ".join(published.split()) == text  # the sizes are known, and the file is not read


class Documented(Tuner):
    """A method.

    Args:
        config: of the backbone.
        width, height: of it; the rest
            is detail. More.
        kind (str): of the thing: one. Two; three.
    """

    def __init__(self, config, *, width: int = 3, height: int | None = None, kind: str = "a") -> None:
        super().__init__()


def test_the_mark_of_flags_without_a_default_is_that_of_argparse():
    assert SUPPRESS == argparse.SUPPRESS


def test_help_of_a_method_comes_from_its_docstring(help_of, monkeypatch):
    assert argument_docs(Documented) == {
        "config": "of the backbone.",
        "width": "of it; the rest is detail. More.",
        "height": "of it; the rest is detail. More.",
        "kind": "of the thing: one. Two; three.",
    }
    assert first_clause("of it; the rest") == "of it" and first_clause("as 0.5 of it. More") == "as 0.5 of it"
    assert metavar_of(int | tuple[int, int] | None) == "N|[N,N]" and metavar_of(list[str] | str) == "NAME,..."
    monkeypatch.setitem(METHODS, "documented", Documented)
    text = " ".join(help_of("train", "--method", "documented").split())
    assert "--documented.width N of it [3] --documented.height N of it --documented.kind NAME of the" in text
