"""Comparison of methods on the same data."""
