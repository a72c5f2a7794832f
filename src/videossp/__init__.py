"""Teach a frozen VideoMamba a new task with State Space Prompting."""

from videossp.checkpoint import WeightsError
from videossp.classifier import Classifier, from_official, load, to_official
from videossp.clips import ClipFormat
from videossp.tuner import Spec, Tuner
from videossp.video import DataError

__all__ = [
    "Classifier",
    "ClipFormat",
    "DataError",
    "Spec",
    "Tuner",
    "WeightsError",
    "from_official",
    "load",
    "to_official",
]
