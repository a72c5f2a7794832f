"""Where a backbone comes from: `Source`, how it is built, and its fingerprint."""

import copy
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from videossp.bundled import WEIGHTS
from videossp.errors import WeightsError
from videossp.model.checkpoint import read_checkpoint
from videossp.model.config import BACKBONES, VideoMambaConfig
from videossp.model.published import Published, config_of, sort_published
from videossp.model.published_backbones import PUBLISHED_BACKBONES, check_sizes
from videossp.model.videomamba import VideoMamba
from videossp.model.weights_path import find_weights, near

RANDOM = "random"
# The `Source.name` of a backbone that was given as an object, and the words for it in errors.
STATE_DICT, MODULE, CONFIG = "state_dict", "VideoMamba", "VideoMambaConfig"
NOT_REBUILDABLE = {STATE_DICT: "a state dict", MODULE: "a VideoMamba"}


@dataclass(frozen=True)
class Source:
    """Where a backbone came from: enough to build it again.

    Attributes:
        name: a name of `BACKBONES` or `PUBLISHED_BACKBONES`, an absolute path or a hub id; or `CONFIG`, whose
            sizes are elsewhere; or one of `NOT_REBUILDABLE`.
        weights: for a name of `BACKBONES`: an absolute path, a hub id, a published name or "random". None:
            the bundled weights if there are some, else random weights.
        seed: seed of random weights.
    """

    name: str
    weights: str | None = None
    seed: int = 0

    @property
    def random(self) -> bool:
        """Whether the weights are random, not pretrained."""
        if self.weights is None:
            return self.name in BACKBONES and self.name not in WEIGHTS
        return self.weights == RANDOM

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on a choice that the caller made, one line each."""
        if self.weights == RANDOM:
            return (f"{self.name}: RANDOM weights, as requested; for trials only",)
        if self.name in WEIGHTS and self.weights is None:
            return (
                f"{self.name}: the bundled backbone, pretrained only on simulated robots and people; "
                "for real videos choose a published backbone (videossp backbones)",
            )
        return ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons why results may mislead, except the caller's explicit choices; one line each."""
        if self.random and self.weights is None:
            return (f"{self.name}: RANDOM weights, because no weights were given; for trials only",)
        return ()


def source_of(backbone: VideoMambaConfig | VideoMamba, seed: int) -> Source:
    """The source of a backbone that is given as an object."""
    if isinstance(backbone, VideoMambaConfig):
        return Source(CONFIG, RANDOM, seed)
    if isinstance(backbone, VideoMamba):
        return Source(MODULE)
    raise TypeError(
        f"backbone must be a str, a VideoMambaConfig or a VideoMamba, got {type(backbone).__name__}"
    )


def absolute(source: str) -> str:
    """An existing path as an absolute one, so that it is found from any folder; other sources unchanged.

    The names of `BACKBONES` and "random" are never paths: write ./random for a file or folder of that name.
    Published names stay as they are: `find_weights` refuses one that is also a file or folder here.
    Symbolic links are kept: the hub's cache links names with a suffix to files without one.
    """
    path = Path(source).expanduser()
    if source in (*BACKBONES, *PUBLISHED_BACKBONES, RANDOM) or not path.exists():
        return source
    return os.path.abspath(path)


def build_backbone(
    source: Source,
    frames: int | None = None,
    size: int | tuple[int, int] | None = None,
    drop_path: float = 0.0,
    *,
    given: VideoMamba | VideoMambaConfig | None = None,
    prefer_hub: bool = False,
) -> tuple[VideoMamba, Published | None]:
    """Build the backbone of a source.

    Args:
        source: where it comes from.
        frames, size: of its clips; None: those of the source. Position embeddings are resized to them.
        drop_path: stochastic depth while training.
        given: a module, which is copied, or the sizes of random weights.
        prefer_hub: see `find_weights`.

    Returns:
        The backbone, and its checkpoint unless its weights are random.

    Raises:
        WeightsError: the weights cannot be found or read, or do not fit; or a given module has other frames
            or another size.
    """
    wanted: dict[str, Any] = {} if frames is None else {"frames": frames}
    if size is not None:
        wanted["size"] = (
            tuple(size) if isinstance(size, Sequence) and not isinstance(size, str) else (size, size)
        )
    if isinstance(given, VideoMamba):
        if replace(given.config, **wanted) != given.config:
            raise WeightsError(
                f"the given VideoMamba takes {given.config.frames} frames of {given.config.size}, not "
                f"{frames or given.config.frames} of {wanted.get('size', given.config.size)}"
            )
        backbone = copy.deepcopy(given)
        with torch.device("meta"):
            rates = [layer.drop_path for layer in VideoMamba(given.config, drop_path).layers]
        for layer, rate in zip(backbone.layers, rates, strict=True):
            layer.drop_path = rate
        backbone.drop_path = drop_path
        return backbone, None
    if given or source.random:
        return VideoMamba(replace(given or BACKBONES[source.name], **wanted), drop_path), None
    file = _file_of(source, prefer_hub)
    state, notes = read_checkpoint(file)
    try:
        config = config_of(state)
        if (name := source.weights or source.name) in PUBLISHED_BACKBONES:
            images = "temporal_pos_embedding" not in state
            check_sizes(name, replace(config, frames=1) if images else config)
        if source.name in BACKBONES:
            config = replace(BACKBONES[source.name], frames=config.frames, size=config.size)
        config = replace(config, **wanted)
        published = sort_published(state, config=config)
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from error
    published.notes[:0] = notes
    if published.tuner:
        published.warnings.append(
            f"left out: {len(published.tuner)} tensors of trained SSP prompts (from_official keeps them)"
        )
    backbone = VideoMamba(config, drop_path)
    backbone.load_state_dict(published.backbone)
    return backbone, published


def _file_of(source: Source, prefer_hub: bool) -> Path:
    file = source.weights or source.name
    if file in WEIGHTS:
        return WEIGHTS[file]
    if file in BACKBONES:
        raise WeightsError(f"{file}: no weights of this name are bundled; for a file write ./{file}")
    path = Path(file).expanduser()
    here = file != RANDOM and path.exists()
    if source.weights is None and "/" not in file and not here and file not in PUBLISHED_BACKBONES:
        raise WeightsError(
            f"no backbone {file!r}: name one of {', '.join(BACKBONES)}, one of 'videossp backbones', a file, "
            f"or a hub id (owner/repository/file){near(path)}"
        )
    return find_weights(file, prefer_hub=prefer_hub)


def fingerprint(backbone: VideoMamba) -> str:
    """sha256 of the backbone's tensors and their names, in float32."""
    digest = hashlib.sha256()
    for name, x in sorted(backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(x.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
