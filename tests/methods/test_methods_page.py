"""docs/methods.md: its tables agree with the code, its example runs."""

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch
from test_methods import STARTS_AT_BACKBONE, train_steps

import videossp
from conftest import SMALL
from videossp.methods import METHODS, default_lr, resolve_options
from videossp.methods.rates import NANO
from videossp.model.config import BACKBONES
from videossp.model.hooks import Tuner
from videossp.model.videomamba import VideoMamba

DOCS = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
MIDDLE = BACKBONES["videomamba_middle"]


def rows_of(section):
    """The cells of the rows of the first table of a section."""
    lines = DOCS.split(f"\n## {section}\n")[1].split("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in x.strip("|").split(" | ")] for x in lines if x.startswith("|")]
    return cells[2:]  # without header and rule


ROWS = rows_of("Table")
HEAD_AND_NORM = 576 * 51 + 51 + 576


def options(method):
    """The options of a method as the table has them, marked if they scale."""
    scaled, known = METHODS[method].scaled, resolve_options(method, MIDDLE, {})
    return ", ".join(f"`{x}={value!r}`" + "†" * (x in scaled) for x, value in known.items()) or "none"


def parameters(method):
    """Trained parameters of a method in VideoMamba-M, with those of the backbone that it thaws."""
    with torch.device("meta"):
        tuner, backbone = METHODS[method](MIDDLE), VideoMamba(MIDDLE)
    thawed = [
        x.numel()
        for name, x in backbone.named_parameters()
        if any(fnmatchcase(name, pattern) for pattern in tuner.thaw)
    ]
    return sum(x.numel() for x in tuner.parameters()) + sum(thawed)


def test_the_table_has_every_method_in_order():
    assert [row[0].strip("`") for row in ROWS] == list(METHODS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("`"))
def test_a_row_agrees_with_its_class(row):
    method = row[0].strip("`")
    assert row[3] == options(method)
    alone = parameters(method)
    assert row[4:6] == [f"{alone:,}", f"{alone + HEAD_AND_NORM:,}"]
    assert (row[6] == "yes") == (method in STARTS_AT_BACKBONE)


def test_hooks_and_the_methods_that_use_them_are_listed():
    hooks = [name for name in vars(Tuner) if name.startswith("edit_")]
    assert [row[0].strip("`") for row in rows_of("Hooks")] == hooks
    for row in rows_of("Hooks"):
        hook = row[0].strip("`")
        users = [name for name, cls in METHODS.items() if getattr(cls, hook) is not getattr(Tuner, hook)]
        assert row[3] == ", ".join(users), hook


def test_the_hooks_are_those_of_the_docstring():
    lines = [x.strip() for x in Tuner.__doc__.splitlines() if x.strip().startswith("| `edit_")]
    described = [[cell.strip() for cell in x.strip("|").split(" | ")] for x in lines]
    assert [x[0] for x in described] == [row[0] for row in rows_of("Hooks")]


def test_default_sizes_are_listed():
    listed = {row[0].strip("`"): row[1:] for row in rows_of("Default sizes")}
    expected = {}
    for name, cls in METHODS.items():
        for option, size in cls.scaled.items():
            backbones = MIDDLE, BACKBONES["videomamba_nano"]
            values = [str(resolve_options(name, x, {})[option]) for x in backbones]
            expected[f"{name}.{option}"] = [size.by, str(size.multiple_of), *values]
    assert listed == expected


def test_default_rates_are_listed():
    listed = {x: float(row[0]) for row in rows_of("Default learning rates") for x in row[1].split(", ")}
    assert listed == NANO
    assert all(default_lr(x, BACKBONES["videomamba_nano"]) == rate for x, rate in listed.items())


@pytest.mark.parametrize(
    ("method", "millions", "with_head"),
    [
        ("adapter", 2.40, True),
        ("st_adapter", 2.69, True),
        ("vpt", 1.50, True),
        ("vfpt", 1.50, True),
        ("svp", 2.76, True),
        ("additional_scan", 1.33, False),
        ("stop", 1.49, True),
        ("ssp", 2.41, False),
    ],
)
def test_counts_are_those_of_the_paper(method, millions, with_head):
    """The paper rounds or cuts to two digits; STOP, whose port is not known exactly, is within 1.2 %."""
    count = (parameters(method) + with_head * HEAD_AND_NORM) / 1e6
    assert abs(count - millions) < (0.012 * millions if method == "stop" else 0.0101)


def test_the_worked_example_runs(small_backbone, monkeypatch, tmp_path):
    namespace = {}
    exec(DOCS.split("```python")[1].split("```")[0], namespace)
    monkeypatch.setitem(METHODS, "scale_shift", namespace["ScaleShift"])
    clips = torch.randn(2, 3, SMALL.frames, *SMALL.size, generator=torch.Generator().manual_seed(0))
    make = videossp.Classifier.create
    classifier = make(small_backbone, classes=["a", "b"], method="scale_shift", shift=False)
    plain = make(small_backbone, classes=["a", "b"], method="linear")
    plain.head.load_state_dict(classifier.head.state_dict())
    assert torch.equal(plain(clips), classifier(clips))  # it starts as the identity
    seen, loss = train_steps(classifier, clips, 60)
    assert loss < 0.1 and {name for name, total in seen.items() if total} == set(classifier.trainable())
    assert "tuner.gain" in seen and "tuner.shift" not in seen
    classifier.save(tmp_path)
    assert torch.equal(videossp.load(tmp_path)(clips), classifier(clips))
    with pytest.raises(ValueError, match="scale_shift has no option rank; it has shift"):
        make(small_backbone, classes=["a", "b"], method="scale_shift", rank=4)
    chain = make(
        small_backbone, classes=["a", "b"], method="ssp+scale_shift", ssp={"heads": 4, "spread_width": 8}
    )
    assert chain(clips).shape == (2, 2)
