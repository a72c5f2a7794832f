"""The tuning methods, by name.

A file each; `registry` finds and builds them, `rates` has their measured learning rates, `options` their
typed options, `layers` the modules that several share.
"""

from videossp.methods.registry import (
    METHODS,
    default_lr,
    find_method,
    lr_source,
    make_tuner,
    method_names,
    published_options,
    register_method,
    resolve_options,
)

__all__ = [
    "METHODS",
    "default_lr",
    "find_method",
    "lr_source",
    "make_tuner",
    "method_names",
    "published_options",
    "register_method",
    "resolve_options",
]
