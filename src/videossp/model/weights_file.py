"""The content of a file of weights. Its first bytes tell the format, not its suffix; no code of it runs."""

import argparse
import re
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from safetensors.torch import load_file

from videossp.errors import WeightsError
from videossp.model.published import first_line

ZIP = b"PK\x03\x04"
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # what torch.save wrote before version 1.6
LARGEST_HEADER = 100_000_000  # of a safetensors file, in bytes; its library has the same limit
CONVERT = "save the state dict with torch.save or safetensors"
# Formats that are not read, by their first bytes.
FOREIGN = {
    b"version https://git-lfs.github.com/": "a Git LFS pointer, not the weights: run 'git lfs pull'",
    b"/annex/objects/": "a git-annex pointer, not the weights: run 'git annex get'",
    b"\x1f\x8b": "compressed with gzip: unpack it first (gunzip)",
    b"BZh": "compressed with bzip2: unpack it first (bunzip2)",
    b"\xfd7zXZ\x00": "compressed with xz: unpack it first (unxz)",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it first (unzstd)",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it and name the file of weights in it",
    b"Rar!": "a RAR archive: unpack it and name the file of weights in it",
    b"\x89HDF": f"an HDF5 file: {CONVERT}",
    b"\x93NUMPY": f"a NumPy array: {CONVERT}",
    b"GGUF": f"a GGUF file: {CONVERT}",
    b"%PDF": "a PDF document, not weights: download the file again",
}
NEWER_OPERANDS = range(0x8C, 0x98)  # of pickle's protocols 4 and 5
SAVE_STATE = "in the program that wrote the file, save model.state_dict() alone"
DAMAGED = "cut off or damaged: download or copy it again"


class StandIn:
    """Takes the place of an object of another program. It keeps nothing and does nothing."""

    def __new__(cls, *args: Any) -> "StandIn":
        return super().__new__(cls)

    def __init__(self, *args: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


# Objects that training programs save beside the tensors. Their own code is never imported.
OBJECTS = (
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "pathlib._local.PurePosixPath",
    "pathlib._local.PureWindowsPath",
    "pathlib._local.WindowsPath",
    "types.SimpleNamespace",
)
# Kinds of dict of training programs; plain dicts take their place.
DICTS = (
    "addict.addict.Dict",
    "easydict.EasyDict",
    "fvcore.common.config.CfgNode",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "mmengine.config.config.ConfigDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "yacs.config.CfgNode",
)
# The types of the values of optimisers' settings and logs: NumPy's numbers, text and times, not its objects.
DTYPES = {type(np.dtype(x)) for x in "?bhilqBHILQefdgFDGSUMm"}
# What builds numbers and arrays, and the modules that NumPy 1 and 2 name in a file.
NUMPY: tuple[Callable[..., Any], ...] = multiarray.scalar, multiarray._reconstruct
NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


def read_weights_file(path: str | Path) -> Any:
    """The content of a .safetensors file or of one that torch.save wrote, under any name.

    Pickles are read with `weights_only=True`, which builds only tensors and plain values. Besides these,
    numbers and arrays of NumPy are read, and stand-ins, which do nothing, take the place of `OBJECTS`.

    Raises:
        WeightsError: the file is of another format, damaged, or holds other objects; the message says which.
    """
    path = Path(path)
    try:
        head = _head(path)
    except OSError as error:
        raise _refused(path, error.strerror or first_line(error)) from error
    if sentence := foreign_format(path):
        raise _refused(path, sentence)
    safetensors = _is_safetensors(head)
    try:
        return load_file(path) if safetensors else _load_pickle(path)
    except MemoryError:
        raise
    except Exception as error:  # the two libraries raise a dozen kinds; all mean: not readable
        raise _refused(path, _safetensors_reason(error) if safetensors else _reason(path, error)) from error


def foreign_format(path: Path) -> str | None:
    """The format of a file that holds no weights, and the cure, in words; None if it may hold some."""
    head = _head(path)
    if not head:
        return "an empty file: download or copy it again"
    if head.startswith((ZIP, LEGACY)) or _is_safetensors(head):
        return None
    for start, sentence in FOREIGN.items():
        if head.startswith(start):
            return sentence
    if head[257:262] == b"ustar":
        return _archive(path)
    if head.startswith(b"\x80") and len(head) > 1 and head[1] <= 5:
        return f"a Python pickle that torch.save did not write: {CONVERT}"
    if not head.strip(b"\x00"):
        return f"only zeros at its start: {DAMAGED}"
    if kind := _kind_of_text(head):
        return kind
    return f"neither safetensors nor written by torch.save (it begins with {head[:8].hex(' ')}), or damaged"


def _kind_of_text(head: bytes) -> str | None:
    """What kind of text a file holds, in words; None if it is no text."""
    decoded = head.decode("utf-8", errors="ignore").removeprefix("\ufeff")
    text = " ".join(decoded.split())
    if not text.isprintable() or len(decoded.encode()) < len(head) // 2:
        return None
    if re.match(r"<(!doctype html|html|head|script|!--)", text.lower()):
        return "a web page (HTML), not weights: the download failed; download the file itself"
    if text.startswith("<"):
        return "an XML page, not weights: the download failed; download the file itself"
    return f"a text that begins with {text[:40]!r}, not weights: download the file again"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


def _refused(path: Path, sentence: str) -> WeightsError:
    return WeightsError(f"{path}: not a readable checkpoint: {sentence}")


def _is_safetensors(head: bytes) -> bool:
    """The length of the header in 8 bytes, then the header, which is JSON."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= LARGEST_HEADER


def _archive(path: Path) -> str:
    try:
        with tarfile.open(path) as archive:
            names = [archive.next() for _ in range(4)]
    except tarfile.TarError:
        return f"a TAR archive, {DAMAGED}"
    if {"pickle", "storages", "tensors"} & {x.name for x in names if x}:
        return "torch's TAR format from before version 0.1.10: save it again with a torch that reads it"
    return "a TAR archive: unpack it (tar -xf) and name the file of weights in it"


def _load_pickle(path: Path) -> Any:
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        argparse.Namespace,
        np.ndarray,
        np.dtype,
        *DTYPES,
        (_no_bytes, "builtins.bytes"),
        *((x, f"{module}.{x.__name__}") for x in NUMPY for module in NUMPY_MODULES),
        *((StandIn, name) for name in OBJECTS),
        *((OrderedDict, name) for name in DICTS),
    ]
    # An open file, because torch takes the suffix .safetensors of a path for the format.
    with torch.serialization.safe_globals(allowed), warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # advice to those who wrote the file
        return torch.load(file, map_location="cpu", weights_only=True)


def _no_bytes(*args: Any) -> bytes:
    """What a pickle calls for the content of an empty array, and for nothing else."""
    return b""


def _safetensors_reason(error: Exception) -> str:
    return f"a safetensors file, but {DAMAGED} ({first_line(error)})"


def _reason(path: Path, error: Exception) -> str:
    """Why torch could not read a file. Its own words advise users to switch the protection off."""
    text = str(error)
    if found := re.search(r"GLOBAL ([\w.]+) (?:was not an allowed|whose module)", text):
        return f"it holds the object {found[1]}, which is not loaded because it could run code: {SAVE_STATE}"
    if "must be imported to load" in text:
        return f"it holds parts of tensors of a distributed training: gather them; {SAVE_STATE}"
    found = re.search(r"Unsupported operand (\d+)", text)
    if found and int(found[1]) in NEWER_OPERANDS:
        return "its pickle has a newer protocol than torch.save's own: save it again without pickle_protocol"
    names = _members(path)
    if names and not any(x.endswith("data.pkl") for x in names):
        return f"a ZIP archive ({', '.join(names[:3])}): unpack it and name the file of weights in it"
    if any(x.endswith("constants.pkl") for x in names):
        return "a TorchScript program: save the state_dict() of its module with torch.save"
    if "weights_only" in text.lower():
        return f"it is damaged or holds other objects than tensors and plain values: {SAVE_STATE}"
    return f"{DAMAGED} ({first_line(error)})"


def _members(path: Path) -> list[str]:
    """The names in a ZIP archive; none if it is damaged or of another format."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return []
