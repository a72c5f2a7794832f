"""Intervals against their formulas and tabulated values."""

import math

import numpy as np
import pytest

from videossp.comparison.intervals import quantile, student, wilson


def test_the_quantiles_are_those_of_students_t():
    for freedom in (*range(1, 35), 60, 120):
        t = np.linspace(-quantile(freedom), quantile(freedom), 200_001)
        peak = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
        inside = np.trapezoid(peak * (1 + t**2 / freedom) ** (-(freedom + 1) / 2), t)
        assert inside == pytest.approx(0.95, abs=5e-5)


def test_the_interval_of_a_mean_is_that_of_the_textbook():
    # mean 0.6, standard deviation 0.1, 2 degrees of freedom: 4.303 * 0.1 / sqrt(3) = 0.24843
    assert student([0.5, 0.6, 0.7]) == pytest.approx((0.35157, 0.84843), abs=1e-5)
    many = [0.0, 1.0] * 50  # 99 degrees of freedom: 1.9842 * sqrt(0.25 * 100 / 99) / 10
    assert student(many)[1] == pytest.approx(0.5 + 1.9842 * math.sqrt(0.25 * 100 / 99) / 10, abs=1e-5)


def test_the_interval_of_a_share_is_wilsons():
    assert wilson(0.8, 10) == pytest.approx((0.49016, 0.94332), abs=2e-5)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.27754), abs=2e-5)
    for count in range(1, 50):
        assert wilson(1.0, count)[1] == 1.0 and wilson(0.0, count)[0] == 0.0
