"""Reader of a folder of classes: ROOT/CLASS/VIDEO, or ROOT/{train,val,test}/CLASS/VIDEO."""

from pathlib import Path

from videossp.datasets.sample import Sample, Samples
from videossp.video import DataError, is_video

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def read_folder(root: str | Path) -> Samples:
    """The data set in a folder. Classes are the folder names, sorted; a folder of images is one video.

    Without split folders everything is the split "train".

    What is no class and no video by its name or place is listed in `ignored`.

    Raises:
        DataError: no such folder, a class without videos, or fewer than two classes.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected FOLDER/CLASS/VIDEO or FOLDER/train/CLASS/VIDEO")
    folders = {x.name: x for x in _visible(root) if x.is_dir()}
    splits = {SPLITS[name]: path for name, path in folders.items() if name in SPLITS}
    if splits and len(splits) < len(folders):
        odd = sorted(set(folders) - set(SPLITS)) or sorted(folders)
        raise DataError(f"{root}: split folders and others side by side: {', '.join(odd)}")
    found: dict[str, dict[str, list[Path]]] = {}
    ignored = [x for x in _visible(root) if not x.is_dir()]
    for split, path in (splits or {"train": root}).items():
        classes = {x.name: _visible(x) for x in _visible(path) if x.is_dir() and not is_video(x)}
        ignored += [x for x in _visible(path) if x.name not in classes and x not in ignored]
        found[split] = {name: [x for x in paths if is_video(x)] for name, paths in classes.items()}
        ignored += [x for paths in classes.values() for x in paths if not is_video(x)]
    names = sorted({name for classes in found.values() for name in classes})
    empty = [name for name in names if not any(classes.get(name) for classes in found.values())]
    if empty:
        raise DataError(f"{root}: no videos in {', '.join(empty)}; remove the folder or fill it")
    if len(names) < 2:
        raise DataError(f"{root}: {len(names)} classes found, at least two are needed (FOLDER/CLASS/VIDEO)")
    labels = {name: i for i, name in enumerate(names)}
    return Samples(
        tuple(names),
        {
            split: [
                Sample(str(path), path.relative_to(root).as_posix(), labels[name])
                for name in sorted(classes)
                for path in classes[name]
            ]
            for split, classes in found.items()
        },
        tuple(path.relative_to(root).as_posix() for path in ignored),
    )


def _visible(folder: Path) -> list[Path]:
    return sorted(x for x in folder.iterdir() if not x.name.startswith("."))
