"""Compile the Triton kernels for GPUs that need not be there, and report what the compiler made of them.

    python benchmarks/compile_kernels.py [--targets 80 89 90 100 gfx942] [--types bf16 fp32] [--reverse]

Needs no GPU: Triton's wheel has ptxas, cuobjdump and the compiler for AMD. Each kernel is compiled as a
launch on VideoMamba-M would compile it. TRITON_INTERPRET must not be set.
"""

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from videossp.ops import conv_triton, gate_triton, norm_triton, scan_triton
from videossp.ops.scan_cpu import CHUNK

TARGETS = ("80", "89", "90", "100", "gfx942")
TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
GRADIENTS = ("FOR_U", "FOR_DELTA", "FOR_B", "FOR_C", "FOR_A", "FOR_D", "FOR_BIAS", "FOR_H0")
FROZEN = dict.fromkeys(GRADIENTS, False) | dict.fromkeys(GRADIENTS[:4], True)
D_STATE, D_MODEL = 16, 576
SEQUENCES = {"u", "delta", "x", "dy", "y", "du", "ddelta", "du_b", "dx"}
SEQUENCES |= {"y_b", "z", "out", "dout", "total", "dz", "hidden"}
NOT_DIVISIBLE = {"length", "rows", "pitch", "segs", "eps"}  # by 16, as far as a launch knows


def kernels(warp: int, reverse: bool) -> dict[str, tuple[Any, dict[str, Any], int]]:
    """Kernel, constants and warps by name, for this number of threads in a warp and direction of the scan."""
    states = {"N": D_STATE, "NP": D_STATE, "BLOCK": warp, "EVEN": True}
    scan = states | {"REVERSE": reverse, "HAS_BIAS": True}
    walk = scan | {"UNROLL": scan_triton.UNROLL}
    back = scan | {"CHUNK": CHUNK, "SUB": scan_triton.steps_held(D_STATE), "HAS_D": True, "HAS_ENTER": True}
    every = dict.fromkeys(GRADIENTS, True)
    conv = {"BLOCK": 128, "ROWS": conv_triton.ROWS}
    gate = {"BLOCK": 128, "ROWS": gate_triton.ROWS}
    norm = norm_triton._sizes(D_MODEL)
    warps = norm.pop("num_warps")
    for_x = {"FOR_X": True, "FOR_WEIGHT": False, "FOR_BIAS": False}
    norm_back = norm | {"ROWS": norm_triton.ROWS, "HAS_TOTAL": True, "FOR_WEIGHT": False}
    forward = walk | {"CHUNK": CHUNK, "HAS_D": True, "HAS_START": True, "KEEP": True}
    return {
        "pack": (scan_triton.pack_kernel, {"N": D_STATE, "NP": D_STATE, "ROWS": 64}, 4),
        "ends": (scan_triton.ends_kernel, walk | {"BACK": False}, 1),
        "ends, backward": (scan_triton.ends_kernel, walk | {"BACK": True}, 1),
        "carry": (scan_triton.carry_kernel, states | {"BACK": False, "HAS_START": False}, 1),
        "forward": (scan_triton.forward_kernel, forward, 1),
        "backward, frozen weights": (scan_triton.backward_kernel, back | FROZEN, 1),
        "backward, all gradients": (scan_triton.backward_kernel, back | every, 1),
        "convolution": (conv_triton.conv_kernel, conv, 1),
        "convolution, backward": (conv_triton.conv_backward_kernel, conv | for_x, 1),
        "gate": (gate_triton.gate_kernel, gate | {"KEEP": True}, 4),
        "gate, backward": (gate_triton.gate_backward_kernel, gate | {"FOR_Y": True, "FOR_Z": True}, 4),
        "norm": (norm_triton.norm_kernel, norm, warps),
        "norm, backward": (norm_triton.norm_backward_kernel, norm_back, warps),
    }


def type_of(argument: str, name: str, sequence: str) -> str:
    """Triton's type of an argument of a kernel: pointers, strides and sizes."""
    if argument == "eps":
        return "fp32"
    group = name.split(",")[0]
    strides = {"x_b", "x_t", "u_t", "delta_b", "delta_t", "dy_b", "dy_t", "du_t", "du_b_t", "z_t"}
    strides |= {"B_b", "B_t", "B_n", "C_b", "C_t", "C_n"}
    sizes = {"length", "seg_len", "d_inner", "pitch", "segs", "rows", "width"}
    if argument in strides | sizes or (argument == "u_b" and group in ("forward", "backward")):
        return "i32"
    sequences = SEQUENCES | {"u_b"} if group in ("convolution", "gate") else SEQUENCES
    if group == "pack":
        sequences = {"B", "C"}
    if group in ("ends", "carry", "norm"):
        sequences = sequences - {"total"}  # sums of dt; the residual stream
    return f"*{sequence}" if argument in sequences else "*fp32"


def compile_kernel(name: str, target: GPUTarget, sequence: str, reverse: bool) -> Any:
    """A kernel as a launch on VideoMamba-M compiles it: d_inner and the strides are multiples of 16."""
    kernel, constants, warps = kernels(target.warp_size, reverse)[name]
    unaligned = NOT_DIVISIBLE
    if name == "pack":  # slices of x_proj
        unaligned = unaligned | {"B", "C", "B_b", "B_t", "B_n", "C_b", "C_t", "C_n"}
    types = {x: "constexpr" if x in constants else type_of(x, name, sequence) for x in kernel.arg_names}
    divisible = [i for i, x in enumerate(types) if x not in constants and x not in unaligned]
    source = ASTSource(
        fn=kernel,
        signature=types,
        constexprs=dict(constants),
        attrs={(i,): [["tt.divisibility", 16]] for i in divisible},
    )
    return triton.compile(source, target=target, options={"num_warps": warps})


def target_of(text: str) -> GPUTarget:
    """ "90" is NVIDIA's sm_90; "gfx942" AMD's."""
    if text.startswith("gfx"):
        return GPUTarget("hip", text, 64 if text.startswith("gfx9") else 32)
    return GPUTarget("cuda", int(text), 32)


def nvidia_facts(compiled: Any) -> dict[str, int]:
    """Registers, stack (spills), and instructions of a kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = run("cuobjdump", "-res-usage", file.name)
        code = run("nvdisasm", "-c", file.name)
    ptx = compiled.asm["ptx"]
    return {
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),  # type: ignore[index]
        "stack": int(re.search(r"STACK:(\d+)", usage)[1]),  # type: ignore[index]
        "instructions": len(re.findall(r"^\s*/\*[0-9a-f]{4,}\*/\s", code, re.M)),
        "loads": len(re.findall(r"ld\.global", ptx)),
        "loads of 4": len(re.findall(r"ld\.global[^ ]*\.v4", ptx)),
        "exponentials": len(re.findall(r"ex2\.approx", ptx)),
        "shuffles": len(re.findall(r"shfl\.sync", ptx)),
        "barriers": len(re.findall(r"bar\.sync|bar\.warp|barrier\.sync", ptx)),
    }


def amd_facts(compiled: Any) -> dict[str, int]:
    """Registers and stack (spills) of a kernel for AMD."""
    text = compiled.asm["amdgcn"]
    number = {x: int(re.search(rf"\.{x}:\s+(\d+)", text)[1]) for x in ("vgpr_count", "vgpr_spill_count")}  # type: ignore[index]
    return {"registers": number["vgpr_count"], "stack": 4 * number["vgpr_spill_count"]}


def run(tool: str, *arguments: str) -> str:
    """The output of a tool of Triton's wheel."""
    done = subprocess.run([TOOLS / tool, *arguments], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def facts(targets: list[str], types: list[str], reverse: bool, without: list[str]) -> list[dict[str, Any]]:
    """A dictionary for every kernel but those of `without`, target and type of the sequences."""
    found = []
    for text in targets:
        target = target_of(text)
        for sequence in types:
            for name in (x for x in kernels(target.warp_size, reverse) if x not in without):
                compiled = compile_kernel(name, target, sequence, reverse)
                row = {"kernel": name, "target": text, "type": sequence, "shared": compiled.metadata.shared}
                found.append(row | (nvidia_facts if target.backend == "cuda" else amd_facts)(compiled))
    return found


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Registers / stack / shared memory as lines of Markdown, a column per target and type."""
    columns = list(dict.fromkeys((x["target"], x["type"]) for x in rows))
    names = list(dict.fromkeys(x["kernel"] for x in rows))
    cells = {(x["kernel"], x["target"], x["type"]): x for x in rows}
    heads = [("" if x.startswith("gfx") else "sm_") + f"{x}, {sequence}" for x, sequence in columns]
    lines = ["| registers / stack / shared | " + " | ".join(heads) + " |", "| --- " * (len(heads) + 1) + "|"]
    for name in names:
        own = [cells[name, *column] for column in columns]
        lines.append(
            f"| {name} | " + " | ".join("{registers}/{stack}/{shared}".format(**x) for x in own) + " |"
        )
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), help="compute capabilities, gfx names")
    parser.add_argument("--types", nargs="+", default=["bf16"], choices=["bf16", "fp32"])
    parser.add_argument("--reverse", action="store_true", help="scans from the end")
    parser.add_argument("--without", nargs="+", default=[], metavar="KERNEL", help="kernels to leave out")
    parser.add_argument("--json", action="store_true", help="all facts")
    options = parser.parse_args()
    rows = facts(options.targets, options.types, options.reverse, options.without)
    print(json.dumps(rows) if options.json else "\n".join([f"triton {triton.__version__}", "", *table(rows)]))
