"""`find_weights`: the local file of a path, a hub id or a published name. A mistyped path asks no hub."""

import difflib
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from videossp.errors import WeightsError
from videossp.model.published import first_line
from videossp.model.published_backbones import PUBLISHED_BACKBONES, nearest
from videossp.system.quiet import quiet

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
MORE_SUFFIXES = (".ckpt", ".pyth", ".tar")  # files of a folder without any of the above
HUB_TIMEOUT = 10.0  # seconds until the hub must answer


def find_weights(source: str, *, prefer_hub: bool = False) -> Path:
    """The local file of a path, of a hub id, owner/repository[/file], or of a name of `PUBLISHED_BACKBONES`.

    The hub's file is downloaded once; its offline mode is honoured. A folder and a repository may leave out
    the file if they hold one file of weights only.

    Args:
        source: the path, hub id or name.
        prefer_hub: where a local path and a hub id or name are the same text, take the hub's file.

    Raises:
        WeightsError: there is no such file; or a published name is also that of a file or folder here.
    """
    path = Path(source).expanduser()
    if published := PUBLISHED_BACKBONES.get(source):
        if path.exists() and not prefer_hub:
            raise WeightsError(
                f"{source}: the name of a published backbone, and of a file or folder here; write ./{source} "
                f"for the one here, {published.hub_id} for the hub's"
            )
        return _from_hub(published.hub_id)
    hub = _may_be_hub_id(source)
    if path.exists() and not (hub and prefer_hub):
        return _file_in(path, source)
    if not hub:
        raise WeightsError(f"{source}: no such file, and not a hub id (owner/repository/file){near(path)}")
    first = source.split("/")[0]
    if not prefer_hub and Path(first).is_dir():
        raise WeightsError(
            f"{source}: no such file; a folder {first} is here, so the hub is not asked{near(path)}"
        )
    try:
        return _from_hub(source)
    except WeightsError:
        if path.exists():
            return _file_in(path, source)
        raise


def _may_be_hub_id(source: str) -> bool:
    """Whether a source has the form of a hub id, owner/repository[/file], not that of a path only."""
    parts = source.split("/")
    names = all(re.fullmatch(r"[\w-][\w.-]*", x) for x in parts[:2])
    file = len(parts) == 2 and parts[1].lower().endswith(SUFFIXES + MORE_SUFFIXES)
    return len(parts) > 1 and all(parts) and names and not file


def _from_hub(source: str) -> Path:
    """The file of a hub id: the hub's, or that of the local cache if the hub does not answer."""
    from huggingface_hub import HfApi, hf_hub_download

    parts = source.split("/")
    repository, name = "/".join(parts[:2]), "/".join(parts[2:])
    with quiet("huggingface_hub"):
        try:
            # Asked first because a download retries for half a minute where there is no connection.
            info = HfApi().model_info(repository, timeout=HUB_TIMEOUT)
            files = [x.rfilename for x in info.siblings or ()]
            name = name or _only(source, files)
            if files and name not in files:
                close = ", ".join(_close(name, files)) or "no similar name"
                raise WeightsError(f"{source}: not available from the hub: {repository} has {close}")
            return Path(hf_hub_download(repository, name))
        except WeightsError:
            raise
        except Exception as error:  # the hub's client raises a dozen kinds; all mean: not available now
            reason = _reason(error, repository, name)
        with suppress(Exception):
            if name:
                return Path(hf_hub_download(repository, name, local_files_only=True))
    raise WeightsError(f"{source}: no such file, and not available from the hub or its local cache: {reason}")


def _reason(error: Exception, repository: str, name: str) -> str:
    from huggingface_hub import errors, hf_hub_url

    if isinstance(error, errors.GatedRepoError):
        return f"{repository} needs an access token (huggingface-cli login)"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no repository {repository}, or it is private"
    reason = f"the hub does not answer: {first_line(error)}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        reason = "HF_HUB_OFFLINE is set, so the hub is not asked"
    by_hand = f"; download {hf_hub_url(repository, name)} by hand, copy it here and give its path"
    return reason + by_hand * bool(name)


def _file_in(path: Path, source: str) -> Path:
    if not path.is_dir():
        return path
    if (path / ".metadata").is_file() and any(path.glob("*.distcp")):
        raise WeightsError(
            f"{source}: a folder of torch.distributed.checkpoint; make one file of it with "
            f"'python -m torch.distributed.checkpoint.format_utils dcp_to_torch {source} weights.pth'"
        )
    return path / _only(source, [x.name for x in path.iterdir() if x.is_file()])


def _only(source: str, names: Iterable[str]) -> str:
    weights = _weights_among(names)
    if len(weights) != 1:
        raise WeightsError(f"{source}: name one file in it; it has {', '.join(weights) or 'no weights'}")
    return weights[0]


def _weights_among(names: Iterable[str]) -> list[str]:
    names = sorted(names)
    usual = [x for x in names if x.lower().endswith(SUFFIXES)]
    return usual or [x for x in names if x.lower().endswith(MORE_SUFFIXES)]


def near(path: Path) -> str:
    """Words for an error: what a missing path may mean, or "" if there is nothing.

    Files and folders here, and the nearest name of a backbone.
    """
    named = nearest(path.name) if path.parent == Path() else None
    folder = path.parent
    while not folder.is_dir():
        path, folder = folder, folder.parent
    try:
        names = sorted(x.name for x in folder.iterdir())
    except OSError:
        names = []
    there = "" if folder == Path() else f"{folder}/"
    close = [there + x for x in _close(path.name, names)]
    if named:
        close.append(named)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    weights = _weights_among(names)[:5]
    return f"; {folder} has {', '.join(weights)}" if weights else ""


def _close(name: str, names: list[str]) -> list[str]:
    return difflib.get_close_matches(name, names, 3, 0.6)
