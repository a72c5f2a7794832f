"""What the README says is there."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from test_demo import thinned
from videossp.cli.verbs import VERBS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_demo_of_the_readme_is_the_demo_of_the_makefile():
    commands = [line[2:] for line in README.splitlines() if line.startswith("$ ")]
    recipe = (ROOT / "Makefile").read_text()
    assert len(commands) == 1
    for command in commands:
        assert shlex.split(command)[0] == "videossp" and shlex.split(command)[1] in VERBS
        assert f"$(BIN)/{command}\n" in recipe


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(tests/[\w/]+\.py)`", README))))
def test_named_tests_exist(name):
    assert (ROOT / name).is_file()


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    thinned(Path("demo"))
    code = README.split("```python")[1].split("```")[0]
    namespace = {"clip": torch.zeros(1, 3, 8, 96, 96)}
    exec(code, namespace)
    assert namespace["logits"].shape == (1, 6) and "drawer-close" in capsys.readouterr().out
