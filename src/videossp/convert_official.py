"""Converts published VideoMamba and SSP training checkpoints to a `Classifier`, and back."""

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from videossp.classifier import Classifier
from videossp.data.sampling import ClipFormat
from videossp.errors import VideoSSPWarning, WeightsError
from videossp.methods import make_tuner, resolve_options
from videossp.model.backbones import STATE_DICT, Source
from videossp.model.checkpoint import unwrap
from videossp.model.head import Head, fill_head
from videossp.model.published import config_of, sort_published, ssp_options, to_published
from videossp.model.videomamba import VideoMamba

# Options of SSP with the values that the published code can compute, its only or usual one first. In batches
# of one clip, importance "clip" and "batch" are the same. The other options are sizes, which tensors have.
PUBLISHED: dict[str, tuple[Any, ...]] = {
    "reads": ("branch",),
    "token": ("last",),
    "gathering": (True,),
    "gather_kernel": ((1, 1, 1),),
    "heads": (8,),
    "importance": ("batch", "clip"),
}
SPREADING = ("token", "heads", "importance")  # without effect if there are no prompts


def from_official(
    state_dict: Mapping[str, Any], *, importance: Literal["clip", "batch"] = "clip", heads: int = 8
) -> Classifier:
    """Make a classifier of a published VideoMamba or SSP training checkpoint.

    Sizes and options are inferred from the tensors. Two cannot be inferred and are arguments:
    `importance` and `heads`.

    Omissions and changes are in `Classifier.notes`; those that may make results mislead are warnings.

    Args:
        state_dict: {name: tensor}, or a training checkpoint that holds it; see `model.checkpoint.unwrap`.
        importance: see `methods.ssp.SSP`; "batch" for the published behaviour.
        heads: of the spreading attention; published: 8.

    Raises:
        WeightsError: tensors are missing, unknown or of other shapes.
    """
    state, notes = unwrap(state_dict)
    published = sort_published(state)
    published.notes[:0] = notes
    if published.head is None or published.norm is None:
        raise WeightsError("a classifier needs norm_f and head, which this checkpoint lacks")
    config = config_of(published.backbone)
    method, options = "linear", {}
    if published.tuner:
        method = "ssp"
        options = {**ssp_options(published.tuner), "heads": heads, "importance": importance}
    with torch.random.fork_rng(devices=[]):  # all random weights are replaced
        backbone, tuner = VideoMamba(config), make_tuner(method, config, options)
        head = Head(config.d_model, len(published.head["bias"]))
    backbone.load_state_dict(published.backbone)
    try:
        tuner.load_state_dict(published.tuner)
    except RuntimeError as error:
        raise WeightsError(str(error)) from error
    fill_head(head, published)
    names = [str(i) for i in range(len(published.head["bias"]))]
    classifier = Classifier(
        backbone,
        tuner,
        head,
        classes=names,
        method=method,
        options=resolve_options(method, config, options),
        clip_format=ClipFormat(config.frames, config.size),
        source=Source(STATE_DICT),
    )
    classifier.notes, classifier.warnings = tuple(published.notes), tuple(published.warnings)
    for text in classifier.warnings:
        warnings.warn(text, VideoSSPWarning, stacklevel=2)
    return classifier


def to_official(classifier: Classifier) -> dict[str, Tensor]:
    """Export all tensors of a classifier under the published names; methods `ssp` and `linear` only.

    An export with importance "clip" computes the same there in batches of one clip. `detach` changes only the
    training.

    Raises:
        ValueError: the published code would not compute the same logits from these tensors.
    """
    # Check the most fundamental requirement first.
    if classifier.method not in ("ssp", "linear"):
        raise ValueError(
            f"only ssp and linear can be exported to the published code, not {classifier.method}"
        )
    options = classifier.options
    for name in (name for name in PUBLISHED if name in options):
        value, published = options[name], PUBLISHED[name]
        unused = name in SPREADING and not options["prompts"]
        if value not in published and not unused:
            raise ValueError(
                f"the published code has no option {name}: it computes {name}={published[0]!r}, not {value!r}"
            )
    if classifier.clip_format.size[0] != classifier.clip_format.size[1]:
        raise ValueError(f"the published code reads square clips only, not {classifier.clip_format.size}")
    if classifier.merged:
        raise ValueError("a merged classifier cannot be exported; export it before merge()")
    return to_published(
        classifier.backbone.state_dict(),
        classifier.head.norm.weight.detach(),
        {name: x / classifier.head.temperature for name, x in classifier.head.linear.state_dict().items()},
        dict(classifier.tuner.state_dict()),
    )
