"""CPU time of two checkouts: the measurement in a fresh process, the ratio with its interval, bad folders."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(benchmarks):
    return benchmarks("compare_checkouts")


@pytest.mark.slow
def test_a_measurement_is_cpu_time_of_every_piece_of_work(script):
    seconds = script.measure_checkout(ROOT, None, 1)
    assert set(seconds) == {"forward", "step", "scan"}
    assert 0 < seconds["forward"] < seconds["step"]
    assert seconds["scan"] > 0


def test_the_ratio_is_the_geometric_mean_with_students_interval(script):
    mean, low, high = script.ratio([1.0, 2.0, 4.0], [2.0, 4.0, 8.0])
    assert (mean, low, high) == pytest.approx((2, 2, 2))
    mean, low, high = script.ratio([1.0, 1.0], [1.0, 4.0])
    assert mean == pytest.approx(2)
    assert high == pytest.approx(2 * 2**12.706, rel=1e-3)  # t of one degree of freedom, error log(2)
    assert low * high == pytest.approx(mean**2)


def test_a_report_names_both_sides_and_one_pair_has_no_interval(script):
    a, b = ({"forward": x, "step": 2 * x, "scan": 3 * x} for x in (0.1, 0.15))
    lines = script.report([a], [b]).splitlines()
    assert [line.split()[0] for line in lines] == ["forward", "step", "scan"]
    assert all("B / A 1.500 (no interval)" in line for line in lines)
    assert "A    100.0 ms  B    150.0 ms" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([".", "nowhere"], "nowhere: no src/videossp in it"), ([".", ".", "--pairs", "0"], "--pairs must be")],
)
def test_bad_arguments_end_in_one_line(arguments, message):
    command = [sys.executable, "benchmarks/compare_checkouts.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]


def test_a_checkout_that_cannot_be_measured_ends_in_one_line(script, tmp_path):
    package = tmp_path / "src/videossp"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise OSError('broken')\n")
    with pytest.raises(SystemExit, match="the measurement failed: OSError: broken"):
        script.measure_checkout(tmp_path, None, None)
