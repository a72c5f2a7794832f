"""`class_names`: check the names of classes that a classifier is given."""

from collections.abc import Iterable, Mapping
from textwrap import shorten


def class_names(classes: Iterable[str]) -> tuple[str, ...]:
    """The names of classes in the order of the labels.

    Any characters may occur in them, because names of folders are names of classes. Texts for people escape
    those that are not printable.

    Raises:
        ValueError: not a list of at least one non-empty string each, all different.
    """
    if isinstance(classes, str | bytes | Mapping | set | frozenset) or not isinstance(classes, Iterable):
        raise ValueError(
            "classes must be a list of names in the order of the labels, got "
            f"{type(classes).__name__} {shorten(repr(classes), 60)}"
        )
    names = tuple(classes)
    if not names:
        raise ValueError("classes is empty: at least one class name is needed")
    for label, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"class names must be non-empty strings, but that of label {label} is {name!r}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"different class names are needed, but {twice!r} is given {names.count(twice)} times"
        )
    return names
