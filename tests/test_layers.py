"""Imports point down through the folders, and the start is fast."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import videossp

SOURCE = Path(videossp.__file__).parent
# From top to bottom. A name is a folder or file of the package; a file belongs to the longest name that fits.
# Files in one row do not import each other, unless they are in one folder. A new room (say serving/) goes
# into the lowest row that is above all that it imports, or into a row of its own.
LAYERS = [
    {"__main__"},
    {"cli/main"},
    {"cli/verbs"},
    {"cli"},
    {"demo", "comparison/compare"},
    {"bench", "comparison/explain_runs", "comparison/worker"},
    {"comparison/folder", "embedding/near_duplicates"},
    {"comparison/results", "embedding/probes", "serving"},
    {"comparison/intervals", "comparison/table", "training", "watching"},
    {"reporting"},
    {"embedding"},
    {"bulk", "explanation", "exporting"},
    {"inference", "convert_official", "load_adapter"},
    {"classifier"},
    {"adapter_folder", "class_names", "data/doctor", "inference/predict"},
    {"inference/video_results"},
    {"inference/decode_ahead", "inference/passes"},
    {"data/clips", "inference/mixed_batch"},
    {"data/augment", "methods"},
    {"model"},
    {"data/crop"},
    {"data/datasets", "data/sampling"},
    {"data/video", "bundled", "ops"},
    {"system"},
    {"errors"},
]
FILES = {path: path.relative_to(SOURCE).with_suffix("").as_posix() for path in sorted(SOURCE.rglob("*.py"))}
LEVELS = {name: level for level, row in enumerate(LAYERS) for name in row}


def room(file):
    """The longest folder or file of `LAYERS` that a file lies in; None for other folders."""
    parts = file.split("/")
    names = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((name for name in names if name in LEVELS), None)


def imported(path):
    """Files of this package that a file imports, but for those it imports for type checking only."""
    pending = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            pending += node.orelse
            continue
        pending += ast.iter_child_nodes(node)
        modules = []
        if isinstance(node, ast.Import):
            modules = [x.name for x in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [f"{node.module}.{x.name}" for x in node.names]
        for module in modules:
            if module.startswith("videossp."):
                yield file_of(module)


def file_of(module):
    """The file of a module, or of the module that holds this name."""
    parts = module.split(".")[1:]
    while parts:
        name = "/".join(parts)
        for file in (name, f"{name}/__init__"):
            if file in FILES.values():
                return file
        parts.pop()
    return "__init__"


@pytest.mark.parametrize("path", FILES, ids=FILES.get)
def test_imports_point_down(path):
    here = room(FILES[path])
    for file in imported(path):
        there = room(file)
        assert there is not None, f"{FILES[path]} imports {file}, which names the layers above"
        assert here == there or LEVELS[there] > LEVELS[here], f"{FILES[path]} -> {file}"


def test_every_file_has_a_layer():
    folders = {file for file in FILES.values() if file.endswith("__init__")}
    assert {file for file in FILES.values() if room(file) is None} <= folders
    assert {room(file) for file in FILES.values()} - {None} == set(LEVELS)


def test_imports_for_type_checking_are_left_out(tmp_path):
    file = tmp_path / "sample.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from videossp.demo import demo\n"
        "else:\n    import videossp.bench\ndef f():\n    from videossp.data.video import read_video\n"
    )
    assert sorted(imported(file)) == ["bench", "data/video/__init__"]


def test_no_method_imports_another_and_the_backbone_knows_none():
    for path, file in FILES.items():
        if room(file) == "methods" and file not in ("methods/__init__", "methods/registry", "methods/chain"):
            layers = {x for x in imported(path) if x.startswith("methods/")}
            assert all(x.startswith(("methods/layers/", "methods/check_")) for x in layers), file
        if room(file) == "model":
            assert not any(x.startswith("methods") for x in imported(path)), file


def test_public_names_are_sorted_and_importable():
    assert videossp.__all__ == sorted(videossp.__all__) and set(videossp.__all__) == set(videossp._HOME)
    for name in videossp.__all__:
        assert getattr(videossp, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = videossp.nothing


def test_dir_shows_the_public_names_before_any_of_them_is_used():
    code = "import videossp; assert set(dir(videossp)) == {*videossp.__all__, '__version__'}, dir(videossp)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_modules_and_functions_of_one_name_are_both_there():
    code = (
        "import videossp.training.loop as loop, videossp.training.train as train\n"
        "import videossp, types\n"
        "assert isinstance(loop, types.ModuleType) and isinstance(train, types.ModuleType)\n"
        "assert videossp.train is train.train and callable(videossp.evaluate)\n"
        "assert not isinstance(videossp.predict, types.ModuleType)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_the_version_is_the_installed_one():
    from importlib.metadata import version

    assert videossp.__version__ == version("videossp")
    command = [sys.executable, "-m", "videossp", "--version"]
    out = subprocess.run(command, check=True, timeout=300, capture_output=True, text=True).stdout
    assert out.strip() == videossp.__version__


def test_help_loads_no_heavy_library():
    code = (
        "import sys; from videossp.cli.main import main; assert main(['--help']) == 0\n"
        "heavy = {'torch', 'numba', 'av', 'accelerate', 'matplotlib', 'jsonargparse'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, stdout=subprocess.DEVNULL)
