"""Teach a frozen VideoMamba a new task with State Space Prompting."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videossp.classifier import Classifier
    from videossp.comparison.compare import compare
    from videossp.comparison.results import Comparison
    from videossp.convert_official import from_official, to_official
    from videossp.data.datasets import Sample, VideoDataset, read_data
    from videossp.data.doctor.examine import Diagnosis, examine
    from videossp.data.sampling import ClipFormat
    from videossp.embedding.embed import embed
    from videossp.embedding.embeddings import Embeddings
    from videossp.errors import (
        DataError,
        DivergedError,
        ExportError,
        NoVideoError,
        OutOfMemoryError,
        TruncatedError,
        VideoSSPError,
        VideoSSPWarning,
        WeightsError,
        WorkerLostError,
    )
    from videossp.explanation.explain import explain
    from videossp.explanation.explanation import Explanation
    from videossp.exporting.export import Export, export
    from videossp.inference.evaluate import Evaluation, evaluate
    from videossp.inference.predict import Prediction, predict
    from videossp.load_adapter import load
    from videossp.methods.registry import register_method
    from videossp.model.config import VideoMambaConfig
    from videossp.model.hooks import Tuner
    from videossp.model.videomamba import VideoMamba
    from videossp.system.process import prepare_process
    from videossp.training.config import TrainConfig
    from videossp.training.run import Run
    from videossp.training.train import train
    from videossp.watching.segment import Segment
    from videossp.watching.watch import watch

__all__ = [
    "Classifier",
    "ClipFormat",
    "Comparison",
    "DataError",
    "Diagnosis",
    "DivergedError",
    "Embeddings",
    "Evaluation",
    "Explanation",
    "Export",
    "ExportError",
    "NoVideoError",
    "OutOfMemoryError",
    "Prediction",
    "Run",
    "Sample",
    "Segment",
    "TrainConfig",
    "TruncatedError",
    "Tuner",
    "VideoDataset",
    "VideoMamba",
    "VideoMambaConfig",
    "VideoSSPError",
    "VideoSSPWarning",
    "WeightsError",
    "WorkerLostError",
    "compare",
    "embed",
    "evaluate",
    "examine",
    "explain",
    "export",
    "from_official",
    "load",
    "predict",
    "predict_each",
    "prepare_process",
    "read_data",
    "register_method",
    "to_official",
    "train",
    "watch",
]

# Imported when first used, so that `videossp --help` need not load torch.
_HOME = {
    "Classifier": "classifier",
    "ClipFormat": "data.sampling",
    "Comparison": "comparison.results",
    "DataError": "errors",
    "Diagnosis": "data.doctor.examine",
    "DivergedError": "errors",
    "Embeddings": "embedding.embeddings",
    "Evaluation": "inference.evaluate",
    "Explanation": "explanation.explanation",
    "Export": "exporting.export",
    "ExportError": "errors",
    "NoVideoError": "errors",
    "OutOfMemoryError": "errors",
    "Prediction": "inference.predict",
    "Run": "training.run",
    "Sample": "data.datasets",
    "Segment": "watching.segment",
    "TrainConfig": "training.config",
    "TruncatedError": "errors",
    "Tuner": "model.hooks",
    "VideoDataset": "data.datasets",
    "VideoMamba": "model.videomamba",
    "VideoMambaConfig": "model.config",
    "VideoSSPError": "errors",
    "VideoSSPWarning": "errors",
    "WeightsError": "errors",
    "WorkerLostError": "errors",
    "compare": "comparison.compare",
    "embed": "embedding.embed",
    "evaluate": "inference.evaluate",
    "examine": "data.doctor.examine",
    "explain": "explanation.explain",
    "export": "exporting.export",
    "from_official": "convert_official",
    "load": "load_adapter",
    "predict": "inference.predict",
    "predict_each": "inference.predict",
    "prepare_process": "system.process",
    "read_data": "data.datasets",
    "register_method": "methods.registry",
    "to_official": "convert_official",
    "train": "training.train",
    "watch": "watching.watch",
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
