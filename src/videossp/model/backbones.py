"""`Source`: where a backbone comes from; builds it and takes its fingerprint."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videossp.bundled import WEIGHTS
from videossp.errors import WeightsError
from videossp.model.config import BACKBONES
from videossp.model.published import Published, config_of, first_line, read_checkpoint, sort_published
from videossp.model.videomamba import VideoMamba

RANDOM = "random"
SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")


@dataclass(frozen=True)
class Source:
    """Where a backbone came from, enough to build it again.

    Attributes:
        name: a name of `BACKBONES`, a path or a hub id.
        weights: of a named backbone: a path, a hub id or "random". None: those that come with the package,
            if they do, else random.
        seed: of the random weights of a named backbone without any.
    """

    name: str
    weights: str | None = None
    seed: int = 0

    @property
    def random(self) -> bool:
        """Whether the weights are random, not pretrained."""
        if self.weights is None:
            return self.name in BACKBONES and self.name not in WEIGHTS
        return self.name in BACKBONES and self.weights == RANDOM

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of it, a line each."""
        if self.random:
            reason = "as asked for" if self.weights else "no --weights given"
            return (f"{self.name}: RANDOM weights ({reason}), good for trying things out only",)
        if self.name in WEIGHTS and self.weights is None:
            return (
                f"{self.name}: the small backbone that comes along, pretrained on simulated robots and "
                "people; for real videos name a published --backbone",
            )
        return ()


def absolute(source: str) -> str:
    """A path that exists, made absolute so that it is found from elsewhere; other sources unchanged."""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() and source not in BACKBONES else source


def build_backbone(
    source: Source,
    frames: int | None = None,
    size: int | tuple[int, int] | None = None,
    drop_path: float = 0.0,
) -> tuple[VideoMamba, Published | None]:
    """The backbone of a source at the wanted frames and size, and its checkpoint if it has one."""
    wanted: dict[str, Any] = {} if frames is None else {"frames": frames}
    if size is not None:
        wanted["size"] = (size, size) if isinstance(size, int) else tuple(size)
    if source.random:
        return VideoMamba(replace(BACKBONES[source.name], **wanted), drop_path), None
    file = source.weights or source.name
    known = file in WEIGHTS or Path(file).expanduser().exists() or "/" in file
    if source.weights is None and not known:
        raise WeightsError(
            f"no backbone {source.name!r}: name one of {', '.join(BACKBONES)}, a file, "
            "or a hub id (owner/repository/file)"
        )
    state = read_checkpoint(WEIGHTS[file] if file in WEIGHTS else find_weights(file))
    found = config_of(state)
    if source.name in BACKBONES:
        found = replace(BACKBONES[source.name], frames=found.frames, size=found.size)
    published = sort_published(state, spec=replace(found, **wanted))
    if published.tuner:
        published.notes.append(
            f"left out: {len(published.tuner)} tensors of trained SSP prompts (from_official keeps them)"
        )
    backbone = VideoMamba(replace(found, **wanted), drop_path)
    backbone.load_state_dict(published.backbone)
    return backbone, published


def find_weights(source: str) -> Path:
    """The local file of a path or a hub id, owner/repository[/file]: downloaded once, offline honoured."""
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return path / _only(source, [x.name for x in path.iterdir()])
    parts = source.split("/")
    local = len(parts) == 2 and parts[1].endswith(SUFFIXES)
    if len(parts) < 2 or not all(parts) or parts[0] in (".", "..", "~") or local:
        raise WeightsError(f"{source}: no such file, and not a hub id (owner/repository/file)")
    from huggingface_hub import HfApi, hf_hub_download

    repository = "/".join(parts[:2])
    try:
        name = "/".join(parts[2:]) or _only(source, HfApi().list_repo_files(repository))
        return Path(hf_hub_download(repository, name))
    except WeightsError:
        raise
    except Exception as error:  # the hub's client has a dozen kinds; all mean: not to be had now
        reason = first_line(error)
        raise WeightsError(f"{source}: no such file here, and the hub did not give it: {reason}") from error


def _only(source: str, names: Iterable[str]) -> str:
    weights = sorted(x for x in names if x.endswith(SUFFIXES))
    if len(weights) != 1:
        raise WeightsError(f"{source}: name one file of it; it holds {', '.join(weights) or 'no weights'}")
    return weights[0]


def fingerprint(backbone: VideoMamba) -> str:
    """sha256 of the backbone's tensors by name, in float32."""
    digest = hashlib.sha256()
    for name, x in sorted(backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(x.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
