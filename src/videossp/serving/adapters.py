"""`Adapters`: adapters and exported models that are served; adapters of one frozen backbone share it."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakValueDictionary

import torch

from videossp.adapter_folder import CONFIG, WEIGHTS, find_adapter
from videossp.classifier import Classifier
from videossp.errors import VideoSSPError, WeightsError
from videossp.load_adapter import load
from videossp.model.device import selected
from videossp.model.precision import Precision
from videossp.model.videomamba import VideoMamba
from videossp.serving.problem import Problem
from videossp.system.printable import printable
from videossp.system.process import give_back_memory
from videossp.system.worker_pool import one_line

LONGEST_NAME = 100
State = tuple[tuple[int, int, int], ...] | None


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter that is served, or an exported model.

    Attributes:
        name: by which requests name it.
        folder: from which it was loaded; of an exported model its file.
        classifier: in eval mode; no weight requires a gradient.
        state: of its files when they were read.
        seen: state of the files at the last look.
        error: why the files that are there now cannot be loaded; None: they are loaded.
        exported: whether it is an exported model, which only predicts.
    """

    name: str
    folder: Path
    classifier: Classifier
    state: State
    seen: State
    error: str | None = None
    exported: bool = False


class Adapters:
    """Loads, replaces and unloads adapters while requests use them; a request keeps the one it began with.

    Adapters of one frozen backbone share it. Methods that train backbone weights have their own.

    Args:
        device: where they compute.
        precision: of matrix products; None: that of the training.
        backbone: weights of the backbone, if they have moved.
        below: the folder from which `load_below` loads; None: it refuses.
        report: called with a line for each adapter that is loaded, replaced or unloaded.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        precision: Precision | None = None,
        backbone: str | None = None,
        below: Path | None = None,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.device, self.precision, self.backbone, self.report = device, precision, backbone, report
        self.below = None if below is None else below.absolute()
        self._adapters: dict[str, Adapter] = {}
        self._backbones: WeakValueDictionary[object, VideoMamba] = WeakValueDictionary()
        self._changing = threading.Lock()

    def all(self) -> list[Adapter]:
        """The adapters, in the order in which they were loaded."""
        return list(self._adapters.values())

    def get(self, name: str) -> Adapter:
        """The adapter of this name.

        Raises:
            Problem: there is none.
        """
        found = self._adapters.get(name)
        if found is None:
            names = ", ".join(self._adapters) or "none"
            raise Problem(404, f"no adapter {name!r}; there are {names}")
        return found

    def add(self, folder: Path, name: str | None = None) -> Adapter:
        """Load an adapter, or an exported model.

        Args:
            folder: of the adapter, or the run folder that contains it; or the file of an exported model.
            name: default: that of the folder or file.

        Raises:
            ValueError: the name is taken, or cannot be one.
            WeightsError: the adapter cannot be loaded.
        """
        with self._changing:
            name = name_of(folder) if name is None else name
            if name in ("", ".", "..") or len(name) > LONGEST_NAME or "/" in name or printable(name) != name:
                raise ValueError(
                    f"{name!r} cannot be the name of an adapter: 1 to 100 printable characters, no /"
                )
            if name in self._adapters:
                raise ValueError(
                    f"two adapters are named {name}: rename a folder, or unload the other one first"
                )
            adapter = self._load(name, folder if is_exported(folder) else find_adapter(folder))
            self._adapters[name] = adapter
        self.report(f"loaded {name}: {adapter.classifier.method}, {len(adapter.classifier.classes)} classes")
        return adapter

    def load_below(self, folder: str, name: str | None = None) -> Adapter:
        """Load an adapter from below the folder that `--adapters` names.

        Args:
            folder: relative to it.
            name: default: that of the folder.

        Raises:
            Problem: there is no such adapter, its name is taken, or it cannot be loaded.
        """
        if self.below is None:
            raise Problem(403, "this service loads no adapters: it was started without --adapters")
        place = inside(self.below, folder)
        try:
            if place is None:
                raise WeightsError("elsewhere")
            find_adapter(place)
        except (WeightsError, OSError):  # or a name that is too long for a file
            raise Problem(404, f"no adapter folder {folder!r} below --adapters") from None
        try:
            return self.add(place, name)
        except VideoSSPError as error:
            raise Problem(422, str(error).replace(f"{self.below}{os.sep}", "")) from error
        except ValueError as error:
            raise Problem(409 if "two adapters" in str(error) else 422, str(error)) from error

    def folders_below(self) -> list[str]:
        """The adapter folders below `--adapters`, to a depth of three folders."""
        if self.below is None:
            return []
        files = [x for depth in ("*", "*/*", "*/*/*") for x in self.below.glob(f"{depth}/{CONFIG}")]
        found = [x.parent.relative_to(self.below).as_posix() for x in files]
        return sorted(x.removesuffix("/adapter") for x in found if inside(self.below, x))

    def load_all(self) -> None:
        """Load all adapters below `--adapters`.

        Raises:
            ValueError: two have the same name.
            WeightsError: one cannot be loaded.
        """
        assert self.below is not None, "there is no folder"
        loaded = {os.path.realpath(x.folder) for x in self.all()}
        for name in self.folders_below():
            folder = self.below / name
            if os.path.realpath(find_adapter(folder)) not in loaded:
                self.add(folder)

    def remove(self, name: str) -> None:
        """Unload an adapter; its backbone too, if it was the last one on it.

        Raises:
            Problem: there is none of this name.
        """
        with self._changing:
            self.get(name)
            del self._adapters[name]
        self.report(f"unloaded {name}")

    def reload_changed(self) -> None:
        """Load the adapters again whose files were replaced. If that fails, the one in memory stays."""
        for adapter in self.all():
            state = state_of(adapter.folder)
            if state == adapter.seen:
                continue
            with self._changing:
                if self._adapters.get(adapter.name) is not adapter:
                    continue
                try:
                    new = self._load(adapter.name, adapter.folder)
                    line = f"replaced {adapter.name}: its files have changed"
                except VideoSSPError as error:
                    text = printable(str(error).replace(str(adapter.folder), adapter.name))
                    new = replace(adapter, seen=state, error=text)
                    line = f"kept {adapter.name} as it was: {text}"
                self._adapters[adapter.name] = new
            self.report(line)

    def backbones(self) -> int:
        """The number of backbones in memory."""
        return len({id(x.classifier.backbone) for x in self.all() if not x.exported})

    def _load(self, name: str, folder: Path) -> Adapter:
        state = state_of(folder)  # before it is read: a change in the meantime is seen
        if self.below is not None and folder.is_relative_to(self.below):
            files = (folder.relative_to(self.below) / x for x in (CONFIG, WEIGHTS))
            if any(inside(self.below, str(x)) is None for x in files):
                raise WeightsError(f"{folder}: a symbolic link leads out of the folder of --adapters")
        exported = is_exported(folder)
        try:
            if exported:
                classifier = self._load_exported(folder)
            else:
                classifier = load(folder, backbone=self.backbone).to(self.device)
                classifier.to_precision(self.precision or classifier.precision)
            classifier.requires_grad_(False).eval()
            if not (classifier.tuner.thaw or exported):
                key = (classifier.sha256, classifier.precision, classifier.backbone.config)
                classifier.backbone = self._backbones.setdefault(key, classifier.backbone)
            warm_up(classifier)
        except VideoSSPError:
            raise
        except Exception as error:  # a config that was edited by hand, or too little memory of a GPU
            raise WeightsError(f"{folder}: cannot be loaded: {one_line(error)}") from error
        give_back_memory()  # that of the backbone which the adapter brought
        return Adapter(name, folder, classifier, state, state, exported=exported)

    def _load_exported(self, file: Path) -> Classifier:
        try:
            from videossp.exporting.exported import ExportedClassifier
        except ImportError as error:
            text = f"an exported model needs an extra: pip install 'videossp[export]' ({error})"
            raise WeightsError(f"{file}: {text}") from None
        model = ExportedClassifier(file)
        if self.device.type != "cpu":
            raise WeightsError(f"{file}: an exported model computes on the CPU: give --device cpu")
        if self.precision not in (None, model.precision):
            raise WeightsError(f"{file}: computes in {model.precision}: leave out --precision")
        return model


def is_exported(place: Path) -> bool:
    """Whether this is the file of an exported model."""
    return place.suffix == ".onnx" and not place.is_dir()


def inside(root: Path, folder: str) -> Path | None:
    """A folder below a root, by its relative path; None if it is elsewhere, also by a symbolic link.

    The links stay in the path, so that a link that is set to another adapter is seen.
    """
    if "\0" in folder or os.path.isabs(folder) or ".." in Path(folder).parts:
        return None
    place = root / folder
    return place if Path(os.path.realpath(place)).is_relative_to(os.path.realpath(root)) else None


def name_of(folder: Path) -> str:
    """The name of an adapter by its folder, of RUN/adapter RUN; of an exported model NAME.onnx it is NAME."""
    place = folder.absolute()
    if is_exported(place):
        return place.stem
    return place.parent.name if place.name == "adapter" else place.name


def state_of(folder: Path) -> State:
    """Sizes, times of change and numbers of the files of an adapter; None if one is missing."""
    if is_exported(folder):
        files = [folder, folder.with_suffix(".json")]
    else:
        files = [folder / CONFIG, folder / WEIGHTS]
    try:
        return tuple((x.st_size, x.st_mtime_ns, x.st_ino) for x in map(os.stat, files))
    except OSError:
        return None


@torch.no_grad()
def warm_up(classifier: Classifier) -> None:
    """Compute a clip, so that no request waits until kernels are compiled or loaded."""
    config = classifier.backbone.config
    with selected(classifier.device):
        classifier(
            torch.zeros(1, 3, config.frames, *config.size, dtype=torch.uint8, device=classifier.device)
        )
