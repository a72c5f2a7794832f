"""Labelled videos on disk. Each annotation format has a reader; all readers give the same `VideoDataset`."""

from videossp.data.datasets.read import FORMATS, read_data, read_with_problems
from videossp.data.datasets.sample import Sample, VideoDataset
from videossp.data.datasets.splits import hold_out

__all__ = ["FORMATS", "Sample", "VideoDataset", "hold_out", "read_data", "read_with_problems"]
