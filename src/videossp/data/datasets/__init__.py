"""Labelled videos on disk; one reader per annotation format, all give the same `Sample`."""

from videossp.data.datasets.read import FORMATS, read_complaining, read_data
from videossp.data.datasets.sample import Sample, VideoDataset, split_off

__all__ = ["FORMATS", "Sample", "VideoDataset", "read_complaining", "read_data", "split_off"]
