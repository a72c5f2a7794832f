"""The doctor: checks a data set before training."""
