"""Labels of classes are short, different and in fonts that have their characters."""

import unicodedata

import pytest
from matplotlib import font_manager

from videossp.reporting.labels import MOST_COLUMNS, class_labels, columns, shorten

MADE = "videossp test font"
RARE = "\ue123\ue124"  # of the private use area: no font has them


@pytest.fixture
def font_with(tmp_path, monkeypatch):
    """A function that installs a font with these characters, each a square."""
    builder = pytest.importorskip("fontTools.fontBuilder")
    pen = pytest.importorskip("fontTools.pens.ttGlyphPen").TTGlyphPen(None)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist])

    def install(characters):
        names = [".notdef", *(f"uni{ord(x):04X}" for x in characters)]
        pen.moveTo((0, 0))
        for corner in ((0, 700), (700, 700), (700, 0)):
            pen.lineTo(corner)
        pen.closePath()
        font = builder.FontBuilder(1000, isTTF=True)
        font.setupGlyphOrder(names)
        font.setupCharacterMap({ord(x): name for x, name in zip(characters, names[1:], strict=True)})
        font.setupGlyf(dict.fromkeys(names, pen.glyph()))
        font.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
        font.setupHorizontalHeader(ascent=800, descent=-200)
        font.setupNameTable({"familyName": MADE, "styleName": "Regular"})
        font.setupOS2(usWeightClass=400)
        font.setupPost()
        font.save(tmp_path / "made.ttf")
        font_manager.fontManager.addfont(tmp_path / "made.ttf")

    return install


def test_names_that_are_short_are_their_labels():
    names = ["run", "a_$x$", "Ελληνικά", "x" * MOST_COLUMNS]
    assert class_labels(names).texts == tuple(names) and not class_labels(names).note


def test_long_names_keep_both_ends_and_stay_different():
    names = [f"{side} {'very ' * 20}long {end}" for side in ("left", "right") for end in ("start", "stop")]
    labels = class_labels([*names, *(f"{'same ' * 9}{i}{' same' * 9}" for i in range(12))])
    assert len(set(labels.texts)) == 16 and max(map(columns, labels.texts)) <= MOST_COLUMNS == labels.columns
    for name, text in zip(names, labels.texts, strict=False):
        start, end = text.split("…")
        assert name.startswith(start) and name.endswith(end) and len(start) > 20 < 2 * len(end)
    assert [text.split(" #")[1] for text in labels.texts[4:]] == [str(i) for i in range(4, 16)]


@pytest.mark.parametrize("most", range(4, 30))
def test_a_shortened_text_is_no_wider_and_no_mark_loses_its_letter(most):
    for text in ("a\u0301" * 30, "日本" * 20, "दौड़ना " * 9, "🏃\u200d♂\ufe0f" * 12):
        short = shorten(text, most)
        assert columns(short) <= most and "…" in short
        assert not short.split("…")[1] or unicodedata.category(short.split("…")[1][0])[0] != "M"
    assert columns("日本") == 4 and columns("a\u0301") == 1


def test_a_name_without_a_font_has_its_number_and_the_rest_of_the_name():
    labels = class_labels(["run", f"{RARE} fast {RARE}run", RARE, f"#{2}", "❤️"])
    assert labels.texts[:3] == ("run", "#1 fast run", "#2 #2")
    assert labels.texts[3] == "#2 #3" and labels.texts[4] in ("❤", "❤️")
    assert "no installed font" in labels.note


def test_an_installed_font_shows_the_characters_that_it_has(font_with):
    assert class_labels([f"a{RARE}"]).texts == ("#0 a",)
    font_with(RARE)
    labels = class_labels([f"a{RARE}"])
    assert labels.texts == (f"a{RARE}",) and labels.style["family"][-1] == MADE and not labels.note
    assert class_labels([f"a{RARE}\ue999"]).texts == (f"#0 a{RARE}",)
    assert MADE not in class_labels(["plain"]).style["family"]
