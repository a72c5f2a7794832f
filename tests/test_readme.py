"""README.md and the pages of docs/: commands, files, links and the example in Python."""

import ast
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
import torch

from test_demo import thinned
from videossp.cli.verbs import VERBS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8")
    for file in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}

TO_BE_WRITTEN = {"src/videossp/methods/scale_shift.py"}  # the worked example of docs/methods.md


def test_the_demo_of_the_readme_is_the_demo_of_the_makefile():
    commands = [line[2:] for line in README.splitlines() if line.startswith("$ videossp demo")]
    recipe = (ROOT / "Makefile").read_text()
    assert len(commands) == 1 and f"$(BIN)/{commands[0]}\n" in recipe


def test_targets_of_make_that_pages_name_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(PAGES.values())
    named = set(re.findall(r"(?:`|^|&& )make ([a-z-]+)", text, re.MULTILINE))
    assert {"demo", "test", "check"} <= named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_have_verbs_that_exist(page):
    blocks = "\n".join(re.findall(r"```.*?\n(.*?)```", PAGES[page], re.DOTALL))
    for line in [
        *re.findall(r"^(?:\$ )? *(videossp .*)", blocks, re.MULTILINE),
        *re.findall(r"`(videossp [^`\n]*)`", PAGES[page]),
    ]:
        words = shlex.split(line.replace("...", ""), comments=True)
        if len(words) > 1 and re.fullmatch("[a-z]+", words[1]):
            assert words[1] in VERBS, line


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page):
    for name in re.findall(r"`((?:tests|benchmarks|examples|src/videossp)/[\w/.-]*\w)`", PAGES[page]):
        assert name in TO_BE_WRITTEN or (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_of_a_page_lead_to_files(page):
    for link in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", PAGES[page]):
        assert ((ROOT / page).parent / link).exists(), link


def only_imports(path):
    """Whether a file has a docstring, imports and __all__, and nothing else."""
    return all(
        isinstance(node, (ast.Import, ast.ImportFrom))
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Assign) and [ast.unparse(x) for x in node.targets] == ["__all__"])
        for node in ast.parse(path.read_text(encoding="utf-8")).body
    )


def test_architecture_lists_every_source_file_once_under_its_folder():
    sections = re.split(r"^##+ ", PAGES["docs/architecture.md"], flags=re.MULTILINE)
    folders = {x[1]: section for section in sections if (x := re.match(r"`(src/[\w/]+)/`", section))}
    listed = [
        f"{folder}/{name}"
        for folder, section in folders.items()
        for name in re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    ]
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "src/videossp").rglob("*.py")
        if path.name != "__init__.py" or not only_imports(path)
    }
    assert Counter(listed) == Counter(files)


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    thinned(Path("demo"))
    code = README.split("```python")[1].split("```")[0]
    namespace = {"clip": torch.zeros(1, 3, 8, 96, 96)}
    exec(code, namespace)
    assert namespace["logits"].shape == (1, 6) and "drawer-close" in capsys.readouterr().out
