"""`check_names`: the names that an option lists are known and without duplicates."""

from collections.abc import Iterable, Sequence


def check_names(option: str, given: str | Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    """Validate the names that an option lists: known, no duplicates, at least one.

    Args:
        option: its name, for the message.
        given: one name or several.
        known: the choices.

    Raises:
        ValueError: lists the choices.
    """
    names = (given,) if isinstance(given, str) else tuple(given)
    wrong = [name for name in names if name not in known or names.count(name) > 1]
    if wrong or not names:
        text = ", ".join(dict.fromkeys(wrong)) or "none"
        raise ValueError(f"{option} {text}: name some, each once, of {', '.join(known)}")
    return names
