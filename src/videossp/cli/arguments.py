"""Split a command line into flags and the settings of its config files, before a parser is built."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONFIG_FLAGS = {"train": ("--config", "--resume"), "compare": ("--config",)}  # by verb


@dataclass(frozen=True)
class Arguments:
    """A command line whose config files were read.

    Attributes:
        flags: the arguments without --config; names of options have underscores.
        settings: what the config files set, by name. Flags override it.
    """

    flags: list[str]
    settings: dict[str, Any] = field(default_factory=dict)

    def value(self, name: str) -> Any:
        """The value of an option: the last on the command line, else that of the config files, else None."""
        flag, found = f"--{name}", self.settings.get(name)
        options = before_separator(self.flags)
        for i, argument in enumerate(options):
            if argument == flag and i + 1 < len(options):
                found = options[i + 1]
            elif argument.startswith(f"{flag}="):
                found = argument.partition("=")[2]
        return found


def read_arguments(verb: str, arguments: Sequence[str]) -> Arguments:
    """Split the arguments of a verb, and read the files of --config and of --resume.

    --resume RUN reads RUN/config.yaml and remains a flag. Arguments after "--" are not options: they stay
    as they are.

    Raises:
        ValueError: one of the two has no value, or its file cannot be used.
    """
    options = [underscores(x) for x in before_separator(arguments)]
    flags: list[str] = []
    settings: dict[str, Any] = {}
    rest = iter(options)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name not in CONFIG_FLAGS.get(verb, ()):
            flags.append(argument)
            continue
        if not equals:
            value = next(rest, "")
            if value.startswith("--"):
                value = ""
        if not value:
            wanted = "a run folder" if name == "--resume" else "a YAML file"
            raise ValueError(f"{name} needs a value: {wanted}")
        if name == "--resume":
            flags.append(f"{name}={value}")
            value = str(Path(value) / "config.yaml")
        for key, new in read_config(Path(value)).items():
            old = settings.get(key)
            if isinstance(old, Mapping) and isinstance(new, Mapping):  # the options of a method
                new = {**old, **new}
            settings[key] = new
    return Arguments([*flags, *arguments[len(options) :]], settings)


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a YAML file.

    Raises:
        ValueError: the file cannot be read, or holds something else than settings.
    """
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if settings is None:
        return {}
    if not isinstance(settings, Mapping) or not all(isinstance(name, str) for name in settings):
        raise ValueError(f"{path}: must hold lines NAME: VALUE")
    if "resume" in settings:
        raise ValueError(f"{path}: resume is no setting; give --resume RUN on the command line")
    return dict(settings)


def before_separator(arguments: Sequence[str]) -> list[str]:
    """The arguments before "--", the only ones that can be options."""
    values = list(arguments)
    return values[: values.index("--")] if "--" in values else values


def underscores(argument: str) -> str:
    """--batch-size as --batch_size, the name that the parser knows; the value stays as it is."""
    name, equals, value = argument.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if name.startswith("--") else argument
