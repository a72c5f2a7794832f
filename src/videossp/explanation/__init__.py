"""Explanations: the patches and frames of a clip that a prediction depends on, and how faithful they are."""
