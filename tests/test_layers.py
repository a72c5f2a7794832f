"""Imports point down, files stay small, and the start is fast."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import videossp

SOURCE = Path(videossp.__file__).parent
ROWS = [
    {"cli"},
    {"verbs"},
    {"flags", "compare", "demo"},
    {"child"},
    {"train", "predict", "bench", "doctor"},
    {"loop"},
    {"run", "comparison", "optimizer", "checks", "batches"},
    {"plan", "recipe"},
    {"report"},
    {"pictures", "trainstate"},
    {"evaluate", "official", "features"},
    {"classifier"},
    {"clips", "probe", "adapter", "source", "head", "precision"},
    {"datasets", "augment"},
    {"checkpoint", "methods"},
    {"videomamba", "video"},
    {"tuner", "state", "faults", "messages", "stop", "team"},
    {"ops", "tokens", "process", "files", "shipped"},
]
FILES = sorted(SOURCE.rglob("*.py"))


def room(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path):
    """Rooms of this package that a file imports, those for type checking left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("videossp."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (x.name.split(".")[1] for x in node.names if x.name.startswith("videossp."))


@pytest.mark.parametrize("path", FILES, ids=lambda x: x.relative_to(SOURCE).as_posix())
def test_imports_point_down(path):
    here = room(path)
    if here == "__init__":
        return
    level = {name: i for i, row in enumerate(ROWS) for name in row}
    for there in imports(path):
        assert there == here or level[there] > level[here], f"{here} -> {there}"


def test_every_file_has_a_row():
    assert {room(path) for path in FILES} - {"__init__"} == set().union(*ROWS)


def test_no_method_imports_another_and_the_backbone_knows_none():
    for path in (SOURCE / "methods").glob("*.py"):
        if path.name != "__init__.py":
            assert "methods" not in set(imports(path))
    assert "methods" not in set(imports(SOURCE / "videomamba.py"))


@pytest.mark.parametrize("path", sorted((SOURCE / "methods").glob("*.py")), ids=lambda x: x.name)
def test_a_method_is_under_a_hundred_lines(path):
    assert len(path.read_text().splitlines()) < 100


def test_public_names_are_sorted_and_importable():
    assert videossp.__all__ == sorted(videossp.__all__) and set(videossp.__all__) == set(videossp._HOME)
    for name in videossp.__all__:
        assert getattr(videossp, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = videossp.nothing


def test_functions_are_not_hidden_by_their_modules():
    code = (
        "import videossp.train, videossp.evaluate, videossp; assert callable(videossp.train), videossp.train"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_help_loads_no_heavy_library():
    code = (
        "import sys; from videossp.cli import main; assert main(['--help']) == 0\n"
        "heavy = {'torch', 'numba', 'av', 'accelerate', 'matplotlib', 'jsonargparse'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, stdout=subprocess.DEVNULL)
