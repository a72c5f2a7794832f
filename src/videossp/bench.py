"""The speed of this machine: the scan, a forward pass, a training step, and the matrix products alone."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from videossp.classifier import Classifier
from videossp.methods import published_options
from videossp.model.backbones import RANDOM
from videossp.model.config import BACKBONES, VideoMambaConfig
from videossp.model.device import describe, peak_memory, selected, wait_for
from videossp.model.precision import Precision
from videossp.ops.exact_float32 import exact_float32
from videossp.ops.matmul import linear
from videossp.ops.reference import scan_reference
from videossp.ops.scan import Scan, selective_scan
from videossp.ops.scan_chunked import scan_chunked

Work = Callable[[], object]
CPU = torch.device("cpu")
DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Time:
    """Seconds of one task, over several rounds."""

    median: float
    minimum: float

    def __str__(self) -> str:
        return f"{format_seconds(self.median):>9} (minimum {format_seconds(self.minimum)})"


def format_seconds(seconds: float) -> str:
    """Seconds or milliseconds, with the unit."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"


def clock(works: Mapping[str, Work], rounds: int, device: torch.device = CPU) -> dict[str, Time]:
    """Time tasks in turn, A B C A B C ..., so that a slow moment of the machine affects all of them.

    Args:
        works: the tasks by name; each is done once before, which compiles its kernels.
        rounds: times that each is measured.
        device: where they compute. The clock of a GPU is its own: two events in its queue of work.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(seconds_of(work, device))
    return {name: Time(statistics.median(x), min(x)) for name, x in seconds.items()}


def seconds_of(work: Work, device: torch.device) -> float:
    """Seconds that a task takes on a device, which has no other work then."""
    wait_for(device)
    if device.type != "cuda":
        start = time.perf_counter()
        work()
        wait_for(device)
        return time.perf_counter() - start
    with selected(device):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
    milliseconds: float = begin.elapsed_time(end)
    return milliseconds / 1e3


def scan_arguments(length: int, d_inner: int, d_state: int, device: torch.device = CPU) -> dict[str, Tensor]:
    """Arguments of a scan, batch 1, as large as in a VideoMamba: steps near 0.05, rates 1 to d_state."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(1, *shape, generator=generator)

    tensors = {
        "u": draw(length, d_inner),
        "delta": draw(length, d_inner) - 3,
        "A": -torch.arange(1.0, d_state + 1).repeat(d_inner, 1),
        "B": draw(length, d_state),
        "C": draw(length, d_state),
        "D": torch.ones(d_inner),
    }
    return {name: x.to(device) for name, x in tensors.items()}


def scans() -> dict[str, Callable[[dict[str, Tensor]], Tensor]]:
    """The implementations of the scan, by name, as functions of `scan_arguments`."""
    return {
        "videossp": lambda t: selective_scan(Scan(**t)),
        "plain torch, chunked": lambda t: scan_chunked(**t),
        "plain torch, loop over time": lambda t: scan_reference(**t),
    }


def forward_and_backward(run: Callable[[dict[str, Tensor]], Tensor], tensors: dict[str, Tensor]) -> Work:
    """One scan and the gradients of its inputs u, delta, B, C, which a frozen backbone needs."""
    inputs = {name: x.clone().requires_grad_(name in ("u", "delta", "B", "C")) for name, x in tensors.items()}
    wanted = [x for x in inputs.values() if x.requires_grad]
    dy = torch.ones_like(tensors["u"])
    return lambda: torch.autograd.grad(run(inputs), wanted, dy)


def product_shapes(config: VideoMambaConfig, tokens: int) -> list[tuple[int, int, int]]:
    """(rows, features in, features out) of every matrix product of the backbone on one clip."""
    ops = ("in_proj", "x_proj", "x_proj", "dt_proj", "dt_proj", "out_proj")
    blocks = [(tokens, *config.width(op)) for _ in range(config.depth) for op in ops]
    rows, columns = config.grid
    return [(config.frames * rows * columns, 3 * config.patch**2, config.d_model), *blocks]


def ssp_shapes(config: VideoMambaConfig, width: int) -> list[tuple[int, int, int]]:
    """(rows, features in, features out) of the products over all patches of SSP's gathering."""
    rows, columns = config.grid
    patches = config.frames * rows * columns
    return config.depth * [(patches, config.d_model, width), (patches, width, config.d_model)]


def products(
    shapes: Sequence[tuple[int, int, int]],
    dtype: torch.dtype,
    *,
    backward: bool = False,
    device: torch.device = CPU,
) -> list[Work]:
    """Two ways to compute these products and nothing else; the faster is a lower bound of a forward pass.

    One uses `linear`, as this package does; the other `torch.mm`, with outputs that are allocated before.

    Args:
        shapes: (rows, features in, features out) of each product.
        dtype: of the operands.
        backward: also compute the gradient of each input.
        device: of the operands.
    """
    operands = {}
    for shape in set(shapes):
        rows, width_in, width_out = shape
        x = torch.randn(rows, width_in, dtype=dtype, device=device)
        # Frozen, as in the backbone: `linear` may then reorder it once for all calls.
        values = torch.randn(width_out, width_in, dtype=dtype, device=device)
        weight = torch.nn.Parameter(values, requires_grad=False)
        operands[shape] = x, weight, x.new_empty(rows, width_out), torch.empty_like(x)

    def by_linear() -> None:
        for x, weight, y, _ in map(operands.__getitem__, shapes):
            linear(x, weight)
            if backward:
                linear(y, weight.t())

    def by_mm() -> None:
        for x, weight, y, dx in map(operands.__getitem__, shapes):
            torch.mm(x, weight.t(), out=y)
            if backward:
                torch.mm(y, weight, out=dx)

    return [by_linear, by_mm]


@dataclass(frozen=True)
class Forward:
    """Times of a forward pass with SSP on one clip, and of its matrix products alone.

    Attributes:
        tokens: of the clip, with its prompts.
        whole: the forward pass.
        products: its matrix products.
        backbone_products: those without the products of SSP.
    """

    tokens: int
    whole: Time
    products: Time
    backbone_products: Time

    @property
    def ratio(self) -> float:
        """Median time of the forward pass, divided by that of its products."""
        return self.whole.median / self.products.median


def floor(times: Mapping[str, Time], prefix: str) -> Time:
    """The time of the faster of several ways to compute the same products."""
    return min((x for name, x in times.items() if name.startswith(prefix)), key=lambda x: x.median)


def make(backbone: str, frames: int | None = None, device: torch.device = CPU) -> tuple[Classifier, Tensor]:
    """A classifier with SSP and random weights, and a clip for it."""
    classifier = Classifier.create(
        backbone,
        weights=RANDOM if backbone in BACKBONES else None,
        num_classes=51,
        frames=frames,
        **published_options("ssp", {}),  # one size on all backbones, as the recorded figures have it
    )
    spec = classifier.backbone.config
    generator = torch.Generator().manual_seed(0)
    clip = torch.randn(1, 3, spec.frames, *spec.size, generator=generator)
    return classifier.to(device), clip.to(device)


def shapes_of(classifier: Classifier) -> tuple[int, list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """Number of tokens of a clip with its prompts; shapes of the backbone's products; those of SSP's."""
    tuner: Any = classifier.tuner
    config = classifier.backbone.config
    tokens = 1 + config.frames * (config.grid[0] * config.grid[1] + tuner.prompts)
    return tokens, product_shapes(config, tokens), ssp_shapes(config, tuner.gather.down.out_features)


def time_forward(
    backbone: str,
    frames: int | None,
    rounds: int,
    precision: Precision = "float32",
    device: torch.device = CPU,
) -> Forward:
    """Time a forward pass and its products, both in this precision."""
    classifier, clip = make(backbone, frames, device)
    classifier.eval().to_precision(precision)
    dtype = DTYPES[precision]
    tokens, of_backbone, of_ssp = shapes_of(classifier)
    with torch.inference_mode():
        works: dict[str, Work] = {"whole": lambda: classifier(clip)}
        works |= {
            f"all {i}": work for i, work in enumerate(products(of_backbone + of_ssp, dtype, device=device))
        }
        works |= {f"backbone {i}": work for i, work in enumerate(products(of_backbone, dtype, device=device))}
        times = clock(works, rounds, device)
    return Forward(tokens, times["whole"], floor(times, "all"), floor(times, "backbone"))


def training_step(classifier: Classifier, clip: Tensor, *, grad_checkpoint: bool = False) -> Work:
    """One training step with AdamW, as in `train`."""
    classifier.train().backbone.grad_checkpoint = grad_checkpoint
    weights = classifier.trainable().values()
    optimizer = torch.optim.AdamW(weights, lr=1e-4, fused=True if clip.is_cuda else None)
    label = torch.zeros(len(clip), dtype=torch.long, device=clip.device)

    def step() -> None:
        with nullcontext() if classifier.precision == "bf16" else exact_float32(clip.device):
            loss = F.cross_entropy(classifier(clip), label)
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()

    return step


def time_step(
    backbone: str,
    rounds: int,
    *,
    grad_checkpoint: bool = False,
    precision: Precision = "float32",
    device: torch.device = CPU,
) -> tuple[Time, Time, Time]:
    """Time a training step of SSP on one clip; its products with their input gradients; its forward pass."""
    classifier, clip = make(backbone, None, device)
    classifier.to_precision(precision)
    step = training_step(classifier, clip, grad_checkpoint=grad_checkpoint)
    _, of_backbone, of_ssp = shapes_of(classifier)

    works: dict[str, Work] = {"step": step, "forward": lambda: classifier(clip)}
    with torch.no_grad():
        both = products(of_backbone + of_ssp, DTYPES[precision], backward=True, device=device)
    works |= {f"products {i}": torch.no_grad()(work) for i, work in enumerate(both)}
    times = clock(works, rounds, device)
    return times["step"], floor(times, "products"), times["forward"]


def report_step(backbone: str, rounds: int, *, grad_checkpoint: bool = False) -> str:
    """Report on a training step, as text. The memory is that of the steps, read before the products run."""
    classifier, clip = make(backbone)
    step = training_step(classifier, clip, grad_checkpoint=grad_checkpoint)
    clock({"": step}, rounds)
    memory = peak_memory(CPU)
    whole, alone, forward = time_step(backbone, rounds, grad_checkpoint=grad_checkpoint)
    name = f"{backbone} + ssp, one clip, float32" + ", grad_checkpoint" * grad_checkpoint
    lines = [
        f"training step of {name}",
        f"  step                             {whole}",
        f"  forward, input-gradient products {alone}",
        f"  ratio                            {whole.median / alone.median:9.2f}",
        f"  its forward pass alone           {forward}",
        f"  peak memory of the process       {memory:9.2f} GB",
    ]
    return "\n".join(lines)


def run_benchmarks(backbone: str, rounds: int, device: torch.device = CPU) -> dict[str, float]:
    """The figures of `videossp bench`: medians in seconds, and ratios of times of this run."""
    config = BACKBONES[backbone]
    length = 1 + config.frames * config.grid[0] * config.grid[1]
    tensors = scan_arguments(length, config.d_inner, config.d_state, device)
    kinds = {name: run for name, run in scans().items() if name != "plain torch, chunked"}
    with torch.no_grad():
        forward = clock({name: partial(run, tensors) for name, run in kinds.items()}, rounds, device)
    both = clock({"": forward_and_backward(kinds["videossp"], tensors)}, rounds, device)[""]
    plain, rounded = (
        time_forward(backbone, None, rounds, precision, device) for precision in ("float32", "bf16")
    )
    step, alone, _ = time_step(backbone, rounds, device=device)
    loop = forward["plain torch, loop over time"]
    figures = {
        "scan": forward["videossp"].median,
        "scan in plain torch": loop.median,
        "scan with input gradients": both.median,
        "forward, float32": plain.whole.median,
        "forward, float32, over its products": plain.ratio,
        "forward, bf16": rounded.whole.median,
        "training step": step.median,
        "training step over its products": step.median / alone.median,
    }
    if device.type == "cuda":  # there bf16 is the default of a training
        figures["training step, bf16"] = time_step(backbone, rounds, precision="bf16", device=device)[
            0
        ].median
    return {**figures, "peak memory (GB)": peak_memory(device)}


def machine_of(device: torch.device) -> str:
    """The device and its threads, for people."""
    return f"{torch.get_num_threads()} threads" if device.type == "cpu" else describe(device)
