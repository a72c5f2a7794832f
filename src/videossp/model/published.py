"""Convert published state dicts to ours and back; strict: errors list every tensor that does not match."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from videossp.errors import WeightsError
from videossp.model.config import VideoMambaConfig
from videossp.model.videomamba import VideoMamba

State = dict[str, Tensor]

# Published SSP names -> ours. Besides, dynamic_scales.0, .1, ... become one vector, gain.
SSP_NAMES = {
    r"inner_prompt\.fc1\.": "gather.down.",
    r"inner_prompt\.conv\.": "gather.conv.",
    r"inner_prompt\.fc2\.": "gather.up.",
    r"inner_prompt\.inter\.convs\.": "places.",
    r"inner_prompt\.inter\.heads\.": "summary.",
    r"prompt_attentions\.(\d+)\.down_proj\.": r"spread.\1.down.",
    r"prompt_attentions\.(\d+)\.up_proj\.": r"spread.\1.up.",
    r"prompt_attentions\.(\d+)\.attention\.": r"spread.\1.attention.",
    r"prompt_attentions\.(\d+)\.scale": r"spread.\1.scale",
}
TUNER = r"inner_prompt|prompt_attentions|dynamic_scales"  # start of the names of published SSP tensors
# Parts of published and usual trainers that only training needs: teachers, decoders, other heads.
LEFT_OUT = (
    "clip_",
    "cls_head.",
    "decoder",
    "distill_head.",
    "encoder_to_decoder",
    "head.fc.",
    "head_dist.",
    "mask_token",
    "n_averaged",
    "pool_norm.",
)
# The tensors that tell the sizes of a backbone, with their dimensions. Of images, patches have four.
PATCHES = "patch_embed.proj.weight"
NEEDED = {
    PATCHES: "d_model, 3, 1, patch, patch",
    "pos_embed": "1, 1 + patches, d_model",
    "layers.0.mixer.A_log": "d_inner, d_state",
    "layers.0.mixer.conv1d.weight": "d_inner, 1, d_conv",
    "layers.0.mixer.dt_proj.weight": "d_inner, dt_rank",
}


@dataclass
class Published:
    """The tensors of a published checkpoint, sorted by their use.

    Attributes:
        backbone: tensors of `VideoMamba`, under its names.
        norm: weight of the final norm, (d_model,), or None.
        head: {"weight", "bias"} of the classifier, or None.
        tuner: tensors of `methods.ssp.SSP`, under its names; empty for a plain backbone.
        notes: expected changes and omissions, one line each.
        warnings: those that may make results mislead, one line each.
    """

    backbone: State
    norm: Tensor | None
    head: State | None
    tuner: State
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type if it has none."""
    plain = re.sub(r"\x1b\[\d*m", "", str(error)).strip()
    return (plain or type(error).__name__).splitlines()[0]


def grouped(names: list[str]) -> str:
    """Names of tensors by their first part: clip_decoder (4 tensors), mask_token (1)."""
    counts: dict[str, int] = {}
    for name in names:
        first = name.partition(".")[0]
        counts[first] = counts.get(first, 0) + 1
    texts = [f"{name} ({count} tensor{'s' * (count != 1)})" for name, count in counts.items()]
    return ", ".join(texts[:6] + [f"{len(texts) - 6} more groups"] * (len(texts) > 6))


def sort_published(state: State, *, config: VideoMambaConfig | None = None) -> Published:
    """Sort every tensor of a published VideoMamba or SSP checkpoint.

    Args:
        state: flat tensors by their published names.
        config: the sizes that the checkpoint must have; position embeddings are resized to its frames and
            size. None: the sizes of the checkpoint.

    Raises:
        WeightsError: tensors are missing, unknown or of other shapes; the message lists them.
    """
    state, actual = dict(state), config_of(state)
    config = actual if config is None else config
    if replace(config, frames=actual.frames, size=actual.size) != actual:
        raise WeightsError(f"the checkpoint is {actual}, but {config} was asked for")
    notes: list[str] = []
    warnings: list[str] = []
    ignored = [key for key in state if key.startswith(LEFT_OUT)]
    if ignored:
        notes.append(f"left out: {grouped(ignored)}, not part of the backbone")
    if "norm.weight" in state and "norm_f.weight" not in state:
        state["norm_f.weight"] = state.pop("norm.weight")
        notes.append("norm.weight: taken as norm_f.weight, the name of the final norm")
    norm = state.pop("norm_f.weight", None)
    head = {key: state.pop(f"head.{key}") for key in ("weight", "bias") if f"head.{key}" in state} or None
    if head and len(head) != 2:
        raise WeightsError("the checkpoint's head needs both head.weight and head.bias")
    backbone, tuner = {}, {}
    for key, value in state.items():
        if key in ignored:
            continue
        if re.match(TUNER, key):
            tuner[key] = value
        else:
            backbone[key] = value
    _resize(backbone, actual, config, notes, warnings)
    with torch.device("meta"):
        expected = {key: tuple(x.shape) for key, x in VideoMamba(config).state_dict().items()}
    ends: State = {} if norm is None else {"norm_f.weight": norm}
    if norm is not None:
        expected["norm_f.weight"] = (config.d_model,)
    if head:
        ends |= {f"head.{key}": x for key, x in head.items()}
        rows = head["bias"].numel()
        expected |= {"head.weight": (rows, config.d_model), "head.bias": (rows,)}
    _compare(backbone | ends, expected)
    return Published(backbone, norm, head, _tuner_state(tuner), notes, warnings)


def config_of(state: State) -> VideoMambaConfig:
    """Read the sizes of a backbone off its tensors.

    Raises:
        WeightsError: they are not those of a VideoMamba.
    """
    for name, dimensions in NEEDED.items():
        if name not in state:
            raise WeightsError(f"not a VideoMamba checkpoint: {name} is missing")
        shape = tuple(state[name].shape)
        if 0 in shape:
            raise WeightsError(
                f"{name} is empty, {shape}: a part of a sharded checkpoint; make one file of its parts "
                "(with DeepSpeed: zero_to_fp32.py)"
            )
        images = name == PATCHES and len(shape) == 4
        if len(shape) != dimensions.count(",") + 1 and not images:
            raise WeightsError(f"not a VideoMamba checkpoint: {name} is {shape}, not ({dimensions})")
    d_model, _, *tubelet, patch, _ = state[PATCHES].shape
    d_inner, d_state = state["layers.0.mixer.A_log"].shape
    positions = state["pos_embed"].shape[1] - 1
    d_conv, dt_rank = (state[f"layers.0.mixer.{x}.weight"].shape[-1] for x in ("conv1d", "dt_proj"))
    side = round(positions**0.5)
    if side * side != positions or tubelet not in ([], [1]):
        raise WeightsError(
            "only square inputs and one-frame patches are supported; "
            f"got {positions} patches, tubelet {tubelet}"
        )
    numbers = {int(m[1]) for key in state if (m := re.match(r"layers\.(\d+)\.", key))}
    depth = len(numbers)
    if gap := next((i for i in range(depth) if i not in numbers), None):
        raise WeightsError(
            f"all tensors of layers.{gap} are missing; there are those of layers.{max(numbers)}"
        )
    time = state.get("temporal_pos_embedding")
    try:
        return VideoMambaConfig(
            depth=depth,
            d_model=d_model,
            frames=8 if time is None else time.shape[1],
            size=(side * patch, side * patch),
            patch=patch,
            d_state=d_state,
            d_conv=d_conv,
            expand=d_inner // d_model,
            dt_rank=dt_rank,
        )
    except (ValueError, IndexError) as error:
        raise WeightsError(f"not a VideoMamba checkpoint: {error}") from error


def _resize(
    backbone: State, actual: VideoMambaConfig, wanted: VideoMambaConfig, notes: list[str], warnings: list[str]
) -> None:
    """Inflate the patches of an image checkpoint; resize the position embeddings to the wanted sizes."""
    weight = backbone["patch_embed.proj.weight"]
    if weight.ndim == 4:
        backbone["patch_embed.proj.weight"] = weight.unsqueeze(2)
        notes.append("patch_embed.proj.weight: inflated from images to frames")
    if "temporal_pos_embedding" not in backbone:
        backbone["temporal_pos_embedding"] = torch.zeros(1, wanted.frames, wanted.d_model)
        warnings.append("temporal_pos_embedding: not in this image checkpoint, set to zero")
    elif actual.frames != wanted.frames:
        time = backbone["temporal_pos_embedding"].float().mT
        backbone["temporal_pos_embedding"] = F.interpolate(time, wanted.frames, mode="linear").mT
        notes.append(f"temporal_pos_embedding: resized from {actual.frames} to {wanted.frames} frames")
    if actual.grid != wanted.grid:
        cls, patches = backbone["pos_embed"].float().split([1, actual.grid[0] * actual.grid[1]], dim=1)
        image = patches.mT.unflatten(2, actual.grid)
        resized = F.interpolate(image, wanted.grid, mode="bicubic").flatten(2).mT
        backbone["pos_embed"] = torch.cat([cls, resized], dim=1)
        notes.append(f"pos_embed: resized from {actual.grid} to {wanted.grid} patches")


def _compare(state: State, expected: Mapping[str, tuple[int, ...]]) -> None:
    lines = [f"  missing: {key} {shape}" for key, shape in expected.items() if key not in state]
    lines += [f"  unknown: {key} {tuple(x.shape)}" for key, x in state.items() if key not in expected]
    lines += [
        f"  shape: {key} is {tuple(state[key].shape)}, not {shape}"
        for key, shape in expected.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    lines += [
        f"  type: {key} is {str(x.dtype).removeprefix('torch.')}, not a floating-point type"
        for key, x in state.items()
        if not x.is_floating_point()
    ]
    lines += [
        f"  type: {key} is sparse or has no values"
        for key, x in state.items()
        if x.layout != torch.strided or x.is_meta
    ]
    if lines:
        shown = lines[:20] + [f"  and {len(lines) - 20} more"] * (len(lines) > 20)
        cure = ["an unknown tensor that is not part of the backbone must be left out of the file"]
        shown += cure * any(line.startswith("  unknown") for line in lines)
        raise WeightsError("\n".join([f"{len(lines)} tensors of the checkpoint do not fit:", *shown]))


def _tuner_state(published: State) -> State:
    ours: State = {}
    gains = sorted(
        (int(key.split(".")[1]), x) for key, x in published.items() if key.startswith("dynamic_scales.")
    )
    for key, value in published.items():
        for pattern, name in SSP_NAMES.items():
            if re.match(pattern, key):
                ours[re.sub(pattern, name, key)] = value
                break
        else:
            if not key.startswith("dynamic_scales."):
                raise WeightsError(f"unknown SSP tensor {key} {tuple(value.shape)}")
    if gains:
        ours["gain"] = torch.cat([x for _, x in gains])
    return ours


def ssp_options(tuner: State) -> dict[str, Any]:
    """Read the options of SSP off its tensors (under our names).

    Raises:
        WeightsError: tensors of the gathering are missing.
    """
    missing = [x for x in ("gather.down.weight", "gather.conv.weight") if x not in tuner]
    if missing:
        raise WeightsError(f"the SSP checkpoint lacks {', '.join(missing)}")
    options: dict[str, Any] = {
        "prompts": sum(key.endswith(".scale") for key in tuner),
        "gather_width": tuner["gather.down.weight"].shape[0],
        "gather_kernel": tuple(tuner["gather.conv.weight"].shape[2:]),
    }
    if options["prompts"]:
        options["spread_width"] = tuner["spread.0.down.weight"].shape[0]
    return options


def to_published(backbone: State, norm: Tensor, head: State, tuner: State) -> State:
    """Our tensors under their published names and shapes: the inverse of `sort_published`."""
    state = {**backbone, "norm_f.weight": norm, **{f"head.{key}": x for key, x in head.items()}}
    back = {name.replace(r"\1", "{}"): pattern for pattern, name in SSP_NAMES.items()}
    for key, value in tuner.items():
        if key == "gain":
            state |= {f"dynamic_scales.{i}": x.reshape(1) for i, x in enumerate(value)}
            continue
        number = (re.search(r"\d+", key) or [""])[0]
        prefix = max((x for x in back if key.startswith(x.format(number))), key=len)
        stem = back[prefix].replace("\\", "").replace("(d+)", number)
        state[stem + key.removeprefix(prefix.format(number))] = value
    return state
