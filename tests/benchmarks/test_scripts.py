"""Every script of benchmarks/ can be imported with the package as it is."""

from pathlib import Path

import pytest

SCRIPTS = sorted(x.stem for x in (Path(__file__).parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_imported(benchmarks, name):
    assert benchmarks(name).__doc__
