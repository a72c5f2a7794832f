"""Reader of a folder of classes: ROOT/CLASS/VIDEO, or ROOT/{train,val,test}/CLASS/VIDEO."""

import os
from pathlib import Path

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.sample import SPLITS, Complain, Sample, VideoDataset
from videossp.data.datasets.video_index import visible
from videossp.data.video import VIDEO_SUFFIXES, is_video
from videossp.errors import DataError


def read_folder(data: Annotation, fold: int, complain: Complain) -> VideoDataset:
    """Classes are the folder names, sorted; a folder of images is one video.

    Without split folders everything is the split "train". What is no class and no video by its name or
    place is listed in `ignored`.
    """
    root = str(data.videos)
    folders = [x for x in _visible(root) if x.is_dir()]
    splits = {SPLITS[x.name.lower()]: x.path for x in folders if x.name.lower() in SPLITS}
    if splits and len(splits) < len(folders):
        odd = [x.name for x in folders if x.name.lower() not in SPLITS] or [x.name for x in folders]
        raise DataError(f"{root}: split folders and others side by side: {', '.join(odd)}")
    ignored = [x.path for x in _visible(root) if splits and not x.is_dir()]
    found: dict[str, dict[str, list[str]]] = {}  # paths by split and class
    for split, place in (splits or {"train": root}).items():
        found[split] = {}
        for entry in _visible(place):
            if not entry.is_dir() or _is_video(entry):
                ignored.append(entry.path)
                continue
            inside = [(x.path, _is_video(x)) for x in _visible(entry.path)]
            found[split][entry.name] = [path for path, video in inside if video]
            ignored += [path for path, video in inside if not video]
    names = {name for classes in found.values() for name in classes}
    full = sorted(name for name in names if any(classes.get(name) for classes in found.values()))
    if empty := sorted(names.difference(full)):
        complain("class.empty", f"{root}: no videos in {', '.join(empty)}; remove the folder or fill it", "")

    def name_of(path: str) -> str:
        return os.path.relpath(path, root)

    return VideoDataset(
        tuple(full),
        {
            split: [
                Sample(path, name_of(path), label)
                for label, name in enumerate(full)
                for path in classes.get(name, [])
            ]
            for split, classes in found.items()
        },
        tuple(sorted(map(name_of, ignored))),
    )


def _visible(folder: str) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return sorted((x for x in entries if visible(x.name)), key=lambda x: x.name)


def _is_video(entry: "os.DirEntry[str]") -> bool:
    return is_video(Path(entry.path)) if entry.is_dir() else entry.name.lower().endswith(VIDEO_SUFFIXES)
