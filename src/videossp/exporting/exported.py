"""`ExportedClassifier`: an exported model in the place of a `Classifier` that only predicts."""

import hashlib
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from videossp.class_names import class_names
from videossp.classifier import Classifier, check_clip
from videossp.data.sampling import ClipFormat
from videossp.errors import WeightsError
from videossp.exporting.export import FORMAT
from videossp.exporting.proof import Runtime, file_logits
from videossp.exporting.scan_library import compiled_library
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Tuner
from videossp.model.precision import Precision
from videossp.model.published import first_line

INPUT, OUTPUT = "clip", "logits"


def open_onnx(path: Path, library: Path | None = None) -> Runtime:
    """A model in onnxruntime, with as many threads as torch has.

    Args:
        path: of the model.
        library: of the custom operator, if the model has it. It is not read again.

    Raises:
        Exception: onnxruntime cannot load it; it has its own kinds.
    """
    options = onnxruntime.SessionOptions()
    if library is not None:
        options.register_custom_ops_library(str(library.resolve()))
    options.intra_op_num_threads = torch.get_num_threads()
    # Else idle threads wait in a loop, which takes the time of other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(clips: np.ndarray) -> np.ndarray:
        out: Any = session.run([OUTPUT], {INPUT: clips})[0]
        return out  # type: ignore[no-any-return]

    return run


class ExportedClassifier(Classifier):
    """A model of `export` that predicts in the place of the classifier that was exported, on the CPU.

    It has no weights: nothing of it can be trained, saved, merged, explained or embedded.

    Args:
        path: of the ONNX model; its description, NAME.json, lies beside it.

    Raises:
        WeightsError: a file is missing or damaged, or the model is not the one that is described.
    """

    def __init__(self, path: Path) -> None:
        nn.Module.__init__(self)
        try:
            data, about = path.read_bytes(), json.loads(description_of(path).read_text(encoding="utf-8"))
            if about["format"] != FORMAT:
                raise ValueError(f"format {about['format']!r}; this version of videossp reads {FORMAT}")
            if about["sha256"] != hashlib.sha256(data).hexdigest():
                raise ValueError(f"{description_of(path).name} describes another model")
            config = VideoMambaConfig(**about["backbone"]["sizes"])
            self.classes, self.clip_format = class_names(about["classes"]), ClipFormat(**about["clip"])
            check_clip(self.clip_format, config)
            self.method, self.sha256 = str(about["method"]), str(about["backbone"]["sha256"])
            self.precision, self.batch = about["precision"], about["batch"]
            self.video_seconds = about["video_seconds"]
            if about.get("custom_op") is None:
                self.runtime = open_onnx(path)
            else:  # compiled here: native code beside a model is not trusted
                with tempfile.TemporaryDirectory(prefix="videossp-") as folder:
                    self.runtime = open_onnx(path, compiled_library(Path(folder)))
        except KeyError as error:
            raise WeightsError(f"{description_of(path)}: lacks {error}: export the adapter again") from error
        except Exception as error:  # onnxruntime has its own kinds
            raise WeightsError(f"{path}: cannot be loaded: {first_line(error)}") from error
        backbone: Any = SimpleNamespace(config=config)
        self.backbone, self.tuner = backbone, Tuner()
        self.merged, self.disabled, self.rounded = True, False, False

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def to_precision(self, precision: Precision) -> Classifier:
        """Refuse another precision than that of the model."""
        if precision != self.precision:
            raise ValueError(f"the exported model computes in {self.precision}: export the adapter again")
        return self

    def features(self, clip: Tensor) -> Tensor:
        """Refuse: a model has only the output that was exported."""
        raise ValueError("an exported model has no features: use the adapter that was exported")

    frozen_features = features

    def forward(self, clip: Tensor) -> Tensor:
        """Logits (batch, classes) of clips, normalised or uint8, see `Classifier.forward`."""
        parts = self.normalised(clip).split(self.batch or max(1, len(clip)))
        logits = [file_logits(self.runtime, self.batch or 0, x) for x in parts]
        return torch.from_numpy(np.concatenate(logits))


def description_of(path: Path) -> Path:
    """The file that describes a model."""
    return path.with_suffix(".json")
