"""`Embeddings`: the feature vectors of videos and their settings, in a safetensors, npz or Parquet file."""

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from videossp.errors import DataError
from videossp.system.files import atomic_write
from videossp.system.rows import arrow_modules, storable

SUFFIXES = (".safetensors", ".npz", ".parquet")
SETTINGS = "videossp_settings"  # the name of the settings in the metadata of a file
# Settings that do not change the vectors: the place of the weights, and the version that wrote the file.
INFORMATIVE = {"backbone.name", "backbone.weights", "backbone.seed", "adapter.folder", "videossp"}


@dataclass
class Embeddings:
    """One feature vector for each video.

    Paths that are not UTF-8 have escapes \\udc.. in place of the bytes that are not.

    Attributes:
        paths: absolute paths of the videos that have a vector, or names that a `fetch` knows.
        sha256: `content_hash` of each of these videos.
        vectors: (videos, width) float32 in the order of the paths; the mean over the views of a video.
        errors: path -> reason of each video that could not be decoded and has no vector.
        settings: what the vectors depend on: features, frozen or tuned, width, backbone, adapter, clip and
            views, precision; and the version of videossp.
        states: `content_state` of each video when its vector was computed.
    """

    paths: list[str]
    sha256: list[str]
    vectors: Tensor
    errors: dict[str, str]
    settings: dict[str, Any]
    states: list[str]

    def __post_init__(self) -> None:
        self.paths = [storable(x) for x in self.paths]
        self.errors = {storable(path): storable(reason) for path, reason in self.errors.items()}

    def __len__(self) -> int:
        return len(self.paths)

    def normalised(self) -> Tensor:
        """The vectors at length 1, (videos, width): their products are cosine similarities."""
        return torch.nn.functional.normalize(self.vectors, dim=1)

    def save(self, file: str | Path) -> None:
        """Write the file atomically; its suffix gives the format, see docs/embed.md.

        Raises:
            ValueError: an unknown suffix, or Parquet without pyarrow.
            OSError: the file cannot be written.
        """
        path = Path(file)
        check_suffix(path)
        write = {".safetensors": _safetensors, ".npz": _npz, ".parquet": _parquet}[path.suffix]
        atomic_write(path, write(self))

    @classmethod
    def load(cls, file: str | Path) -> "Embeddings":
        """The content of a file that `save` wrote.

        Raises:
            ValueError: an unknown suffix, or Parquet without pyarrow.
            DataError: there is no such file, it is damaged, or another program wrote it.
        """
        path = Path(file)
        check_suffix(path)
        readers: dict[str, Callable[[Path], Embeddings]] = {
            ".safetensors": _read_safetensors,
            ".npz": _read_npz,
            ".parquet": _read_parquet,
        }
        if not path.is_file():
            raise DataError(f"{path}: no such file; videossp embed writes it")
        try:
            found = readers[path.suffix](path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        except KeyError as error:
            raise DataError(f"{path}: not a file of videossp embed: {error} is missing") from error
        except (ValueError, TypeError, EOFError, SafetensorError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{path}: damaged, or not a file of videossp embed: {reason}") from error
        counts = {len(found.paths), len(found.sha256), len(found.states), len(found.vectors)}
        if found.vectors.ndim != 2 or len(counts) > 1 or found.vectors.shape[1] != found.settings["width"]:
            raise DataError(f"{path}: damaged: its columns do not have the same number of videos")
        return found


def check_suffix(path: Path) -> None:
    """Raise a ValueError if the name of a file does not tell its format, or its library is missing."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: the name of embeddings must end in {', '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        arrow_modules(path)


def different_setting(found: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """The first setting in which vectors would differ, as "NAME: A, now B"; None if there is none."""
    one, other = _flat(found), _flat(wanted)
    for name in {**one, **other}:
        if name not in INFORMATIVE and one.get(name) != other.get(name):
            return f"{name}: {json.dumps(one.get(name))}, now {json.dumps(other.get(name))}"
    return None


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    inner = {
        f"{name}.{key}": x for name, y in settings.items() if isinstance(y, dict) for key, x in y.items()
    }
    return {name: x for name, x in settings.items() if not isinstance(x, dict) and x is not None} | inner


def _safetensors(x: Embeddings) -> bytes:
    rows = [
        {"path": path, "sha256": sha256, "state": state}
        for path, sha256, state in zip(x.paths, x.sha256, x.states, strict=True)
    ]
    failed = [{"path": path, "error": reason} for path, reason in x.errors.items()]
    # A tensor, as the header of the format ends at 100 MB.
    lines = "".join(json.dumps(row) + "\n" for row in [*rows, *failed]).encode()
    videos = torch.frombuffer(bytearray(lines), dtype=torch.uint8) if lines else torch.zeros(0).byte()
    tensors = {"vectors": x.vectors.contiguous(), "videos": videos}
    return save_tensors(tensors, {SETTINGS: json.dumps(x.settings)})


def _read_safetensors(path: Path) -> Embeddings:
    content = path.read_bytes()
    tensors = load_tensors(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    lines = tensors["videos"].numpy().tobytes().splitlines()
    rows = [json.loads(line) for line in lines]
    return _of_rows(rows, tensors["vectors"], header["__metadata__"][SETTINGS])


def _npz(x: Embeddings) -> bytes:
    file = io.BytesIO()
    np.savez(
        file,
        vectors=x.vectors.numpy(),
        paths=np.array(x.paths, dtype=np.str_),
        sha256=np.array(x.sha256, dtype=np.str_),
        states=np.array(x.states, dtype=np.str_),
        failed=np.array([*x.errors], dtype=np.str_),
        errors=np.array([*x.errors.values()], dtype=np.str_),
        settings=np.array(json.dumps(x.settings)),
    )
    return file.getvalue()


def _read_npz(path: Path) -> Embeddings:
    # Of a file that is damaged, np.load would leave the descriptor open.
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        columns = {name: file[name].tolist() for name in ("paths", "sha256", "states", "failed", "errors")}
        return Embeddings(
            columns["paths"],
            columns["sha256"],
            torch.from_numpy(file["vectors"]),
            dict(zip(columns["failed"], columns["errors"], strict=True)),
            json.loads(str(file["settings"])),
            columns["states"],
        )


def _parquet(x: Embeddings) -> bytes:
    arrow, parquet = arrow_modules(Path("embeddings.parquet"))
    count, width = x.vectors.shape
    vectors = arrow.FixedSizeListArray.from_arrays(arrow.array(x.vectors.numpy().reshape(-1)), width)
    text, kind = arrow.string(), arrow.list_(arrow.float32(), width)
    none = [None] * len(x.errors)
    columns = {
        "path": arrow.array([*x.paths, *x.errors], text),
        "sha256": arrow.array([*x.sha256, *none], text),
        "state": arrow.array([*x.states, *none], text),
        "error": arrow.array([*([None] * count), *x.errors.values()], text),
        "vector": arrow.chunked_array([vectors, arrow.nulls(len(x.errors), kind)], kind),
    }
    table = arrow.table(columns).replace_schema_metadata({SETTINGS: json.dumps(x.settings)})
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


def _read_parquet(path: Path) -> Embeddings:
    _, parquet = arrow_modules(path)
    table = parquet.read_table(path)
    settings = (table.schema.metadata or {})[SETTINGS.encode()].decode()
    rows = table.drop_columns(["vector"]).to_pylist()
    rows = [{name: x for name, x in row.items() if x is not None} for row in rows]
    filled = table["vector"].drop_null().combine_chunks()
    values = np.array(filled.flatten(), dtype=np.float32)
    return _of_rows(rows, torch.from_numpy(values), settings)


def _of_rows(rows: Sequence[dict[str, str]], vectors: Tensor, settings: str) -> Embeddings:
    kept = [x for x in rows if "error" not in x]
    failed = {x["path"]: x["error"] for x in rows if "error" in x}
    paths, sha256, states = ([x[name] for x in kept] for name in ("path", "sha256", "state"))
    values: dict[str, Any] = json.loads(settings)
    return Embeddings(paths, sha256, vectors.reshape(-1, values["width"]), failed, values, states)
