"""A trained classifier on videos: evaluation and prediction."""
