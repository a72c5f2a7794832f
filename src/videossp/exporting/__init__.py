"""Export: a classifier as a file that runs without this package, and the proof that it is the same model."""
