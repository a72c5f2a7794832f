"""Reader of a folder of classes: ROOT/CLASS/.../VIDEO, or ROOT/{train,val,test}/CLASS/.../VIDEO."""

import os
from pathlib import Path

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.sample import ReportProblem, Sample, VideoDataset
from videossp.data.datasets.splits import SPLITS
from videossp.data.datasets.video_index import videos_below
from videossp.data.video import is_video
from videossp.data.video.files import visible
from videossp.errors import DataError


def read_folder(data: Annotation, fold: int, report_problem: ReportProblem) -> VideoDataset:
    """Read a folder whose class names are the folder names, sorted; a folder of images is one video.

    Without split folders all videos are in the split "train". Videos in sub-folders of a class folder have
    its class. Other files, and videos outside class folders, are listed in `ignored`; names of folders of
    frames end in /.
    """
    root = str(data.videos)
    folders = [x for x in _visible_entries(root) if x.is_dir()]
    splits = {SPLITS[x.name.lower()]: x.path for x in folders if x.name.lower() in SPLITS}
    if splits and len(splits) < len(folders):
        named = [x.name for x in folders if x.name.lower() in SPLITS]
        others = [x.name for x in folders if x.name.lower() not in SPLITS]
        if others:
            reason = f"folders of splits ({', '.join(named)}) beside other folders ({', '.join(others)})"
        else:
            reason = f"several folders of one split ({', '.join(named)})"
        raise DataError(f"{root}: {reason}; move or rename some")
    ignored = [x.path for x in _visible_entries(root) if splits and not x.is_dir()]
    paths: dict[str, dict[str, list[str]]] = {}  # of videos, by split and class
    for split, split_folder in (splits or {"train": root}).items():
        paths[split] = {}
        for entry in _visible_entries(split_folder):
            if not entry.is_dir() or is_video(Path(entry.path)):
                ignored.append(entry.path)
                continue
            videos, others = videos_below(entry.path, without=[root, split_folder])
            _refuse_inner_splits(root, entry.path, videos)
            paths[split][entry.name] = videos
            ignored += others
    names = {name for classes in paths.values() for name in classes}
    filled = sorted(name for name in names if any(classes.get(name) for classes in paths.values()))
    if empty := sorted(names.difference(filled)):
        report_problem(
            "class.empty", f"{root}: no videos in {', '.join(empty)}; remove the folder or fill it", ""
        )

    def name_of(path: str) -> str:
        return os.path.relpath(path, root)

    return VideoDataset(
        tuple(filled),
        {
            split: [
                Sample(path, name_of(path), label)
                for label, name in enumerate(filled)
                for path in classes.get(name, [])
            ]
            for split, classes in paths.items()
        },
        tuple(sorted(f"{name_of(x)}/" if os.path.isdir(x) else name_of(x) for x in ignored)),
    )


def _visible_entries(folder: str) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return sorted((x for x in entries if visible(x.name)), key=lambda x: x.name)


def _refuse_inner_splits(root: str, class_folder: str, videos: list[str]) -> None:
    """Refuse split folders below a class folder: their videos would all be in one split.

    Raises:
        DataError: a video is in one.
    """
    for path in videos:
        parts = os.path.relpath(path, class_folder).split(os.sep)[:-1]
        depth = next((i for i, x in enumerate(parts) if x.lower() in SPLITS), None)
        if depth is not None:
            above = os.path.join(class_folder, *parts[:depth])
            raise DataError(
                f"{os.path.join(above, parts[depth])}: a split folder below the class folder "
                f"{os.path.relpath(class_folder, root)}; give {above} as the data set, or move the split "
                "folders to the top, as train/CLASS/VIDEO"
            )
