"""Sizes of methods and backbones that cannot be are refused by name, before any layer is made."""

import re
import typing
import warnings

import pytest
import torch

from conftest import SMALL
from videossp.methods import METHODS, make_tuner
from videossp.methods.layers.depthwise import Depthwise
from videossp.model.config import VideoMambaConfig

SIZES = {
    (method, option): kind
    for method, cls in METHODS.items()
    for option, kind in typing.get_type_hints(cls.__init__).items()
    if kind in (int, int | None) or typing.get_origin(kind) is tuple and int in typing.get_args(kind)
}


def wrong_sizes(method, option):
    """Values that cannot be sizes: too small, no whole numbers, too many or too few, or even."""
    sides = len(typing.get_args(SIZES[method, option]))
    if SIZES[method, option] in (int, int | None):
        may_be_zero = option == "order" or (method, option) == ("ssp", "prompts")
        values = [-1, 2.5, "3", True] + [0] * (not may_be_zero)
        return values + [2] * (option == "pixel_kernel")
    values = [(3,) * (sides - 1), (3,) * (sides + 1), "3" * sides, 0, None, (3,) * (sides - 1) + (True,)]
    for place in range(sides):
        for side in (0, -3, 1.5) + (4,) * (method == "stop"):
            values.append(tuple(side if i == place else 3 for i in range(sides)))
    return values


@pytest.mark.parametrize(("method", "option"), SIZES)
def test_a_size_that_cannot_be_is_refused_by_the_name_of_its_option(method, option):
    for value in wrong_sizes(method, option):
        for name, options in ((method, {option: value}), (f"linear+{method}", {method: {option: value}})):
            with pytest.raises(
                ValueError, match=rf"\b{option} must be .* got {re.escape(repr(value))}$"
            ) as error:
                make_tuner(name, SMALL, options)
            assert "\n" not in str(error.value)


def test_the_walk_finds_every_option_that_is_a_size():
    assert len(SIZES) == 30 and ("ssp", "gather_kernel") in SIZES and ("stop", "token_kernel") in SIZES


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("ssp", {"prompts": 0, "gathering": False}, "prompts must be a whole number of at least 1, got 0"),
        (
            "vpt",
            {"length": 1, "position": "prefix_suffix"},
            "length must be a whole number of at least 2, got 1",
        ),
        ("svp", {"groups": 4}, "groups must be between 1 and 3, the blocks, got 4"),
        ("st_adapter", {"layers": 4}, "layers must be between 1 and 3"),
        ("attentive", {"heads": 5}, "heads must divide d_model 32, got 5"),
        ("ssp", {"spread_width": 12}, "heads must divide spread_width 12, got 8"),
    ],
)
def test_sizes_that_do_not_fit_each_other_are_refused(method, options, message):
    with pytest.raises(ValueError, match=message):
        make_tuner(method, SMALL, options)


@pytest.mark.parametrize("kernel", [(2, 1, 1), (2, 4, 6), (3, 2, 1), (1, 3, 3), 3])
def test_kernels_with_even_sides_equal_the_same_padding_of_torch(kernel):
    generator = torch.Generator().manual_seed(0)
    layer = Depthwise(5, kernel)
    for x in layer.parameters():
        x.data = torch.randn(x.shape, generator=generator)
    x = torch.randn(2, 3, 12, 5, generator=generator)
    volume = x.unflatten(2, (4, 3)).permute(0, 4, 1, 2, 3)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel lengths")
        expected = torch.nn.functional.conv3d(volume, layer.weight, layer.bias, padding="same", groups=5)
    assert torch.equal(layer(x, (4, 3)), expected.flatten(3).permute(0, 2, 3, 1))


@pytest.mark.parametrize(
    "name", ["depth", "d_model", "frames", "patch", "d_state", "d_conv", "expand", "dt_rank"]
)
@pytest.mark.parametrize("value", [0, -2, 1.5, "4"])
def test_sizes_of_a_backbone_are_positive_whole_numbers(name, value):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, a whole number, got {value!r}"):
        VideoMambaConfig(**{"depth": 2, "d_model": 32, name: value})


@pytest.mark.parametrize("size", [(0, 0), (224, 0), (-16, 16), (224, 100), (224,), (16, 16, 16)])
def test_the_size_of_a_clip_is_two_multiples_of_the_patch(size):
    with pytest.raises(
        ValueError, match=r"size must be \(height, width\), multiples of the patch, 16 pixels"
    ):
        VideoMambaConfig(depth=2, d_model=32, size=size)
