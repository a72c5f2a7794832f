"""Flags that `train` and `compare` share, and what becomes of them; heavy imports inside."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from videossp.data.datasets import VideoDataset

READING = ("format", "fold", "videos")  # of a data set
FORM = ("weights", "frames", "size", "sampling", "stride", "views", "drop_path", "dropout")  # of a classifier


def add_training(parser: "ArgumentParser", *, out: str) -> None:
    """The flags that verbs which train have in common, but for those of `TrainConfig`."""
    from videossp.classifier import Classifier
    from videossp.methods import METHODS

    parser.add_argument(
        "--config", action="config", help="YAML file of these flags, as a run folder and recipes/ hold it"
    )
    add_data(parser)
    parser.add_argument("--out", type=str, help=out)
    parser.add_method_arguments(
        Classifier, "create", skip={"backbone", "num_classes", "classes", "method", "seed", "options"}
    )
    parser.add_argument(
        "--backbone",
        type=str,
        default="videomamba_nano",
        help="videomamba_nano|tiny|small|middle|base, or a path or hub id of a checkpoint",
    )
    for name, method in METHODS.items():
        parser.add_class_arguments(method, name, skip={"config"})


def add_data(parser: "ArgumentParser") -> None:
    """The data set and how it is read."""
    from videossp.data.datasets import read_data

    parser.add_argument(
        "place",
        type=str,
        nargs="?",
        help="the data: FOLDER/CLASS/VIDEO, FOLDER/{train,val,test}/CLASS/VIDEO, or one of docs/data.md",
    )
    parser.add_argument("--data", type=str, help="the same; a config file can hold it")
    parser.add_function_arguments(read_data, skip={"data", "complain"})


def data_of(args: "Namespace") -> "VideoDataset":
    """The data set that the flags name."""
    from videossp.data.datasets import read_data

    return read_data(place_of(args), **chosen(args, READING))


def place_of(args: "Namespace") -> str:
    """Where the data set is; the bare argument wins over a config file."""
    place: str | None = args.place or args.data
    if place is None:
        raise ValueError("name the data set: its folder or annotation file")
    return place


def options_of(
    parser: "ArgumentParser", args: "Namespace", methods: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """By method, its options as `Classifier.create` takes them; those of a chain nested by name."""
    from videossp.methods import METHODS

    used = [name for method in methods for name in method.split("+")]
    if unknown := [name for name in used if name not in METHODS]:
        raise ValueError(f"no method {unknown[0]!r}; there are {', '.join(METHODS)}")
    usual = parser.get_defaults()
    if odd := [name for name in METHODS if name not in used and args.get(name) != usual.get(name)]:
        raise ValueError(f"options of {odd[0]} are given, but what trains is {', '.join(methods)}")
    own = {name: dict(args[name].items()) if args.get(name) else {} for name in used}
    return {
        method: {name: own[name] for name in method.split("+")} if "+" in method else own[method]
        for method in methods
    }


def chosen(args: "Namespace", names: Iterable[str]) -> dict[str, Any]:
    """The arguments of these names."""
    return {name: args[name] for name in names}


def listed(value: str | int | list[Any]) -> list[str]:
    """a,b of the command line, or a list of a YAML file, as a list of texts."""
    values = value if isinstance(value, list) else str(value).split(",")
    return [text for text in (str(x).strip() for x in values) if text]


@contextmanager
def out_folder(out: str | None, stem: str) -> Iterator[Path]:
    """The folder `out`, or a new one, runs/STEM-N; what stays empty is removed."""
    own = out is not None and Path(out).exists()  # the user's, empty or not
    folder = Path(out) if out else new_folder(Path("runs"), stem)
    try:
        yield folder
    finally:
        with suppress(OSError):  # not empty, or never made
            if not own:
                folder.rmdir()
            if not out:
                folder.parent.rmdir()


def new_folder(parent: Path, stem: str) -> Path:
    """Make the first of parent/stem-1, parent/stem-2, ... that is free, also against other processes."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ValueError(f"{parent}: exists and is no folder (a link to nothing?); give --out") from error
    for number in itertools.count(1):
        try:
            (parent / f"{stem}-{number}").mkdir()
            break
        except FileExistsError:
            continue
    return parent / f"{stem}-{number}"
