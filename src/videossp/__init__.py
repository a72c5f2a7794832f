"""Teach a frozen VideoMamba a new task with State Space Prompting."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videossp.checkpoint import WeightsError
    from videossp.classifier import Classifier, load
    from videossp.clips import ClipFormat
    from videossp.datasets import Samples, read_data
    from videossp.evaluate import Evaluation, evaluate
    from videossp.official import from_official, to_official
    from videossp.plan import TrainConfig
    from videossp.predict import Prediction, predict
    from videossp.process import prepare_process
    from videossp.run import Run
    from videossp.train import train
    from videossp.tuner import Spec, Tuner
    from videossp.video import DataError

__all__ = [
    "Classifier",
    "ClipFormat",
    "DataError",
    "Evaluation",
    "Prediction",
    "Run",
    "Samples",
    "Spec",
    "TrainConfig",
    "Tuner",
    "WeightsError",
    "evaluate",
    "from_official",
    "load",
    "predict",
    "prepare_process",
    "read_data",
    "to_official",
    "train",
]

_HOME = {
    "WeightsError": "checkpoint",
    "Classifier": "classifier",
    "from_official": "official",
    "load": "classifier",
    "to_official": "official",
    "ClipFormat": "clips",
    "Samples": "datasets",
    "read_data": "datasets",
    "Evaluation": "evaluate",
    "evaluate": "evaluate",
    "Prediction": "predict",
    "predict": "predict",
    "prepare_process": "process",
    "Run": "run",
    "TrainConfig": "plan",
    "train": "train",
    "Spec": "tuner",
    "Tuner": "tuner",
    "DataError": "video",
}


class _Package(ModuleType):
    """Imports a public name when it is first used, so that `videossp --help` need not load torch."""

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'videossp' has no attribute {name!r}")
        return getattr(import_module(f"videossp.{_HOME[name]}"), name)

    def __setattr__(self, name: str, value: object) -> None:
        # Importing the module videossp.train must not hide the function videossp.train.
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
