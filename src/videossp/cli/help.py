"""The format of help texts."""

import argparse
from typing import Any


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help with the spelling of flags that people type: --batch-size, not --batch_size."""

    def __init__(self, prog: str, **settings: Any) -> None:
        super().__init__(prog, **{**settings, "max_help_position": 28})

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return str(action.metavar or action.dest)
        shown = (x for x in action.option_strings if not x.endswith("+"))  # the parser's --LIST+ appends
        names = dict.fromkeys(name.replace("_", "-") for name in shown)
        metavar = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
        return ", ".join(names) + metavar
