"""Teach a frozen VideoMamba a new task with State Space Prompting."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videossp.classifier import Classifier, load
    from videossp.convert_official import from_official, to_official
    from videossp.data.clips import ClipFormat
    from videossp.data.datasets import Samples, read_data
    from videossp.data.video import DataError
    from videossp.inference.evaluate import Evaluation, evaluate
    from videossp.inference.predict import Prediction, predict
    from videossp.model.hooks import Spec, Tuner
    from videossp.model.published import WeightsError
    from videossp.system.process import prepare_process
    from videossp.training.plan import TrainConfig
    from videossp.training.run_folder import Run
    from videossp.training.train import train

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

# Imported when first used, so that `videossp --help` need not load torch.
_HOME = {
    "Classifier": "classifier",
    "ClipFormat": "data.clips",
    "DataError": "data.video",
    "Evaluation": "inference.evaluate",
    "Prediction": "inference.predict",
    "Run": "training.run_folder",
    "Samples": "data.datasets",
    "Spec": "model.hooks",
    "TrainConfig": "training.plan",
    "Tuner": "model.hooks",
    "WeightsError": "model.published",
    "evaluate": "inference.evaluate",
    "from_official": "convert_official",
    "load": "classifier",
    "predict": "inference.predict",
    "prepare_process": "system.process",
    "read_data": "data.datasets",
    "to_official": "convert_official",
    "train": "training.train",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("videossp")
    if name not in _HOME:
        raise AttributeError(f"module 'videossp' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"videossp.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
