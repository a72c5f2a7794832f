"""Labelled videos on disk; one reader per annotation format, all give the same `Sample`."""

from videossp.datasets.folder import read_folder
from videossp.datasets.sample import Sample, Samples, split_off

__all__ = ["Sample", "Samples", "read_folder", "split_off"]
