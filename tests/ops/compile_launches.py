"""Run the host code of the Triton kernels on CPU tensors, and compile each launch for sm_90, not launch it.

Prints the facts of every launch as JSON. `test_compiled_kernels.py` runs it in a process of its own.
"""

import json
import sys

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from videossp.ops import conv_triton, gate_triton, norm_triton, scan_triton

sys.path.insert(0, sys.argv[1])
import compile_kernels

FROZEN = (True, True, False, True, True, False, False, False)
launches = []


class Driver:
    """An H100 that is not there."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


def compile_only(kernel, grid):
    return lambda *args, **kwargs: launches.append(
        (kernel.__name__, kernel.warmup(*args, grid=grid, **kwargs))
    )


def scan(length, d_inner, d_state, dtype, cut, wanted, h0=False, D=True):
    x_proj = torch.empty(1, length, 36 + 2 * d_state, dtype=dtype)
    u, vector = torch.empty(1, length, d_inner, dtype=dtype), torch.empty(d_inner) if D else None
    B, C = x_proj[..., 36 : 36 + d_state], x_proj[..., 36 + d_state :]
    inputs = [u, u, torch.empty(d_inner, d_state), B, C, vector, vector]
    start = torch.empty(1, d_inner, d_state) if h0 else None
    _, states = scan_triton.scan_forward(*inputs, start, reverse=False, keep_states=True, cut=cut)
    scan_triton.scan_backward(u, *inputs, states, reverse=False, wanted=wanted, cut=cut)


def around(length, width, dtype):
    x, y = (
        torch.empty(1, length, 2 * width, dtype=dtype)[..., :width],
        torch.empty(1, length, width, dtype=dtype),
    )
    taps, bias, total = torch.empty(width, 1, 4), torch.empty(width), torch.empty(1, length, width)
    conv_triton.conv_forward(x, taps, bias, taps, bias)
    conv_triton.conv_backward(y, y, x, taps, bias, taps, bias, (True, False, False))
    gate_triton.gate_forward(y, y, x, keep_total=True)
    gate_triton.gate_backward(y, y, x, (True, True))
    norm_triton.norm_forward(total, y, bias, 1e-5)
    norm_triton.norm_backward(total, y, total, total[..., 0], bias, for_weight=False)


driver.set_active(Driver())
JITFunction.__getitem__ = compile_only
scan(193, 1152, 16, torch.bfloat16, (2, 128), FROZEN)  # a layer of VideoMamba-M
around(70, 1152, torch.bfloat16)
sizes = len(launches)
scan(1, 1, 1, torch.float32, None, (True,) * 8, h0=True)  # sizes of 1 become constants
scan(3, 5, 22, torch.bfloat16, None, (True,) * 8, D=False)
around(1, 1, torch.float32)
around(3, 5, torch.bfloat16)
facts = [
    compile_kernels.nvidia_facts(x) | {"kernel": name, "shared": x.metadata.shared} for name, x in launches
]
json.dump({"VideoMamba-M": facts[:sizes], "others": facts[sizes:]}, sys.stdout)
