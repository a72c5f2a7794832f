"""Modules that methods are built of."""
