"""Split a command line into flags and the settings of its config files, before a parser is built."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videossp.cli.output import print_message

CONFIG_FLAGS = {"train": ("--config", "--resume"), "compare": ("--config",)}  # by verb
METHOD = "ssp"  # default method of `train`
OLD_LR = 1e-3  # the default of versions whose settings had other names


@dataclass(frozen=True)
class Arguments:
    """A command line whose config files were read.

    Attributes:
        flags: the arguments without --config; names of options have underscores.
        settings: by name, from the config files. Flags override them.
    """

    flags: list[str]
    settings: dict[str, Any] = field(default_factory=dict)

    def value(self, name: str) -> Any:
        """The value of an option: the last on the command line, else that of the config files, else None."""
        flag, value = f"--{name}", self.settings.get(name)
        options = before_separator(self.flags)
        for i, argument in enumerate(options):
            if argument == flag and i + 1 < len(options):
                value = options[i + 1]
            elif argument.startswith(f"{flag}="):
                value = argument.partition("=")[2]
        return value

    def methods(self) -> list[str]:
        """The methods to train, and chains of them joined by +: those of --methods, else that of --method."""
        several = self.value("methods")
        return [self.value("method") or METHOD] if several is None else listed(several)


def read_arguments(verb: str, arguments: Sequence[str]) -> Arguments:
    """Split the arguments of a verb, and read the files of --config and of --resume.

    --resume RUN reads RUN/config.yaml and remains a flag. Arguments after "--" are not options: they stay
    as they are. Settings in files of older versions get their current names. Add the defaults of the older
    version for settings that the file leaves out.

    Raises:
        ValueError: one of the two has no value, or its file cannot be used.
    """
    options = [underscores(x) for x in before_separator(arguments)]
    flags: list[str] = []
    settings: dict[str, Any] = {}
    old = False
    rest = iter(options)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name not in CONFIG_FLAGS.get(verb, ()):
            flags.append(argument)
            continue
        if not equals:
            value = next(rest, "")
        if not value or (not equals and value.startswith("--")):
            raise ValueError(
                f"{name} needs a value: {'a run folder' if name == '--resume' else 'a YAML file'}"
            )
        if name == "--resume":
            flags.append(f"{name}={value}")
        path = config_path(value) if name == "--config" else run_config(value)
        new = read_config(path)
        if name == "--resume" and not new:
            raise ValueError(f"{path}: has no settings; it cannot tell how the run continues")
        current = with_current_names(path, new)
        old |= current != new
        merge(settings, current)
    given = Arguments([*flags, *arguments[len(options) :]], settings)
    if old:
        add_old_defaults(given)
    return given


def config_path(name: str) -> Path:
    """The file of this name, else the bundled recipe.

    Raises:
        ValueError: there is neither.
    """
    from videossp.bundled import RECIPES

    path = Path(name)
    if path.is_file():
        return path
    if name in RECIPES:
        return RECIPES[name]
    raise ValueError(f"{name}: no such file, and no bundled recipe; there are {', '.join(RECIPES)}")


def run_config(folder: str) -> Path:
    """The config.yaml of a run folder.

    Raises:
        ValueError: there is none.
    """
    path = Path(folder) / "config.yaml"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; --resume needs the folder of a run")
    return path


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a YAML file.

    Raises:
        ValueError: the file cannot be read, or has no settings.
    """
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if settings is None:
        return {}
    if not isinstance(settings, Mapping) or not all(isinstance(name, str) for name in settings):
        raise ValueError(f"{path}: must have lines NAME: VALUE")
    if "resume" in settings:
        raise ValueError(f"{path}: resume is not a setting; give --resume RUN on the command line")
    return dict(settings)


def with_current_names(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Replace old names of a file's settings by their current names, and report the changes.

    Raises:
        ValueError: a setting is there under both names.
    """
    from videossp.training.config import RENAMED, current_names

    renamed = {name: RENAMED[name] for name in settings if name in RENAMED}
    if twice := [name for name, new in renamed.items() if new in settings]:
        raise ValueError(f"{path}: {twice[0]} is the old name of {renamed[twice[0]]}; remove one of them")
    if renamed:
        changes = ", ".join(f"{name} is now {new}" for name, new in renamed.items())
        print_message(f"{path}: written by an older version: {changes}")
    return current_names(settings)


def merge(settings: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Add the settings of another file, which override; the options of a method are merged one by one."""
    for name, value in new.items():
        before = settings.get(name)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        settings[name] = {**before, **value} if both else value  # type: ignore[dict-item]


def add_old_defaults(given: Arguments) -> None:
    """Add the defaults of the older version for settings that the file leaves out."""
    from videossp.methods import published_options

    settings = given.settings
    settings.setdefault("lr", OLD_LR)
    for name in members(given.methods()):
        settings[name] = published_options(name, settings.get(name) or {})


def members(methods: Iterable[str]) -> list[str]:
    """The methods, those of chains one by one, each once."""
    return list(dict.fromkeys(name for method in methods for name in method.split("+")))


def listed(value: str | int | float | list[Any] | None) -> list[str]:
    """A list of a YAML file, or text as a,b or [a,b] of the command line, as a list of texts."""
    values = value if isinstance(value, list) else str("" if value is None else value).strip("[] ").split(",")
    return [text for text in (str(x).strip() for x in values) if text]


def before_separator(arguments: Sequence[str]) -> list[str]:
    """The arguments before "--", the only ones that can be options."""
    values = list(arguments)
    return values[: values.index("--")] if "--" in values else values


def underscores(argument: str) -> str:
    """--batch-size as --batch_size, the name that the parser knows; the value stays as it is."""
    name, equals, value = argument.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if name.startswith("--") else argument
