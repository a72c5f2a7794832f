"""Comparison of methods: runs, intervals, table and files."""
