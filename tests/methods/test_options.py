"""The types of options agree with the constructors of the methods and with `Classifier.create`."""

import inspect
from typing import TypedDict, get_type_hints

import pytest

from videossp.classifier import Classifier
from videossp.methods import METHODS
from videossp.methods import options as types
from videossp.methods.check_names import check_names
from videossp.methods.options import CreateArguments


class NoOptions(TypedDict):
    """Options of the methods that have none."""


METHOD_OPTIONS = {
    "linear": NoOptions,
    "mean": NoOptions,
    "moments": types.MomentsOptions,
    "attentive": types.AttentiveOptions,
    "full": NoOptions,
    "partial": types.PartialOptions,
    "adapter": types.AdapterOptions,
    "st_adapter": types.STAdapterOptions,
    "lora": types.LoRAOptions,
    "vpt": types.VPTOptions,
    "vfpt": types.VFPTOptions,
    "svp": types.SVPOptions,
    "additional_scan": types.AdditionalScanOptions,
    "affix": types.AffixOptions,
    "state_offset": types.StateOffsetOptions,
    "stop": types.STOPOptions,
    "ssp": types.SSPOptions,
    "gather_spread": types.GatherSpreadOptions,
}


def test_every_method_has_a_type_of_its_options():
    assert list(METHOD_OPTIONS) == list(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_the_type_of_the_options_is_that_of_the_constructor(method):
    parameters = list(inspect.signature(METHODS[method]).parameters.values())[1:]
    assert all(x.kind is x.KEYWORD_ONLY for x in parameters)
    hints = get_type_hints(METHODS[method].__init__)
    declared = get_type_hints(METHOD_OPTIONS[method])
    assert declared == {x.name: hints[x.name] for x in parameters}
    assert list(declared) == [x.name for x in parameters]
    assert not METHOD_OPTIONS[method].__required_keys__


def test_the_shared_arguments_are_those_of_create():
    parameters = dict(inspect.signature(Classifier.create).parameters)
    assert list(parameters)[0] == "backbone" and list(parameters)[-1] == "options"
    for name in ("backbone", "method", "options"):
        del parameters[name]
    rest = {name: x.annotation for name, x in parameters.items()}
    assert get_type_hints(CreateArguments) == rest


def test_no_option_is_named_like_an_argument_of_create():
    """`Classifier.create` could not pass it on."""
    arguments = set(inspect.signature(Classifier.create).parameters)
    for options in METHOD_OPTIONS.values():
        assert not arguments & set(options.__annotations__)


def test_the_decorator_of_the_types_leaves_create_a_class_method():
    assert isinstance(inspect.getattr_static(Classifier, "create"), classmethod)
    assert Classifier.create.__doc__.startswith("Make a classifier")


def test_names_are_checked_against_the_choices():
    assert check_names("parts", "a", "ab") == ("a",) and check_names("parts", ["b", "a"], "ab") == ("b", "a")
    for given, wrong in (("c", "c"), ([], "none"), (["a", "a"], "a"), (["a", "c", "d"], "c, d")):
        with pytest.raises(ValueError, match=f"parts {wrong}: name some, each once, of a, b"):
            check_names("parts", given, "ab")
