"""Options of the methods as types, so that editors complete them and type checkers check them.

`create_types` gives `Classifier.create` an overload for each bundled method. The constructors of the methods
are the reference for options, defaults and meanings; tests/methods/test_options.py keeps both in agreement.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, Unpack, overload

from videossp.data.sampling import Sampling

if TYPE_CHECKING:
    from videossp.classifier import Classifier
    from videossp.model.config import VideoMambaConfig
    from videossp.model.hooks import Tuner
    from videossp.model.videomamba import VideoMamba


class CreateArguments(TypedDict, total=False):
    """Keyword arguments of `Classifier.create` that do not depend on the method."""

    num_classes: int | None
    classes: Sequence[str] | None
    weights: str | None
    frames: int | None
    size: int | tuple[int, int] | None
    sampling: Sampling
    stride: int
    views: tuple[int, int]
    drop_path: float
    dropout: float
    seed: int


class AttentiveOptions(TypedDict, total=False):
    """Options of `attentive`."""

    heads: int
    width: int


class MomentsOptions(TypedDict, total=False):
    """Options of `moments`."""

    times: int | None
    order: int
    rank: int | None


class PartialOptions(TypedDict, total=False):
    """Options of `partial`."""

    parts: tuple[str, ...]


class AdapterOptions(TypedDict, total=False):
    """Options of `adapter`."""

    width: int | None
    scale: float | None
    reads: Literal["residual", "norm", "output"]
    drop: float


class STAdapterOptions(TypedDict, total=False):
    """Options of `st_adapter`."""

    width: int | None
    kernel: tuple[int, int, int]
    layers: int | None
    residual: bool


class LoRAOptions(TypedDict, total=False):
    """Options of `lora`."""

    targets: tuple[str, ...]
    rank: int | None
    scale: float
    drop: float


class VPTOptions(TypedDict, total=False):
    """Options of `vpt`."""

    length: int | None
    deep: bool
    position: Literal["after_cls", "prepend", "suffix", "prefix_suffix", "per_frame"]
    accumulate: bool


class VFPTOptions(TypedDict, total=False):
    """Options of `vfpt`."""

    length: int | None
    share: float
    dimension: Literal["all", "hidden", "sequence"]
    norm: Literal["backward", "ortho"]


class SVPOptions(TypedDict, total=False):
    """Options of `svp`."""

    width: int | None
    groups: int


class AdditionalScanOptions(TypedDict, total=False):
    """Options of `additional_scan`."""

    states: int | None
    start: Literal["first", "last", "s4d"]
    silent: bool


class AffixOptions(TypedDict, total=False):
    """Options of `affix`."""

    length: int
    start: Literal["normal", "zero"]


class StateOffsetOptions(TypedDict, total=False):
    """Options of `state_offset`."""

    of: Literal["state", "output"]


class STOPOptions(TypedDict, total=False):
    """Options of `stop`."""

    prompts: int
    scale: float
    share: float
    pixel_kernel: int
    token_kernel: tuple[int, int]
    position: Literal["frame_start", "frame_end"]
    heads: int | None
    importance: Literal["clip", "batch"]
    drop: float


class SSPOptions(TypedDict, total=False):
    """Options of `ssp`."""

    prompts: int
    gathering: bool
    reads: Literal["branch", "residual"]
    gather_width: int | None
    gather_kernel: tuple[int, int, int]
    spread_width: int | None
    heads: int
    token: Literal["last", "first+last", "mean"]
    importance: Literal["clip", "constant", "batch"]
    detach: bool


class GatherSpreadOptions(TypedDict, total=False):
    """Options of `gather_spread`."""

    rank: int | None
    layers: int | None
    taps: bool
    moments: bool
    times: int | None
    order: int
    moment_rank: int | None


if TYPE_CHECKING:

    class _Attentive(CreateArguments, AttentiveOptions, total=False): ...

    class _Moments(CreateArguments, MomentsOptions, total=False): ...

    class _Partial(CreateArguments, PartialOptions, total=False): ...

    class _Adapter(CreateArguments, AdapterOptions, total=False): ...

    class _STAdapter(CreateArguments, STAdapterOptions, total=False): ...

    class _LoRA(CreateArguments, LoRAOptions, total=False): ...

    class _VPT(CreateArguments, VPTOptions, total=False): ...

    class _VFPT(CreateArguments, VFPTOptions, total=False): ...

    class _SVP(CreateArguments, SVPOptions, total=False): ...

    class _AdditionalScan(CreateArguments, AdditionalScanOptions, total=False): ...

    class _Affix(CreateArguments, AffixOptions, total=False): ...

    class _StateOffset(CreateArguments, StateOffsetOptions, total=False): ...

    class _STOP(CreateArguments, STOPOptions, total=False): ...

    class _SSP(CreateArguments, SSPOptions, total=False): ...

    class _GatherSpread(CreateArguments, GatherSpreadOptions, total=False): ...

    Backbone = str | VideoMambaConfig | VideoMamba

    class Create(Protocol):
        """The type of `Classifier.create`: an overload for each method, and two for the others."""

        @overload
        def __call__(
            self,
            backbone: Backbone = ...,
            *,
            method: Literal["linear", "mean", "full"],
            **given: Unpack[CreateArguments],
        ) -> Classifier: ...

        @overload
        def __call__(
            self, backbone: Backbone = ..., *, method: Literal["ssp"] = ..., **given: Unpack[_SSP]
        ) -> Classifier: ...

        @overload
        def __call__(
            self, backbone: Backbone = ..., *, method: Literal["attentive"], **given: Unpack[_Attentive]
        ) -> Classifier: ...

        @overload
        def __call__(
            self, backbone: Backbone = ..., *, method: Literal["moments"], **given: Unpack[_Moments]
        ) -> Classifier: ...

        @overload
        def __call__(
            self,
            backbone: Backbone = ...,
            *,
            method: Literal["gather_spread"],
            **given: Unpack[_GatherSpread],
        ) -> Classifier: ...

        @overload
        def __call__(
            self, backbone: Backbone = ..., *, method: Literal["partial"], **given: Unpack[_Partial]
        ) -> Classifier: ...

        @overload
        def __call__(
            self, backbone: Backbone = ..., *, method: Literal["adapter"], **given: Unpack[_Adapter]
        ) -> Classifier: ...

        @overload
        def __call__(
            self, backbone: Backbone = ..., *, method: Literal["st_adapter"], **given: Unpack[_STAdapter]
        ) -> Classifier: ...

        @overload
        def __call__(
            self, backbone: Backbone = ..., *, method: Literal["lora"], **given: Unpack[_LoRA]
        ) -> Classifier: ...

        @overload
        def __call__(
            self, backbone: Backbone = ..., *, method: Literal["vpt"], **given: Unpack[_VPT]
        ) -> Classifier: ...

        @overload
        def __call__(
            self, backbone: Backbone = ..., *, method: Literal["vfpt"], **given: Unpack[_VFPT]
        ) -> Classifier: ...

        @overload
        def __call__(
            self, backbone: Backbone = ..., *, method: Literal["svp"], **given: Unpack[_SVP]
        ) -> Classifier: ...

        @overload
        def __call__(
            self,
            backbone: Backbone = ...,
            *,
            method: Literal["additional_scan"],
            **given: Unpack[_AdditionalScan],
        ) -> Classifier: ...

        @overload
        def __call__(
            self, backbone: Backbone = ..., *, method: Literal["affix"], **given: Unpack[_Affix]
        ) -> Classifier: ...

        @overload
        def __call__(
            self, backbone: Backbone = ..., *, method: Literal["state_offset"], **given: Unpack[_StateOffset]
        ) -> Classifier: ...

        @overload
        def __call__(
            self, backbone: Backbone = ..., *, method: Literal["stop"], **given: Unpack[_STOP]
        ) -> Classifier: ...

        # A class: its options are not known here.
        @overload
        def __call__(
            self,
            backbone: Backbone = ...,
            *,
            method: type[Tuner],
            num_classes: int | None = ...,
            classes: Sequence[str] | None = ...,
            weights: str | None = ...,
            frames: int | None = ...,
            size: int | tuple[int, int] | None = ...,
            sampling: Sampling = ...,
            stride: int = ...,
            views: tuple[int, int] = ...,
            drop_path: float = ...,
            dropout: float = ...,
            seed: int = ...,
            **options: Any,
        ) -> Classifier: ...

        # Another name, or a chain. The options of a chain are mappings, which keeps this overload from taking
        # calls that name a bundled method and have a wrong option.
        @overload
        def __call__(
            self,
            backbone: Backbone = ...,
            *,
            method: str,
            num_classes: int | None = ...,
            classes: Sequence[str] | None = ...,
            weights: str | None = ...,
            frames: int | None = ...,
            size: int | tuple[int, int] | None = ...,
            sampling: Sampling = ...,
            stride: int = ...,
            views: tuple[int, int] = ...,
            drop_path: float = ...,
            dropout: float = ...,
            seed: int = ...,
            **options: Mapping[str, Any],
        ) -> Classifier: ...


def create_types(create: Any) -> "Create":
    """Decorator of `Classifier.create`: the same function, whose options are typed by method."""
    typed: Create = create
    return typed
