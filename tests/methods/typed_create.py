"""Calls that mypy checks (`files` in pyproject.toml); nothing here runs.

mypy reports a `type: ignore` that is not needed, so each of the lines that have one must be an error.
"""

from typing import Any, assert_type

from videossp import Classifier, Tuner, VideoMambaConfig
from videossp.methods.options import LoRAOptions


class Outside(Tuner):
    """A method of another package."""

    def __init__(self, config: VideoMambaConfig, *, strength: float = 1.0) -> None:
        super().__init__()


def right(config: VideoMambaConfig, options: dict[str, Any], name: str) -> None:
    assert_type(Classifier.create("videomamba_nano", num_classes=2), Classifier)
    assert_type(Classifier.create(method="ssp", gather_width=128, token="mean", classes=["a"]), Classifier)
    assert_type(Classifier.create(num_classes=2, gather_width=128), Classifier)  # ssp is the default
    assert_type(Classifier.create(method="lora", rank=4, targets=("in_proj",), views=(2, 1)), Classifier)
    assert_type(Classifier.create(method="linear", dropout=0.1), Classifier)
    assert_type(Classifier.create(config, method="adapter", scale=None), Classifier)
    lora: LoRAOptions = {"rank": 4}
    assert_type(Classifier.create(method="ssp+lora", lora=lora, ssp={"heads": 4}, seed=1), Classifier)
    assert_type(Classifier.create(method=Outside, strength=0.5), Classifier)
    assert_type(Classifier.create(method=name, **options), Classifier)
    assert_type(Classifier.create(method="outside", **options), Classifier)


def wrong() -> None:
    Classifier.create(method="ssp", gather_widht=128)  # type: ignore[call-overload]
    Classifier.create(gather_width=128.0)  # type: ignore[call-overload]
    Classifier.create(method="ssp", token="first")  # type: ignore[call-overload]
    Classifier.create(method="lora", gather_width=128)  # type: ignore[call-overload]
    Classifier.create(method="linear", width=4)  # type: ignore[call-overload]
    Classifier.create(method="vpt", position="middle")  # type: ignore[call-overload]
    Classifier.create(method="ssp+lora", rank=4)  # type: ignore[call-overload]
    Classifier.create(method="vpt", frame=8)  # type: ignore[call-overload]
    LoRAOptions(ranks=4)  # type: ignore[typeddict-unknown-key]
