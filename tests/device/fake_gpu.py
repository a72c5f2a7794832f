"""A GPU without values: tensors on it have shape, dtype and device, and CUDA's autocast rules apply to it.

torch lets Python register a device type of its own, here "gpu", and `FakeTensorMode` computes shapes instead
of values. Operations on tensors of two devices fail there as they do on a GPU. `Watch` records whatever would
make the CPU wait for the GPU, and every tensor that is made on the CPU.

A registration holds for the whole process, so only child processes import this file. Run as a script, it
reads cases of `run` as a JSON list from stdin, and prints the faults of each as a JSON list of lists.
"""

import itertools
import json
import re
import sys
import traceback
from collections import Counter, defaultdict
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import videossp
from videossp.classifier import Classifier
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Tuner
from videossp.ops import dispatch, exact_float32

NAME = "gpu"
PACKAGE = str(Path(videossp.__file__).parent)
OPERATORS = ("selective_scan", "conv_silu", "gate", "add_norm")  # with kernels of Triton
PRODUCTS = {"addmm", "linear", "mm"}  # without those inside attention, which differ by device
# What reads values of a tensor on the CPU, or needs them to know the size of its result.
WAITS = {
    "_local_scalar_dense",
    "_unique2",
    "allclose",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}


class _Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]


def autocast_lists():
    """The operators of CUDA's autocast by policy, from the headers that torch is installed with."""
    header = Path(torch.__file__).parent / "include/ATen/autocast_mode.h"
    macros = re.findall(r"#define AT_FORALL_(\w+)\(_\)((?:.*\\\n)*.*\n)", header.read_text())
    lists = {
        name: [".".join(x.split(", ")) for x in re.findall(r"_\(([\w, ]+)\)", text)] for name, text in macros
    }
    return {name: lists[name] for name in ("LOWER_PRECISION_FP", "FP32", "FP32_SET_OPT_DTYPE", "PROMOTE")}


def _eligible(x):
    return (
        isinstance(x, torch.Tensor)
        and x.device.type == NAME
        and x.is_floating_point()
        and x.dtype != torch.float64
    )


def _cast(x, dtype):
    if isinstance(x, list | tuple):
        return type(x)(_cast(y, dtype) for y in x)
    return x.to(dtype) if _eligible(x) else x


def _autocast_kernel(operator, policy):
    """An operator as autocast calls it, at::autocast::WrapFunction_."""
    schema = [x.name for x in operator._schema.arguments]

    def call(*args, **kwargs):
        with torch._C._ExcludeDispatchKeyGuard(
            torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
        ):
            if policy == "FP32_SET_OPT_DTYPE":
                place = schema.index("dtype")
                given = kwargs.get("dtype") if len(args) <= place else args[place]
                if _eligible(args[0]) and given is None:
                    return operator(*args[:place], **kwargs | {"dtype": torch.float32})
                return operator(*args, **kwargs)
            dtype = torch.float32
            if policy == "LOWER_PRECISION_FP":
                dtype = torch.get_autocast_dtype(NAME)
            elif policy == "PROMOTE":
                flat = itertools.chain(*(x if isinstance(x, list | tuple) else [x] for x in args))
                wide = any(_eligible(x) and x.dtype == torch.float32 for x in flat)
                dtype = torch.float32 if wide else torch.get_autocast_dtype(NAME)
            return operator(*_cast(args, dtype), **{name: _cast(x, dtype) for name, x in kwargs.items()})

    return call


def _register():
    """Register the device, and CUDA's autocast rules for it. Returns the libraries, which must stay alive."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    others = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")
    others.fallback(torch.library.fallthrough_kernel)
    library = torch.library.Library("aten", "IMPL", "AutocastPrivateUse1")
    for policy, names in autocast_lists().items():
        for name in names:
            packet, _, overload = name.partition(".")
            operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
            library.impl(name, _autocast_kernel(operator, policy))
    return others, library


def _address(x):
    """Different for tensors of different memory, which the null pointers of fake tensors are not."""
    return x.untyped_storage()._cdata + x.storage_offset() * x.itemsize


_libraries = _register()
DEVICE = torch.device(NAME, 0)


@contextmanager
def fake_gpu(kernels=True):
    """A context in which tensors can be made on `DEVICE`.

    Args:
        kernels: take the operators whose kernels are Triton's on a GPU, as where Triton can be used; else
            plain torch.
    """
    devices = (*dispatch.TRITON_DEVICES, NAME) if kernels else dispatch.TRITON_DEVICES
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        mock.patch.object(dispatch, "TRITON_DEVICES", devices),
        mock.patch.object(dispatch, "triton_is_usable", lambda: True),
        mock.patch.object(exact_float32, "TF32_DEVICES", (NAME,)),
        mock.patch.object(FakeTensor, "data_ptr", _address, create=True),
    ):
        yield


def move(module):
    """Replace parameters and buffers of a module by those of the fake device; call it within `fake_gpu`."""
    for part in module.modules():
        for name, x in part._parameters.items():
            if x is not None:
                empty = torch.empty(x.shape, dtype=x.dtype, device=DEVICE)
                part._parameters[name] = torch.nn.Parameter(empty, requires_grad=x.requires_grad)
        for name, x in part._buffers.items():
            if x is not None:
                part._buffers[name] = torch.empty(x.shape, dtype=x.dtype, device=DEVICE)
    return module


class Watch(TorchDispatchMode):
    """Records what the operations within do that a training step on a GPU must not.

    Attributes:
        waits: how often the CPU would wait for the device, by operation and place in the package.
        on_cpu: how often a tensor was made on the CPU, by operation and place.
        operators: how often each operator was called, by name.
        products: dtypes of the results of matrix products, by place.
        outputs: devices and dtypes of the results of the package's operators, by name.
    """

    def __init__(self):
        super().__init__()
        self.waits, self.on_cpu, self.operators = Counter(), Counter(), Counter()
        self.products, self.outputs = defaultdict(set), defaultdict(set)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        namespace, name = function._schema.name.split("::")
        self.operators[name] += 1
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)]
        if any(x.device.type == NAME for x in tensors) and waits(function, args, kwargs):
            self.waits[f"{name} at {place()}"] += 1
        out = function(*args, **kwargs)
        made = [x for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
        for x in made:
            if x.device.type == "cpu":
                self.on_cpu[f"{name} {tuple(x.shape)} at {place()}"] += 1
        blocking = name in ("_to_copy", "copy_") and not (kwargs.get("non_blocking") or True in args[2:])
        if blocking and tensors[-1].device != made[0].device:
            self.waits[f"copy from {tensors[-1].device} to {made[0].device} at {place()}"] += 1
        if name in PRODUCTS:
            self.products[place()].add(made[0].dtype)
        if namespace == "videossp":
            self.outputs[name].add(tuple((x.device, x.dtype) for x in made))
        return out


def waits(function, args, kwargs):
    """Whether the CPU needs values of the GPU for this operator, such as those that give a size."""
    name = function._schema.name.split("::")[1]
    if name in ("index", "index_put", "index_put_", "_unsafe_index"):  # with a mask
        return any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1])
    if name == "repeat_interleave":
        return function._overloadname != "self_int" and kwargs.get("output_size") is None
    return name in WAITS


def place():
    """File and line of the package that calls the running operation; "backward" where autograd calls it."""
    frame = sys._getframe(1)
    while frame:
        if frame.f_code.co_filename.startswith(PACKAGE):
            return f"{frame.f_code.co_filename[len(PACKAGE) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "backward"


def faults_of(watch):
    """What a watch saw that must not be, as lines of text."""
    faults = [f"waits: {x}, {count} times" for x, count in watch.waits.items()]
    return faults + [f"on the CPU: {x}, {count} times" for x, count in watch.on_cpu.items()]


def misplaced(**tensors):
    """Those of some tensors that are not float32 on the device, as lines of text."""
    wrong = {name: x for name, x in tensors.items() if (x.device, x.dtype) != (DEVICE, torch.float32)}
    return [f"{name} is {x.dtype} on {x.device}" for name, x in wrong.items()]


def misrounded(watch, precision):
    """Scans whose state is not float32, and products of another precision than promised."""
    faults = []
    for _, state in watch.outputs.get("selective_scan", ()):
        if state != (DEVICE, torch.float32):
            faults.append(f"the state of the scan is {state[1]} on {state[0]}")
    for where, dtypes in watch.products.items():
        # The head is float32. In the backward, so are the gradients of products whose operands were.
        float32 = precision == "float32" or where.startswith("model/head.py")
        if where != "backward" and dtypes != {torch.float32 if float32 else torch.bfloat16}:
            faults.append(f"product at {where}: {', '.join(map(str, dtypes))}")
    return faults


def train(classifier, clip):
    """Faults of a training step: forward, backward, clipped gradient norm, fused AdamW."""
    watch, labels = Watch(), torch.zeros(len(clip), dtype=torch.long, device=DEVICE)
    trained = classifier.trainable()
    optimizer = torch.optim.AdamW(trained.values(), fused=True)
    with watch:
        logits = classifier.train()(clip)
        F.cross_entropy(logits, labels).backward()
        gradients = {name: x.grad for name, x in trained.items() if x.grad is not None}
        norm = torch.nn.utils.get_total_norm(gradients.values())
        torch.nn.utils.clip_grads_with_norm_(trained.values(), 1.0, norm)
        optimizer.step()
    faults = [f"no gradient: {name}" for name in trained if name not in gradients]
    faults += misplaced(logits=logits, norm=norm, **trained)
    faults += misplaced(**{f"gradient of {name}": x for name, x in gradients.items()})
    if not watch.operators["_fused_adamw_"]:
        faults.append("no optimiser step")
    if clip.ndim > 3 and dispatch.scan_kernel(DEVICE, clip.dtype) == "triton":
        needed = [
            *OPERATORS,
            *(f"{x}_backward" for x in OPERATORS if classifier.tuner.depends_on == "blocks"),
        ]
        faults += [f"no operator {x}" for x in needed if not watch.operators[x]]
    return faults + faults_of(watch) + misrounded(watch, classifier.precision)


def evaluate(classifier, clip, context=torch.inference_mode):
    """Faults of a forward pass."""
    watch = Watch()
    with watch, context():
        logits = classifier.eval()(clip)
    return misplaced(logits=logits) + faults_of(watch) + misrounded(watch, classifier.precision)


class Planted(Tuner):
    """Does something to the tokens before the first block that must be found."""

    def __init__(self, config, fault: str = ""):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(config.d_model))
        self.unused = torch.nn.Parameter(torch.zeros(1)) if fault == "a weight without a gradient" else None
        self.do = {
            "a value read": lambda x: x * float(x.sum()),
            "a copy": lambda x: x + x.mean((0, 1)).cpu().to(x.device),
            "a copy in the backward": self.copy_gradient,
            "a mask": lambda x: x + x[x > 0].sum(),
            "a tensor made on the CPU": lambda x: x * torch.ones(()),
            "a tensor of the CPU": lambda x: x + torch.ones(x.shape[-1]),
            "a product in float32": self.multiply,
        }.get(fault, lambda x: x)

    @staticmethod
    def copy_gradient(x):
        x.register_hook(lambda dx: dx.cpu().to(dx.device))
        return x

    @staticmethod
    def multiply(x):
        with torch.autocast(NAME, enabled=False):
            return x + F.linear(x.float(), x.new_ones(x.shape[-1], x.shape[-1], dtype=torch.float32))

    def edit_tokens(self, layer, tokens):
        changed = tokens.part("patches") + self.weight
        return tokens.write(patches=self.do(changed) if layer == 0 else changed)


def run(method, precision="float32", kinds=("train",), depth=2, **options):
    """The faults of a classifier that does some things one after the other.

    Args:
        method: name, or names joined by +, or "planted".
        precision: float32 or bf16.
        kinds: train; checkpoint: train with grad_checkpoint; torch: train without kernels of Triton;
            infer and predict: a forward pass with inference_mode, with no_grad; features: train and predict
            with those of the frozen backbone; disabled: without the adapter; merge, then a forward pass.
        depth: of the backbone.
        options: of the method.

    Returns:
        Lines of text that begin with the kind. An error ends the case and is its last line.
    """
    config = VideoMambaConfig(depth=depth, d_model=64, frames=3, size=(32, 32), d_state=8)
    planted = Planted if method == "planted" else method
    settings = {"num_classes": 5, "drop_path": 0.2, "dropout": 0.1}
    classifier = Classifier.create(config, method=planted, **settings, **options).to_precision(precision)
    faults, kind = [], ""
    with fake_gpu():
        move(classifier)
    for kind in kinds:
        try:
            with fake_gpu(kernels=kind != "torch"):
                classifier.backbone.grad_checkpoint = kind == "checkpoint"
                found = do(classifier, kind, torch.randn(2, 3, 3, 32, 32, device=DEVICE))
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            inside = [f"{x.filename[len(PACKAGE) + 1 :]}:{x.lineno}" for x in frames if PACKAGE in x.filename]
            message = str(error).splitlines()[0][:300]
            return [*faults, f"{kind}: {type(error).__name__}: {message}, at {' < '.join(inside[::-1])}"]
        faults += [f"{kind}: {x}" for x in found]
    return faults


def do(classifier, kind, clip):
    """The faults of one kind, see `run`."""
    if kind in ("train", "checkpoint", "torch"):
        return train(classifier, clip)
    if kind == "features":
        with torch.no_grad():
            features = classifier.eval().frozen_features(clip)
        return train(classifier, features) + evaluate(classifier, features)
    if kind == "disabled":
        with classifier.disable_adapter():
            return evaluate(classifier, clip)
    if kind == "merge":
        classifier.merge()
    return evaluate(classifier, clip, torch.no_grad if kind == "predict" else torch.inference_mode)


if __name__ == "__main__":
    found = [run(method, **case) for method, case in json.load(sys.stdin)]
    json.dump(found, sys.stdout)
