"""Checks of the options of methods."""

from collections.abc import Iterable, Sequence


def names_of(option: str, given: str | Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    """The names that an option lists: each known and once, else a ValueError that lists those there are."""
    names = (given,) if isinstance(given, str) else tuple(given)
    odd = [name for name in names if name not in known or names.count(name) > 1]
    if odd or not names:
        text = ", ".join(dict.fromkeys(odd)) or "none"
        raise ValueError(f"{option} {text}: name some, each once, of {', '.join(known)}")
    return names
