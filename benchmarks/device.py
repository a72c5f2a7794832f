"""What one GPU does in five minutes: whether the kernels are right, how fast they and a training step are.

    python benchmarks/device.py [--out device.json] [--seconds 300] [--only STAGE ...] [--dry]

Stages, in this order:

- machine: name, versions, and the ceilings: a copy in memory, products in bfloat16, float32 and TF32.
- correctness: output and every gradient of scan, convolution, gate and norm against float64, in new memory
  that is NaN, and twice, with the same bits. Processes compile the kernels in parallel for all later stages.
- scan: the scan of VideoMamba-Ti, S and M with SSP at 8 to 64 frames, beside plain torch, and mamba_ssm.
- around: convolution, gate and norm, beside plain torch.
- model: forward and training step of VideoMamba-M with SSP, 8 clips of 8 frames, by both kinds of kernels;
  memory, the share of a step in which the GPU computes, and the kernels that take longest.
- frames: a training step at 8 to 64 frames, with and without gradient checkpoints.
- videomae: forward and training step of VideoMAE-base of Hugging Face (random weights), if installed.

Times are milliseconds by CUDA events after warm-up: median, min and max. The JSON file is rewritten after
each row. A second run does only the rows that are missing, left out or failed, if GPU and versions are the
same. With --dry everything is tiny and on a CPU; all but whole models take Triton's interpreter, if Triton is
installed; times mean nothing then. Exit code 1: a row failed, or a kernel is wrong.
"""

import argparse
import gc
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
from contextlib import ExitStack, contextmanager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from unittest import mock

STAGES = ("machine", "correctness", "scan", "around", "model", "frames", "videomae")
DRY = "--dry" in sys.argv
if DRY:
    os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported

from videossp import prepare_process  # noqa: E402

prepare_process()  # before torch is loaded

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from videossp.classifier import Classifier  # noqa: E402
from videossp.model.config import BACKBONES, VideoMambaConfig  # noqa: E402
from videossp.ops import dispatch, scan_cpu  # noqa: E402
from videossp.ops.conv import conv_silu  # noqa: E402
from videossp.ops.dispatch import kernels  # noqa: E402
from videossp.ops.exact_float32 import exact_float32  # noqa: E402
from videossp.ops.gate import gate  # noqa: E402
from videossp.ops.norm import add_norm  # noqa: E402
from videossp.ops.reference import scan_reference  # noqa: E402
from videossp.ops.scan import Scan, selective_scan  # noqa: E402
from videossp.ops.scan_cuda import scan_mamba  # noqa: E402
from videossp.ops.triton_ready import triton_version  # noqa: E402

DEVICE = torch.device("cpu" if DRY else "cuda")
DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}
# Relative errors (of norms) against float64. The interpreter truncates bfloat16, a GPU rounds it.
BOUNDS = {"bf16": 2e-2 if DRY else 1e-2, "float32": 2e-5}
NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias", "h0")
# Correctness: batch, length, d_inner, d_state, and FILL, by which the scan decides on segments.
SCANS = {
    "one segment": (2, 257, 200, 16, 0),
    "a segment a chunk": (2, 257, 200, 16, 10**6),
    "22 states": (2, 63, 33, 22, 16),
    "8 states": (1, 1, 4, 8, 16),
    "1 state": (1, 130, 64, 1, 10**6),
    "64 states": (2, 70, 96, 64, 10**6),
    "a clip of VideoMamba-M": (1, 1593, 1152, 16, 16),
}
AROUND = (2, 333, 1152)  # batch, length, d_inner
# What the other stages time: batch, tokens with SSP by frames, the backbones.
BATCH, FRAMES, SIZES = 8, (8, 16, 32, 64), ("tiny", "small", "middle")
if DRY:
    # The interpreter takes seconds for the 64 steps of a chunk.
    SCANS = {"one segment": (1, 2, 3, 2, 0), "3 states": (2, 3, 3, 3, 10**6)}
    AROUND, BATCH, FRAMES, SIZES = (1, 3, 8), 2, (2,), ("middle",)
    BACKBONES["videomamba_middle"] = VideoMambaConfig(depth=2, d_model=32, frames=2, size=(16, 16), d_state=2)


class Report:
    """The rows of all stages, in a JSON file that is rewritten after each.

    Args:
        path: of the file; rows that it holds of the same machine are kept.
        seconds: what the run may take.
    """

    def __init__(self, path, seconds):
        self.path, self.end = path, time.monotonic() + seconds
        self.stage = ""
        self.failed = []
        self.data = {"machine": machine(), "stages": {}}
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            if before["machine"] == self.data["machine"]:
                self.data["stages"] = before["stages"]

    def row(self, name, work, seconds=5.0):
        """Do `work` and keep its result, if there is none yet.

        Args:
            name: of the row, within the stage.
            work: returns what JSON can hold.
            seconds: what it may take; with less time left it is left out.
        """
        rows = self.data["stages"].setdefault(self.stage, {})
        if name in rows and not {"error", "left out"} & rows[name].keys():
            return
        left = self.end - time.monotonic()
        started = time.perf_counter()
        if left < seconds:
            rows[name] = {"left out": f"{max(0.0, left):.0f} s were left, it may need {seconds:.0f}"}
        else:
            try:
                rows[name] = work()
            except Exception as error:  # the others can be measured all the same
                rows[name] = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
                self.failed.append(name)
            release()
            rows[name]["seconds"] = round(time.perf_counter() - started, 2)
        new = self.path.with_suffix(".new")  # a run that is killed leaves a whole file
        new.write_text(json.dumps(self.data, indent=1), encoding="utf-8")
        new.replace(self.path)
        print(f"  {name}: {short(rows[name])}", flush=True)


def short(row):
    """A row for people: medians in place of times, without long texts."""
    shown = {}
    for name, x in row.items():
        if isinstance(x, dict) and "median" in x:
            shown[name] = f"{x['median']:.3g} ({x['min']:.3g} to {x['max']:.3g})"
        elif isinstance(x, float):
            shown[name] = f"{x:.3g}"
        elif isinstance(x, str | int | bool):
            shown[name] = x
    return ", ".join(f"{name} {x}" for name, x in shown.items() if name != "trace")


def machine():
    """What must be the same for rows to be kept."""
    facts = {"torch": torch.__version__, "triton": triton_version(), "python": sys.version.split()[0]}
    if DRY:
        return facts | {"device": "a dry run on a CPU"}
    gpu = torch.cuda.get_device_properties(0)
    return facts | {
        "device": gpu.name,
        "memory": gpu.total_memory,
        "multiprocessors": gpu.multi_processor_count,
        "cuda": torch.version.cuda or torch.version.hip,
        "mamba_ssm": dispatch.mamba_ssm_is_built(),
    }


def wait():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def release():
    """Give the memory of a row back, so that its peak is not that of the next."""
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak():
    return torch.cuda.max_memory_allocated() / 1e9 if DEVICE.type == "cuda" else 0.0


def timed(work, budget=0.25, least=5, most=100, ahead=False):
    """Milliseconds of the GPU for a piece of work: median, min and max, by events, after a warm-up.

    Args:
        work: launches kernels.
        budget: seconds to measure for, after `least` runs.
        least, most: runs.
        ahead: let the GPU sleep while the runs are launched, so that it never waits for the CPU: for single
            operators, whose launch can take longer than their computation.
    """
    if DEVICE.type == "cpu":
        start = time.perf_counter()
        work()
        return summary([1e3 * (time.perf_counter() - start)])
    for _ in range(2 if least > 1 else 1):
        work()
    wait()
    launching, runs = 0.0, least
    if budget:
        start = time.perf_counter()
        work()
        launching = time.perf_counter() - start
        wait()
        runs = max(least, min(most, int(budget / (time.perf_counter() - start))))
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(runs)]
    if ahead:
        torch.cuda._sleep(int(2e9 * min(0.5, 1.5 * launching * runs)))  # cycles, of about 2 GHz
    for before, after in marks:
        before.record()
        work()
        after.record()
    wait()
    return summary([before.elapsed_time(after) for before, after in marks])


def summary(times):
    return {"median": statistics.median(times), "min": min(times), "max": max(times), "runs": len(times)}


@contextmanager
def poisoned():
    """Within this context, memory that is allocated and not written is NaN."""

    def fill(allocate):
        def filled(*args, **kwargs):
            x = allocate(*args, **kwargs)
            return x.fill_(float("nan")) if x.is_floating_point() else x

        return filled

    with ExitStack() as stack:
        for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
            stack.enter_context(mock.patch.object(owner, name, fill(getattr(owner, name))))
        yield


@contextmanager
def interpreted():
    """In a dry run, the Triton kernels compute on the CPU, by the interpreter, if Triton is installed."""
    if not DRY or importlib.util.find_spec("triton") is None:
        yield
        return
    from videossp.ops import scan_triton

    with (
        mock.patch.object(dispatch, "TRITON_DEVICES", ("cuda", "cpu")),
        mock.patch.object(scan_cpu, "scan_forward", scan_triton.scan_forward),
        mock.patch.object(scan_cpu, "scan_backward", scan_triton.scan_backward),
    ):
        yield


def draw(*shape, seed=0):
    return torch.randn(*shape, device=DEVICE, generator=torch.Generator(DEVICE).manual_seed(seed))


def scan_tensors(batch, length, d_inner, d_state, dtype, h0=False):
    """Arguments of a scan, of the magnitudes in a VideoMamba, with B and C as slices of a wider product."""
    sequences = [draw(batch, length, d_inner, seed=i) - 3 * i for i in range(2)]
    product = draw(batch, length, 36 + 2 * d_state, seed=2).to(dtype)
    rates = torch.arange(1.0, d_state + 1, device=DEVICE) * (0.5 + draw(d_inner, 1, seed=3).sigmoid())
    B, C = product[..., 36:].chunk(2, dim=-1)
    u, delta = (x.to(dtype) for x in sequences)
    start = [draw(batch, d_inner, d_state, seed=6)] if h0 else []
    return [u, delta, -rates, B, C, draw(d_inner, seed=4), 0.1 * draw(d_inner, seed=5), *start]


def scan(*tensors, reverse=False):
    return selective_scan(Scan(*tensors, reverse=reverse))


def around_tensors(batch, length, d_inner, dtype):
    """Inputs of convolution, gate and norm, with the slices that a block makes."""
    x, z = draw(batch, length, 2 * d_inner, seed=1).to(dtype).chunk(2, dim=-1)
    y, y_b = (draw(batch, length, d_inner, seed=i).to(dtype) for i in (2, 3))
    weights = [0.5 * draw(d_inner, *shape, seed=i) for i, shape in enumerate([(1, 4), ()] * 2)]
    width = d_inner // 2
    norm = draw(batch, length, width, seed=4), draw(batch, length, width, seed=5).to(dtype)
    return {
        "conv": (conv_silu, [x, *weights]),
        "gate": (gate, [y, y_b, z]),
        "norm": (add_norm, [*norm, 1 + 0.1 * draw(width, seed=6)]),
    }


def outputs_and_gradients(function, tensors, wanted=None):
    """What a function of tensors gives, and the gradients of a weighted sum, of all or of those wanted."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    out = function(*leaves)
    outputs = out if isinstance(out, tuple) else (out,)
    weights = [draw(*x.shape, seed=9).to(x.dtype) for x in outputs]
    wanted = leaves if wanted is None else [leaves[i] for i in wanted]
    return [*(x.detach() for x in outputs), *torch.autograd.grad(outputs, wanted, weights)]


def compare(function, exact, tensors, kind):
    """Errors of outputs and gradients against `exact` in float64, and whether two runs give the same bits."""
    expected = outputs_and_gradients(exact, [x.double() for x in tensors])
    with poisoned(), exact_float32(DEVICE):
        runs = [outputs_and_gradients(function, tensors) for _ in range(2)]
    pairs = zip(runs[0], expected, strict=True)
    errors = [float((x.double() - y).norm() / y.norm().clamp_min(1e-30)) for x, y in pairs]
    same = all(torch.equal(x, y) for x, y in zip(*runs, strict=True))
    right = same and all(x <= BOUNDS[kind] for x in errors)  # false for NaN, as max() <= is not
    return {"errors": errors, "worst": max(errors), "same bits": same, "right": right}


def cut_by(fill):
    """A context in which the scan cuts sequences until there are so many programs a multiprocessor."""
    if importlib.util.find_spec("triton") is None:
        return nullcontext()
    from videossp.ops import scan_triton

    return mock.patch.object(scan_triton, "FILL", fill)


def check_scan(name, kind):
    """Both directions of one case of SCANS."""
    *sizes, fill = SCANS[name]
    tensors = scan_tensors(*sizes, DTYPES[kind], h0=True)
    found = {}
    with cut_by(fill):
        for reverse in (False, True):
            pair = (partial(f, reverse=reverse) for f in (scan, scan_reference))
            found["reverse" if reverse else "forward"] = compare(*pair, tensors, kind)
    return found


def check_around(kind):
    return {
        name: compare(function, function, tensors, kind)
        for name, (function, tensors) in around_tensors(*AROUND, DTYPES[kind]).items()
    }


def warm(size):
    """Compile what the later stages launch for a backbone, so that the processes do it in parallel."""
    for dtype in DTYPES.values():
        for batch in (1, BATCH):
            tensors = scan_tensors(batch, tokens(FRAMES[0]), *widths(size), dtype)
            outputs_and_gradients(scan, tensors, FROZEN)
            outputs_and_gradients(partial(scan, reverse=True), tensors, FROZEN)
            with torch.no_grad():
                scan(*tensors)
        for function, inputs in around_tensors(1, tokens(FRAMES[0]), widths(size)[0], dtype).values():
            outputs_and_gradients(function, inputs, range(1 if function is conv_silu else 2))
    return {}


def job(name):
    """One job of a process of the stage `correctness`."""
    what, _, rest = name.partition(": ")
    with interpreted():
        if what == "compile":
            return warm(rest)
        if what == "scan":
            return check_scan(*rest.rsplit(", ", 1))
        return check_around(rest)


def correctness(report):
    names = [f"scan: {x}, {kind}" for x in SCANS for kind in DTYPES] + [f"around: {kind}" for kind in DTYPES]
    names += [f"compile: {size}" for size in SIZES]
    known = report.data["stages"].get("correctness", {})
    missing = [x for x in names if x not in known or {"error", "left out"} & known[x].keys()]
    count = min(len(missing), 1 if DRY else os.cpu_count() or 1)
    command = [sys.executable, "-W", "ignore", __file__, *(["--dry"] if DRY else []), "--job"]
    running = {
        tuple(missing[i::count]): subprocess.Popen(
            [*command, *missing[i::count]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for i in range(count)
    }
    end = time.monotonic() + min(150.0, report.end - time.monotonic())
    found = {}
    for part, process in running.items():
        try:
            said, complaint = process.communicate(timeout=max(1.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            said, complaint = process.communicate()
            complaint += "\ntook too long"
        lines = said.splitlines()
        for i, name in enumerate(part):
            result = json.loads(lines[i]) if i < len(lines) else {"error": complaint[-3000:]}
            found[name] = result
    for name in names:
        report.row(name, partial(checked, found.get(name)), 0)


def checked(result):
    """The row of a job. Raises an error if the job gave no result, or if a kernel is wrong."""
    if "error" in result:
        raise RuntimeError(result["error"])
    wrong = [name for name, x in result.items() if not x["right"]]
    if wrong:
        raise ArithmeticError(f"wrong or not deterministic: {', '.join(wrong)}: {result}")
    return result | {"worst": max((x["worst"] for x in result.values()), default=0.0)}


FROZEN = [0, 1, 3, 4]  # the gradients of a scan with frozen weights: u, delta, B, C


def tokens(frames, rows=14):
    """Tokens of a clip of 224 px with SSP: patches and three slots for each frame, and cls."""
    return 2 if DRY else frames * (rows * rows + 3) + 1


def widths(size):
    config = BACKBONES[f"videomamba_{size}"]
    return config.d_inner, config.d_state


def time_both(function, tensors, wanted, **options):
    """Times of a forward pass without gradients and of a backward pass."""
    with torch.no_grad():
        forward = timed(lambda: function(*tensors), **options)
    leaves = [x.detach().requires_grad_(i in wanted) for i, x in enumerate(tensors)]
    out = function(*leaves)
    outputs = [x for x in (out if isinstance(out, tuple) else (out,)) if x.requires_grad]
    inputs = [leaves[i] for i in wanted]
    grads = [torch.ones_like(x) for x in outputs]
    backward = timed(lambda: torch.autograd.grad(outputs, inputs, grads, retain_graph=True), **options)
    return {"forward": forward, "backward": backward}


def time_scan(size, frames, kind, how):
    """One scan of BATCH clips: by the kernels ("auto"), by plain torch or by mamba_ssm."""
    tensors = scan_tensors(BATCH, tokens(frames), *widths(size), DTYPES[kind])
    if how == "mamba_ssm":
        with torch.no_grad():
            tensors = [x.float() for x in tensors]
        return time_both(scan_mamba, tensors, FROZEN, ahead=True)
    options = {"ahead": True} if how == "auto" else {"budget": 0, "least": 1}
    with kernels(how), interpreted():
        found = time_both(scan, tensors, FROZEN, **options)
    moved = 3 * tensors[0].numel() * tensors[0].element_size()  # u and delta are read, y is written
    return found | {"forward GB/s": moved / found["forward"]["median"] / 1e6}


def scan_times(report):
    for size in reversed(SIZES):
        for frames in FRAMES:
            for kind in DTYPES:
                name = f"{size}, {BATCH} clips of {frames} frames, {kind}"
                report.row(name, partial(time_scan, size, frames, kind, "auto"))
    first = f"{SIZES[-1]}, {BATCH} clips of {FRAMES[0]} frames, float32"
    report.row(f"{first}, torch", partial(time_scan, SIZES[-1], FRAMES[0], "float32", "torch"), 10)
    if dispatch.mamba_ssm_is_built():
        report.row(f"{first}, mamba_ssm", partial(time_scan, SIZES[-1], FRAMES[0], "float32", "mamba_ssm"))


def time_around(name, kind, how):
    function, tensors = around_tensors(BATCH, tokens(FRAMES[0]), widths(SIZES[-1])[0], DTYPES[kind])[name]
    rounded = kind == "bf16" and how == "torch"  # as in a model: the weights are float32
    with kernels(how), interpreted(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=rounded):
        return time_both(function, tensors, range(1 if name == "conv" else 2), ahead=True)


def around(report):
    for name in ("conv", "gate", "norm"):
        for kind in DTYPES:
            for how in ("auto", "torch"):
                report.row(f"{name}, {kind}, {how}", partial(time_around, name, kind, how))


def ceilings(report):
    count = 2**30 if not DRY else 2**10
    side = {"bf16": 8192, "float32": 4096, "TF32": 8192} if not DRY else {"bf16": 8, "float32": 8, "TF32": 8}

    def copy():
        source = torch.ones(count, dtype=torch.bfloat16, device=DEVICE)
        target = torch.empty_like(source)
        time_of_copy = timed(lambda: target.copy_(source), ahead=True)
        return {"ms": time_of_copy, "TB/s": 4 * count / time_of_copy["median"] / 1e9}

    def product(kind):
        x, y = (draw(side[kind], side[kind], seed=i).to(DTYPES.get(kind, torch.float32)) for i in range(2))
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = kind == "TF32"
        try:
            time_of_product = timed(lambda: x @ y, ahead=True)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
        return {"ms": time_of_product, "TFLOP/s": 2 * side[kind] ** 3 / time_of_product["median"] / 1e9}

    report.row("copy", copy)
    for kind in side:
        report.row(f"product, {kind}", partial(product, kind))


@lru_cache(maxsize=1)
def classifier_of(frames, precision):
    """The largest of the backbones with SSP, on the device."""
    size = f"videomamba_{SIZES[-1]}"
    made = Classifier.create(size, num_classes=51, method="ssp", weights="random", frames=frames)
    return made.to_precision(precision).to(DEVICE)


class Steps:
    """A classifier and one batch.

    Args:
        frames, batch: of the clips.
        precision: bf16 or float32.
        grad_checkpoint: as in `VideoMamba`.
    """

    def __init__(self, frames, batch, precision, grad_checkpoint=False):
        self.classifier = classifier_of(frames, precision)
        self.classifier.backbone.grad_checkpoint = grad_checkpoint
        config = self.classifier.backbone.config
        self.clip = draw(batch, 3, config.frames, *config.size)
        self.labels = torch.zeros(batch, dtype=torch.long, device=DEVICE)
        self.optimizer = torch.optim.AdamW(self.classifier.trainable().values(), lr=1e-4, fused=True)

    def forward(self):
        with torch.inference_mode():
            return self.classifier(self.clip)

    def step(self):
        with exact_float32(DEVICE):
            F.cross_entropy(self.classifier(self.clip), self.labels).backward()
            self.optimizer.step()
        self.optimizer.zero_grad()

    def time(self, forward=True, **options):
        """Times of a forward pass and a training step, clips a second, and the peak memory of the step."""
        found = {}
        if forward:
            self.classifier.eval()
            found["forward"] = timed(self.forward, **options)
        self.classifier.train()
        release()
        found["step"] = timed(self.step, **options)
        return found | {"clips/s": 1e3 * len(self.clip) / found["step"]["median"], "peak GB": peak()}


def profile(steps):
    """Where the time of one training step is spent on the device, and how much of it the device computes."""
    kinds = torch.profiler.ProfilerActivity
    steps.classifier.train()
    step = timed(steps.step, budget=0.5)["median"]
    start = time.perf_counter()
    steps.step()
    launching = time.perf_counter() - start
    wait()
    with torch.profiler.profile(activities=[kinds.CPU, *([] if DRY else [kinds.CUDA])]) as found:
        steps.step()
        wait()
    events = [
        (x.key, x.count, (x.self_cpu_time_total if DRY else x.self_device_time_total) / 1e3)
        for x in found.key_averages()
        if DRY or x.device_type == torch.autograd.DeviceType.CUDA
    ]
    computing = sum(ms for *_, ms in events)
    return {
        "step": step,
        "kernels": sum(count for _, count, _ in events),
        "ms in kernels": computing,
        "share of the step": computing / step,
        "ms until launched": 1e3 * launching,  # the CPU waits while a thousand launches are queued
        "longest (name, calls, ms)": sorted(events, key=lambda x: -x[2])[:40],
    }


def model(report):
    def whole(precision, how, batch):
        slow = how == "torch"  # its step takes seconds
        with kernels(how):
            return Steps(FRAMES[0], batch, precision).time(
                **({"budget": 0, "least": 1} if slow else {"budget": 1.0})
            )

    def difference(precision):
        """Relative difference of the logits by both kinds of kernels."""
        steps, logits = Steps(FRAMES[0], 1, precision), []
        steps.classifier.eval()
        for how in ("auto", "torch"):
            with kernels(how), interpreted():
                logits.append(steps.forward().double())
        return {"relative difference": float((logits[0] - logits[1]).norm() / logits[1].norm())}

    def profiled():
        return profile(Steps(FRAMES[0], BATCH, "bf16"))

    for precision in DTYPES:
        report.row(f"{BATCH} clips, {precision}", partial(whole, precision, "auto", BATCH), 10)
        report.row(f"logits, {precision}", partial(difference, precision), 10)
    # With one clip the GPU is done first: a step takes as long as the CPU takes to launch it.
    report.row("1 clip, bf16", partial(whole, "bf16", "auto", 1), 10)
    report.row(f"{BATCH} clips, bf16, profile", profiled, 15)
    for precision in DTYPES:
        report.row(f"{BATCH} clips, {precision}, torch", partial(whole, precision, "torch", BATCH), 30)


def frames(report):
    """The batch is such that all rows have as many patches."""

    def whole(count, batch, grad_checkpoint):
        steps = Steps(count, batch, "bf16", grad_checkpoint)
        return steps.time(forward=False, budget=1.0, least=3)

    for count in FRAMES:
        batch = max(1, BATCH * FRAMES[0] // count)
        for grad_checkpoint in (False, True):
            name = f"{batch} clips of {count} frames" + ", grad_checkpoint" * grad_checkpoint
            report.row(name, partial(whole, count, batch, grad_checkpoint), 10)


def videomae(report):
    """16 frames in tubes of two, which are as many patches as 8 frames of VideoMamba; all weights train."""
    if importlib.util.find_spec("transformers") is None:
        print("  transformers is not installed")
        return

    def whole(precision):
        from transformers import VideoMAEConfig, VideoMAEForVideoClassification

        tiny = (
            {"image_size": 16, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
            if DRY
            else {}
        )
        config = VideoMAEConfig(num_frames=2 * FRAMES[0], num_labels=51, **tiny)
        peer = VideoMAEForVideoClassification(config).to(DEVICE)
        clip = draw(BATCH, config.num_frames, 3, config.image_size, config.image_size)
        labels = torch.zeros(BATCH, dtype=torch.long, device=DEVICE)
        optimizer = torch.optim.AdamW(peer.parameters(), lr=1e-4, fused=True)

        def loss():
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16"):
                return F.cross_entropy(peer(clip).logits.float(), labels)

        def step():
            loss().backward()
            optimizer.step()
            optimizer.zero_grad()

        with torch.inference_mode(), exact_float32(DEVICE):
            peer.eval()
            forward = timed(loss, budget=1.0)
        peer.train()
        release()
        with exact_float32(DEVICE):
            time_of_step = timed(step, budget=1.0)
        return {"forward": forward, "step": time_of_step, "peak GB": peak()}

    for precision in DTYPES:
        report.row(f"{BATCH} clips, {precision}", partial(whole, precision), 10)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("device.json"))
    parser.add_argument("--seconds", type=float, default=300.0, help="the run ends after about so long")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--dry", action="store_true", help="tiny, on a CPU, so that a slip is seen there")
    parser.add_argument("--job", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        for name in args.job:
            print(json.dumps(job(name)), flush=True)
        return 0
    if not DRY and not torch.cuda.is_available():
        parser.error("there is no GPU; --dry runs everything, tiny, on a CPU")
    report = Report(args.out, args.seconds)
    print(", ".join(f"{name} {x}" for name, x in report.data["machine"].items()))
    works = (ceilings, correctness, scan_times, around, model, frames, videomae)
    for stage, work in zip(STAGES, works, strict=True):
        if stage in args.only:
            started, report.stage = time.monotonic(), stage
            print(f"{stage}", flush=True)
            work(report)
            print(f"  ({time.monotonic() - started:.1f} s)", flush=True)
    if report.failed:
        print(f"failed: {', '.join(report.failed)}")
    return int(bool(report.failed))


if __name__ == "__main__":
    sys.exit(main())
