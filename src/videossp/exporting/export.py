"""`export`: a trained classifier as one file for another runtime, with a proof that it is the same model."""

import copy
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from videossp.bundled import PREDICT_SCRIPT, SCAN_SOURCE
from videossp.classifier import Classifier
from videossp.data.clips import read_views
from videossp.errors import ExportError, VideoSSPError
from videossp.exporting.proof import BATCHES, LEAST_CLIPS, Proof, Runtime, prove, seeded_clips
from videossp.exporting.scan_library import LIBRARY, compiled_library
from videossp.inference.predict import Paths, find_videos
from videossp.load_adapter import load
from videossp.model.published import first_line
from videossp.system.files import atomic_write
from videossp.system.versions import versions
from videossp.system.warn import warn

Target = Literal["onnx", "torch"]
SUFFIXES: dict[Target, str] = {"onnx": ".onnx", "torch": ".pt2"}
MOST_CLIPS = 128  # of a folder, evenly spread, in a proof
SCRIPT = "predict.py"
FORMAT = 1  # of descriptions


@dataclass(frozen=True)
class Export:
    """An exported classifier.

    Attributes:
        files: those written: the model, its description, and for ONNX the script.
        proof: the comparison with the classifier.
        file_bytes, weight_bytes: sizes of the model file and of its weights in float32.
    """

    files: tuple[Path, ...]
    proof: Proof
    file_bytes: int
    weight_bytes: int


def export(
    adapter: Classifier | str | Path,
    out: str | os.PathLike[str],
    *,
    to: Target = "onnx",
    int8: bool = False,
    custom_op: bool = False,
    batch: int | None = None,
    clips: Paths | None = None,
    backbone: str | None = None,
    allow: bool = False,
) -> Export:
    """Write a classifier as one file for another runtime, and prove that it is the same model.

    The method is merged into the weights where that is exact. Everything is computed in float32. The file is
    loaded by its own runtime and compared with the classifier before anything is written.

    Args:
        adapter: an adapter folder or run folder, or a classifier, which stays as it is.
        out: the file, NAME.onnx or NAME.pt2. NAME.json, and for ONNX predict.py, are written beside it.
        to: "onnx", or "torch" for an archive of torch.export, which needs this package to be loaded.
        int8: compute the matrix products of an ONNX model in int8, with weights of a quarter of the size.
        custom_op: scan with a custom operator of onnxruntime, in C, which is compiled here: twice as fast.
            The library and its source are written beside the model.
        batch: clips in a batch; None: any number.
        clips: videos, or folders of them, for the comparison: at least `LEAST_CLIPS`. None: random clips.
        backbone: weights of the backbone of a folder, if they have moved, see `load`.
        allow: write the files although the proof failed.

    Returns:
        The files and the proof, which is also in NAME.json.

    Raises:
        ExportError: the method has an operation that the format lacks; there is no C compiler; or the proof
            failed: the logits differ by more than 1e-4, or too many clips get another class. Nothing was
            written.
        ValueError: a file exists, or an argument does not fit the others.
        ImportError: the extra `export` is not installed.
        DataError: a clip cannot be decoded.
    """
    target = Path(out)
    check(target, to, int8, custom_op, batch)
    beside = files_beside(target, to, custom_op)
    check_beside(beside)
    if isinstance(adapter, Classifier):
        classifier = copy.deepcopy(adapter)
    else:
        classifier = load(adapter, backbone=backbone)
    if classifier.tuner.mixes_clips:
        text = "with its options, a prediction depends on the other clips of the batch"
        raise ExportError(f"{classifier.method} cannot be exported: {text}")
    classifier.to("cpu").eval().requires_grad_(False)
    classifier.to_precision("float32")
    compared = comparison_clips(classifier, clips)
    merged = copy.deepcopy(classifier)
    merged.merge()
    with tempfile.TemporaryDirectory(prefix="videossp-") as folder:
        draft = Path(folder) / target.name
        try:
            if to == "onnx":
                runtime = write_onnx(merged, draft, batch, int8, beside.get(target.parent / LIBRARY))
            else:
                runtime = write_archive(merged, draft, batch)
            proof = prove(
                classifier,
                runtime,
                compared,
                real=clips is not None,
                int8=int8,
                batches=BATCHES if batch is None else (batch,),
            )
        except (OSError, MemoryError, VideoSSPError):
            raise
        except Exception as error:  # of the exporter, the quantisation or the runtime, which have own kinds
            raise ExportError(f"{classifier.method} cannot be exported: {first_line(error)}") from error
        if proof.faults and not allow:
            raise ExportError(f"{'; '.join(proof.faults)}: nothing was written (--allow writes it anyway)")
        data = draft.read_bytes()
    check(target, to, int8, custom_op, batch)  # again: the comparison may have taken minutes
    check_beside(beside)
    about = description(classifier, target, to, batch, int8, custom_op, data, proof)
    contents: dict[Path, str | bytes] = {
        target: data,
        target.with_suffix(".json"): json.dumps(about, indent=2, ensure_ascii=False) + "\n",
        **beside,
    }
    with ExitStack() as written:
        for path, content in contents.items():
            if not path.exists():
                written.callback(path.unlink, missing_ok=True)
            atomic_write(path, content)
        written.pop_all()  # all are there: keep them
    weights = sum(x.numel() * x.element_size() for x in merged.state_dict().values())
    return Export(tuple(contents), proof, len(data), weights)


def check(target: Path, to: Target, int8: bool, custom_op: bool, batch: int | None) -> None:
    """Raise a ValueError if arguments do not fit, or a file that would be written exists."""
    if to not in SUFFIXES:
        raise ValueError(f"to must be {' or '.join(SUFFIXES)}, got {to!r}")
    if target.suffix != SUFFIXES[to] or not target.parent.is_dir():
        raise ValueError(f"out {target}: must be a {SUFFIXES[to]} in a folder that exists")
    if int8 and to != "onnx":
        raise ValueError("int8 is of ONNX models: leave it out, or export to onnx")
    if custom_op and to != "onnx":
        raise ValueError("the custom operator is of ONNX models: leave it out, or export to onnx")
    if batch is not None and (not isinstance(batch, int) or isinstance(batch, bool) or batch < 1):
        raise ValueError(
            f"batch must be a whole number of at least 1, or None (--batch dynamic), got {batch!r}"
        )
    for path in (target, target.with_suffix(".json")):
        if path.exists() or path.is_symlink():
            raise ValueError(f"{path}: exists; choose another name")
    if not os.access(target.parent, os.W_OK):
        raise ValueError(f"{target.parent}: cannot be written to; choose another folder")


def files_beside(target: Path, to: Target, custom_op: bool) -> dict[Path, bytes]:
    """Files that several models in a folder share, and their contents.

    Raises:
        ExportError: the custom operator cannot be compiled.
    """
    beside = {SCRIPT: PREDICT_SCRIPT.read_bytes()} if to == "onnx" else {}
    if custom_op:
        with tempfile.TemporaryDirectory(prefix="videossp-") as folder:
            beside[LIBRARY] = compiled_library(Path(folder)).read_bytes()
        beside[SCAN_SOURCE.name] = SCAN_SOURCE.read_bytes()
    return {target.parent / name: content for name, content in beside.items()}


def check_beside(beside: Mapping[Path, bytes]) -> None:
    """Raise a ValueError if a file exists and has another content."""
    for path, content in beside.items():
        if path.exists() and path.read_bytes() != content:
            raise ValueError(
                f"{path}: exists, and is not the one that would be written; choose another folder"
            )


def comparison_clips(classifier: Classifier, paths: Paths | None) -> Tensor:
    """The clips of the proof: one of each video, uint8, or random ones, normalised.

    Raises:
        ValueError: there are too few.
        DataError: a video cannot be decoded.
    """
    if paths is None:
        return seeded_clips(classifier.clip_format)
    videos = find_videos(paths)
    if len(videos) < LEAST_CLIPS:
        raise ValueError(f"a proof needs at least {LEAST_CLIPS} videos, there are {len(videos)}")
    count = min(len(videos), MOST_CLIPS)
    if count < len(videos):
        warn(f"compared on {count} of {len(videos)} videos, evenly spread")
    chosen = [videos[i * len(videos) // count] for i in range(count)]
    return torch.cat([read_views(path, classifier.clip_format, raw=True) for path in chosen])


def write_onnx(
    classifier: Classifier, path: Path, batch: int | None, int8: bool, library: bytes | None
) -> Callable[[], Runtime]:
    """Write an ONNX model; returns a function that loads it with onnxruntime.

    Args:
        library: of the custom operator, if the model shall have it; it is written beside the model.
    """
    from videossp.exporting.exported import open_onnx
    from videossp.exporting.onnx_model import onnx_model, quantized, traced

    model = onnx_model(traced(classifier, batch), classifier.method, custom_op=library is not None)
    if int8:
        model = quantized(model)
    path.write_bytes(model.SerializeToString())
    if library is None:
        return partial(open_onnx, path)
    (path.parent / LIBRARY).write_bytes(library)
    return partial(open_onnx, path, path.parent / LIBRARY)


def write_archive(classifier: Classifier, path: Path, batch: int | None) -> Callable[[], Runtime]:
    """Write an archive of torch.export; returns a function that loads it."""
    from videossp.exporting.onnx_model import traced

    program = traced(classifier, batch)
    program.example_inputs = None  # else it holds the clips that it was traced with
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it has paths of this machine
    torch.export.save(program, path)

    def open_archive() -> Runtime:
        module = torch.export.load(path).module()

        def run(clips: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                out: np.ndarray = module(torch.from_numpy(clips)).numpy()
            return out

        return run

    return open_archive


def description(
    classifier: Classifier,
    target: Path,
    to: Target,
    batch: int | None,
    int8: bool,
    custom_op: bool,
    data: bytes,
    proof: Proof,
) -> dict[str, Any]:
    """The content of NAME.json."""
    form, size, source = classifier.clip_format, batch or "batch", classifier.source.name
    return {
        "format": FORMAT,
        "model": target.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "to": to,
        "precision": "int8" if int8 else "float32",
        "custom_op": LIBRARY if custom_op else None,
        "input": {"name": "clip", "type": "float32", "shape": [size, 3, form.frames, *form.size]},
        "output": {"name": "logits", "type": "float32", "shape": [size, len(classifier.classes)]},
        "batch": batch,
        "classes": list(classifier.classes),
        "clip": asdict(form),
        "method": classifier.method,
        "options": classifier.options,
        "backbone": {
            "name": Path(source).name if Path(source).is_absolute() else source,
            "sha256": classifier.sha256,
            "sizes": asdict(classifier.backbone.config),
        },
        "video_seconds": classifier.video_seconds,
        "metrics": classifier.metrics,
        "versions": versions(),
        "proof": proof.summary(),
    }
