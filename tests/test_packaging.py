"""The wheel, its metadata, the declared dependencies and the tested versions."""

import ast
import email
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/videossp"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEPENDENCIES = [Requirement(x) for x in PROJECT["dependencies"]]
EXTRAS = [Requirement(x) for extra in PROJECT["optional-dependencies"].values() for x in extra]
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
PYTHONS = ["3.11", "3.12", "3.13"]
# Used where it is installed, never required.
OPTIONAL = {"mamba_ssm", "triton"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel as pip builds it, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.iterdir()
    with zipfile.ZipFile(file) as archive:
        yield archive


def metadata(wheel):
    (name,) = (x for x in wheel.namelist() if x.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def imported(folder=SOURCE):
    """The top-level modules of other distributions that the files of a folder import."""
    names = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {x.name.split(".")[0] for x in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - {"videossp"}


def test_the_wheel_is_the_package_and_its_licences(wheel):
    package = {
        x.relative_to(SOURCE.parent).as_posix()
        for x in SOURCE.rglob("*")
        if x.is_file() and "__pycache__" not in x.parts
    }
    rest = set(wheel.namelist()) - package
    assert package <= set(wheel.namelist())
    assert {x.split("/")[0] for x in rest} == {f"videossp-{PROJECT['version']}.dist-info"}


@pytest.mark.parametrize(
    "name",
    [
        "py.typed",
        "bundled/README.md",
        "bundled/tabletop.zip",
        "bundled/videomamba_nano.safetensors",
        *(f"bundled/recipes/{x}.yaml" for x in ("breakfast", "hmdb51", "ssv2", "ucf101")),
    ],
)
def test_the_wheel_has_the_data_files(wheel, name):
    assert wheel.getinfo(f"videossp/{name}").file_size == (SOURCE / name).stat().st_size


def test_the_wheel_has_the_texts_of_both_licences(wheel):
    fields = metadata(wheel)
    assert fields["License-Expression"] == "Apache-2.0 AND MIT"
    assert fields.get_all("License-File") == ["LICENSE", "LICENSE-MIT"]
    folder = f"videossp-{PROJECT['version']}.dist-info/licenses"
    assert "Apache License" in wheel.read(f"{folder}/LICENSE").decode()
    with zipfile.ZipFile(SOURCE / "bundled/tabletop.zip") as clips:
        assert wheel.read(f"{folder}/LICENSE-MIT") == clips.read("LICENSE.txt")


def test_the_metadata_name_systems_pythons_and_links(wheel):
    fields = metadata(wheel)
    classifiers = fields.get_all("Classifier")
    pythons = [x.split(" :: ")[-1] for x in classifiers if re.search(r"Python :: 3\.", x)]
    assert pythons == PYTHONS and fields["Requires-Python"] == f">={PYTHONS[0]}"
    assert {x.split(" :: ")[-1] for x in classifiers if x.startswith("Operating System")} == {
        "Linux",
        "MacOS",
        "Windows",
    }
    assert "Typing :: Typed" in classifiers and not any(x.startswith("License") for x in classifiers)
    links = dict(x.split(", ") for x in fields.get_all("Project-URL"))
    assert links["Paper"] == "https://arxiv.org/abs/2510.12160"


def test_the_text_for_a_package_index_has_no_relative_link_and_no_picture(wheel):
    fields = metadata(wheel)
    text = fields.get_payload(decode=True).decode()
    assert fields["Description-Content-Type"] == "text/markdown" and text.startswith("# videossp")
    assert "![" not in text and "<img" not in text
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert links and all(x.startswith("https://") for x in links)


ROOMS = {"serving": "serve", "exporting": "export", "bundled": "export"}  # folders that need an extra


def test_every_import_is_a_declared_dependency_and_the_other_way_round():
    """Only the folders in `ROOMS` need more, which an extra names."""
    distributions = packages_distributions()

    def used(folder):
        return {canonicalize_name(distributions[x][0]) for x in imported(folder) - OPTIONAL}

    declared = {canonicalize_name(x.name) for x in DEPENDENCIES}
    extras = {
        room: {canonicalize_name(Requirement(x).name) for x in PROJECT["optional-dependencies"][extra]}
        for room, extra in ROOMS.items()
    }
    assert used(SOURCE) == declared.union(*extras.values())
    for folder in SOURCE.iterdir():
        if folder.is_dir():
            assert used(folder) <= declared | extras.get(folder.name, set()), folder
    assert extras["serving"] <= used(SOURCE / "serving")
    assert extras["exporting"] <= used(SOURCE / "exporting")


@pytest.mark.parametrize("name", ["torchvision", "timm", "decord"])
def test_the_package_needs_none_of(name):
    assert name not in {x.name for x in DEPENDENCIES} and name not in imported()


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_is_pinned_once_to_a_version_that_is_allowed(python):
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    pins = {}
    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate(environment):
            name = canonicalize_name(pin.name)
            assert name not in pins, f"{name} is pinned twice"
            pins[name] = Version(str(pin.specifier).removeprefix("=="))
    for requirement in DEPENDENCIES + EXTRAS:
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_every_dependency_has_a_lower_bound():
    for requirement in DEPENDENCIES + EXTRAS:
        assert [x.operator for x in requirement.specifier] == [">="], requirement


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["version"] == PROJECT["version"] and citation["message"] and citation["authors"]
    (paper,) = citation["references"]
    assert PROJECT["urls"]["Paper"] == paper["url"]
    assert [x["family-names"] for x in paper["authors"]] == ["Zhou", "Zhu", "Cui", "Liu", "Zou", "Hua"]
