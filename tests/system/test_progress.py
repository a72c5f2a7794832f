"""Lines and bars on stderr."""

from types import SimpleNamespace

import pytest

from videossp.system import progress
from videossp.system.progress import MEASURED, Messages, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (7140, "119 min"),
        (7200, "2 h 0 min"),
        (12000, "3 h 20 min"),
    ],
)
def test_durations_have_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text


def test_nothing_is_printed_unless_progress_is_on(capsys):
    off = Messages(False)
    off.say("a line")
    assert list(off.bar(range(20), "epoch 1/1", 0, 20, 10**9)) == list(range(20))
    assert capsys.readouterr() == ("", "")


def test_lines_are_printed_to_stderr_as_they_are(capsys):
    Messages(True).say("[bold]classes/[red].mp4: 12 " + "x" * 300)
    assert capsys.readouterr() == ("", "[bold]classes/[red].mp4: 12 " + "x" * 300 + "\n")


def test_the_training_time_is_estimated_once_without_the_first_step(capsys, monkeypatch):
    now = 0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    messages = Messages(True)
    for _ in range(2):
        for i in messages.bar(range(MEASURED + 3), "epoch", 0, MEASURED + 3, 300):
            now += 1000 if i == 0 else 2  # the first step compiles
    expected = "the training will take about 10 min, without validation\n"
    assert capsys.readouterr() == ("", expected)


def test_the_training_time_is_estimated_after_a_bar_that_is_no_training(capsys, monkeypatch):
    """As the bar of the features of the backbone, which comes before the first epoch."""
    now = 0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    messages = Messages(True)
    for title, remaining in (("features of the backbone", 0), ("epoch", 450)):
        for _ in messages.bar(range(MEASURED + 3), title, 0, MEASURED + 3, remaining):
            now += 2
    expected = "the training will take about 15 min, without validation\n"
    assert capsys.readouterr() == ("", expected)


def test_a_short_training_is_not_estimated(capsys):
    list(Messages(True).bar(range(MEASURED + 3), "epoch", 0, MEASURED + 3, MEASURED + 3))
    assert capsys.readouterr().err == ""


def test_iteration_is_unchanged_by_the_bar():
    for count in (0, 1, MEASURED + 1, MEASURED + 2, 9):
        assert list(Messages(False).bar(range(count), "x", 3, count + 3, 5)) == list(range(count))
