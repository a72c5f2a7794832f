"""The command line shows each warning of the package once, as one line."""

import warnings

import pytest

from videossp.cli.main import main
from videossp.cli.output import print_result
from videossp.cli.verbs import VERBS
from videossp.errors import VideoSSPWarning
from videossp.system.warn import warning_lines


@pytest.fixture
def warning_verb(monkeypatch):
    """Makes `videossp info` issue a warning of the package twice, and one of another library."""

    def info(parser, given):
        """Warn."""

        def run(args):
            for _ in range(2):
                warnings.warn("the split\nis odd", VideoSSPWarning, stacklevel=1)
            warnings.warn("a library complains", UserWarning, stacklevel=1)
            return print_result(args, {}, ["done"])

        return run

    monkeypatch.setitem(VERBS, "info", info)


def test_a_warning_is_one_line_and_other_warnings_are_not_shown(warning_verb, capsys):
    before = warnings.showwarning, list(warnings.filters)
    assert main(["info"]) == 0
    assert capsys.readouterr() == ("done\n", "videossp: the split is odd\n")
    assert (warnings.showwarning, list(warnings.filters)) == before
    assert main(["info"]) == 0  # and again in the next command
    assert capsys.readouterr().err == "videossp: the split is odd\n"


def test_debug_shows_the_warnings_of_libraries_too(warning_verb, capsys):
    with pytest.warns(UserWarning, match="a library complains"):
        assert main(["info", "--debug"]) == 0
    assert capsys.readouterr().err == "videossp: the split is odd\n"


def test_only_the_first_process_shows_warnings(warning_verb, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert main(["info"]) == 0
    assert capsys.readouterr() == ("", "")


def test_known_warnings_are_not_shown_again():
    lines = []
    with warning_lines(lines.append, known=["old"]):
        for text in ("old", "new"):
            warnings.warn(text, VideoSSPWarning, stacklevel=1)
    assert lines == ["new"]


def test_a_training_warns_of_random_weights_and_of_the_test_split(
    small_backbone, class_folder, tmp_path, capsys
):
    flags = ["--backbone", small_backbone, "--method", "linear", "--epochs", "1", "--select-on", "test"]
    assert main(["train", str(class_folder), *flags, "--out", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().err.splitlines()
    for words in ("RANDOM weights", "the epoch is selected on the TEST split"):
        found = [line for line in lines if words in line]
        assert len(found) == 1 and found[0].startswith("videossp: ")
    assert not any("Warning" in line or ".py:" in line for line in lines)
