"""`EmbeddingFile`: embeddings that grow by each video; a killed process loses none."""

import base64
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from videossp.data.clips import content_hash, content_state
from videossp.embedding.embeddings import Embeddings, check_suffix, different_setting
from videossp.system.files import exclusive_lock
from videossp.system.rows import json_line, read_json_lines, storable


@dataclass(frozen=True)
class _Row:
    """What is known of a video: its vector (width,) float32, or the error."""

    sha256: str
    state: str
    vector: np.ndarray | None = None
    error: str | None = None


class EmbeddingFile:
    """Embeddings in memory and, if opened with a path, in a file; open it with `EmbeddingFile.open`.

    Each vector is appended to a journal beside the file, .NAME.journal, as soon as it is there. The file is
    written as a whole at the end, also after an error or Ctrl-C, and the journal is removed.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.rows: dict[str, _Row] = {}  # by path
        self.by_content: dict[str, np.ndarray] = {}  # vectors by sha256
        self.pending: dict[str, tuple[str, str]] = {}  # path -> (sha256, state) of videos that are computed
        self.journal: BinaryIO | None = None
        self.changed = False
        if path is None:
            return
        self.journal_path = path.with_name(f".{path.name}.journal")
        if path.exists():
            found = Embeddings.load(path)
            self._check(found.settings)
            columns = zip(found.paths, found.sha256, found.states, found.vectors.numpy(), strict=True)
            for name, *row in columns:
                self._put(name, _Row(*row))
            self.rows |= {name: _Row("", "", None, reason) for name, reason in found.errors.items()}
        size = self._read_journal() if self.journal_path.exists() else 0
        self.journal = self.journal_path.open("r+b" if self.journal_path.exists() else "xb")
        self.journal.truncate(size)
        self.journal.seek(size)
        if not size:
            self._append({"settings": settings})

    def _check(self, found: dict[str, Any]) -> None:
        if difference := different_setting(found, self.settings):
            raise ValueError(
                f"{self.path}: was made with other settings ({difference}): give another --output, or the "
                "same settings"
            )

    def _read_journal(self) -> int:
        """Take the rows of a killed process; returns the size of the journal without a line cut off."""
        size = 0
        for number, (x, end) in enumerate(read_json_lines(self.journal_path)):
            size = end
            if not number:
                self._check(x["settings"])
                continue
            vector = x["vector"] and np.frombuffer(base64.b64decode(x["vector"]), np.float32)
            self._put(x["path"], _Row(x["sha256"], x["state"], vector, x["error"]))
            self.changed = True
        return size

    def _put(self, name: str, row: _Row) -> None:
        self.rows[name] = row
        if row.vector is not None and row.sha256:
            self.by_content[row.sha256] = row.vector

    def _append(self, line: dict[str, Any]) -> None:
        if self.journal:
            with self._explained():
                self.journal.write(json_line(line))
                self.journal.flush()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of writing with the names of the files."""
        try:
            yield
        except OSError as error:
            raise OSError(
                f"{self.path}: cannot be written ({error.strerror}); {self.journal_path.name} beside it "
                "keeps the vectors so far: make room, and run the command again"
            ) from error

    def _add(self, name: str, row: _Row) -> None:
        self._put(storable(name), row)
        self.changed = True
        vector = None if row.vector is None else base64.b64encode(row.vector.tobytes()).decode()
        self._append({**asdict(row), "path": storable(name), "vector": vector})

    def lacking(self, names: Iterable[str]) -> list[str]:
        """The videos that have no vector, or whose size or time of change is not as it was."""
        return [name for name in names if not self._has(name)]

    def _has(self, name: str) -> bool:
        row = self.rows.get(storable(name))
        return row is not None and row.vector is not None and row.state == _state(name)

    def without_vector(self, names: Iterable[str]) -> Iterator[str]:
        """The videos whose content has no vector yet. Those whose content has one are added on the way."""
        for name in names:
            state, sha256 = _state(name), _sha256(name)
            if (vector := self.by_content.get(sha256)) is not None:
                self._add(name, _Row(sha256, state, vector))
            else:
                self.pending[name] = sha256, state
                yield name

    def add(self, name: str, vector: Tensor | None, error: str | None) -> None:
        """Add the vector (width,) of a video that `without_vector` gave, or the reason why it has none."""
        array = None if vector is None else vector.numpy().astype(np.float32)
        self._add(name, _Row(*self.pending.pop(name), array, error))

    def embeddings(self, names: Sequence[str] | None = None) -> Embeddings:
        """Those of some videos, in their order; default: of all."""
        keys = [*self.rows] if names is None else [storable(x) for x in names]
        kept = {x: self.rows[x] for x in keys if self.rows[x].vector is not None}
        vectors = [x.vector for x in kept.values() if x.vector is not None]
        stacked = np.stack(vectors) if vectors else np.zeros((0, self.settings["width"]), np.float32)
        return Embeddings(
            [*kept],
            [x.sha256 for x in kept.values()],
            torch.from_numpy(stacked),
            {x: reason for x in keys if (reason := self.rows[x].error) is not None},
            self.settings,
            [x.state for x in kept.values()],
        )

    def close(self) -> None:
        """Write the file, if there is something new."""
        if self.path is None or self.journal is None:
            return
        try:
            with self._explained():
                if self.changed or not self.path.exists():
                    os.fsync(self.journal.fileno())
                    self.embeddings().save(self.path)
        finally:
            with suppress(OSError):  # bytes that a full disk refused
                self.journal.close()
        self.journal_path.unlink()

    @classmethod
    @contextmanager
    def open(cls, path: Path | None, settings: dict[str, Any]) -> Iterator["EmbeddingFile"]:
        """Open a file to add videos, a new one or one that is there; None: in memory only.

        Args:
            path: its suffix gives the format.
            settings: see `Embeddings`.

        Raises:
            ValueError: the file was made with other settings, its name or folder cannot be used, or another
                process writes it.
            DataError: the file is damaged.
            OSError: the file cannot be written.
        """
        if path is None:
            yield cls(None, settings)
            return
        check_suffix(path)
        if path.is_dir() or not path.parent.is_dir():
            problem = "is a folder" if path.is_dir() else "its folder does not exist"
            raise ValueError(f"{path}: {problem}; give another --output")
        with exclusive_lock(path.with_name(f".{path.name}.lock"), f"{path}: another process writes it"):
            file = cls(path, settings)
            try:
                yield file
            finally:
                file.close()


def _state(name: str) -> str:
    """`content_state` of a video; "" if it cannot be found, or is fetched from elsewhere."""
    try:
        return content_state(Path(name))
    except OSError:
        return ""


def _sha256(name: str) -> str:
    """`content_hash` of a video; "" if it cannot be read, or is fetched from elsewhere."""
    sha256 = content_hash(Path(name))
    return "" if sha256.startswith("unreadable") else sha256
