"""Flags that several verbs share, and the values that follow from them; heavy imports inside."""

import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from videossp.cli.arguments import Arguments, before_separator, members
from videossp.cli.options import add_option, add_options, group_of
from videossp.cli.output import print_message

if TYPE_CHECKING:
    import torch
    from jsonargparse import ArgumentParser, Namespace

    from videossp.classifier import Classifier
    from videossp.data.datasets import VideoDataset
    from videossp.model.config import VideoMambaConfig

BACKBONE = "videomamba_nano"  # by default
DEVICES = "auto|cpu|cuda|cuda:N|mps"
READING = {  # arguments of `read_data`
    "format": "annotation format",
    "fold": "published split, split_N of lists, column fold",
    "videos": "folder of the videos, if not beside the annotation",
}
CREATING = {  # arguments of `Classifier.create`, but for method and options
    "backbone": "a published name (videossp backbones), a file, a hub id, or "
    "videomamba_nano|tiny|small|middle|base",
    "weights": "for videomamba_SIZE: name, file, hub id or random",
    "frames": "frames per clip [the backbone's]",
    "size": "N or [HEIGHT,WIDTH] in pixels [the backbone's]",
    "sampling": "which frames make a clip",
    "stride": "frames from one to the next in dense sampling",
    "views": "[segments,crops] of a test video",
    "drop_path": "stochastic depth of the backbone",
    "dropout": "dropout before the head",
}
TRAINING = {  # fields of `TrainConfig`, by group
    "data": {"on_error": "if a video cannot be decoded"},
    "optimisation": {
        "epochs": "passes over the training videos",
        "batch_size": "videos per batch",
        "grad_accum_steps": "batches per optimiser step",
        "drop_last": "skip the incomplete last step",
        "lr": "peak learning rate of AdamW",
        "min_lr": "learning rate at start and end",
        "scale_lr": "multiply rates by clips per step / 256",
        "warmup_epochs": "linear warm-up; a cosine follows",
        "weight_decay": "weight decay of AdamW, on matrices only",
        "layer_decay": "learning-rate factor per block, from the head downwards",
        "balance": "count each class the same",
        "label_smoothing": "target spread over all classes",
        "max_grad_norm": "clip the gradient norm; 0: off",
        "ema_decay": "moving average of the weights; 0: off",
        "max_skipped": "most steps to skip as not finite",
        "seed": "of all random numbers",
    },
    "augmentation": {
        "num_sample": "clips per video and step",
        "fixed_augmentations": "augmentations per video; 0: new in each epoch",
        "features": "cache of frozen features [in the user's cache]",
        "features_limit": "largest size of this cache in GB",
        "crop_scale": "fraction of the frame in a random crop",
        "flip": "mirror clips; auto: not if a class names a side",
        "rand_augment": "timm's notation, as rand-m7-n4-mstd0.5-inc1",
        "erasing": "probability of random erasing",
        "mixup": "alpha of Mixup; 0: off",
        "cutmix": "alpha of CutMix; 0: off",
    },
    "validation and checkpoints": {
        "val_fraction": "fraction held out if there is no val split; 0: none, keep the last epoch",
        "select_on": "split that selects the best epoch",
        "calibrate": "fit a temperature on validation",
        "save_minutes": "minutes between checkpoints",
    },
    "hardware": {
        "device": DEVICES,
        "precision": "of matrix products [float32; on CUDA bf16]",
        "grad_checkpoint": "recompute activations: half the memory",
        "workers": "decoding processes [0; on a GPU cores - 1]",
        "timeout": "time limit of a worker process in seconds",
    },
    "output": {"trackers": "trackers of accelerate, e.g. tensorboard"},
}


def add_data(parser: "ArgumentParser") -> None:
    """The data set and how it is read."""
    from videossp.data.datasets import read_data

    group = group_of(parser, "data")
    group.add_argument(
        "dataset",
        type=str,
        nargs="?",
        metavar="DATA",
        help="FOLDER/CLASS/VIDEO, FOLDER/{train,val,test}/CLASS/VIDEO, or an annotation (docs/data.md)",
    )
    add_option(group, "data", str, "the same as DATA, for config files")
    add_options(group, read_data, READING, names=READING)


def add_adapter(parser: "ArgumentParser", *, views: bool = True) -> None:
    """A trained adapter, and how its clips are read and computed.

    Args:
        parser: of the verb.
        views: whether to add the flags for the number of views.
    """
    from videossp.model.precision import Precision

    group = group_of(parser, "adapter")
    group.add_argument("adapter", type=str, metavar="ADAPTER", help="adapter folder or run folder")
    add_option(group, "backbone", str, "weights of the backbone, if they have moved")
    if views:
        add_option(group, "segments", int | None, "clips per video", shown="the adapter's")
        add_option(group, "crops", int | None, "crops per clip", shown="the adapter's")
    add_option(group, "precision", Precision | None, "of matrix products", shown="that of the training")
    add_device(group)


def add_device(group: Any) -> None:
    """The device of a verb that computes."""
    add_option(group, "device", str, DEVICES, default="auto")


def device_of(args: "Namespace") -> "torch.device":
    """The device that --device names, checked before anything is read; a message names it if it is no CPU."""
    from videossp.model.device import choose_device, describe

    device = choose_device(args.device)
    if device.type != "cpu":
        print_message(f"device {describe(device)}")
    if device.type == "mps":
        print_message(
            "videossp has no kernels for mps: plain torch is slow there, --device cpu may be faster"
        )
    return device


def add_training(
    parser: "ArgumentParser",
    given: Arguments,
    methods: Sequence[str],
    *,
    out: str,
    skip: Collection[str] = (),
) -> None:
    """The flags of verbs that train, by group; those of methods for the given ones only.

    Args:
        parser: of the verb.
        given: the command line; help shows the defaults for the backbone that it names.
        methods: methods, and chains of them joined by +, whose options are added.
        out: help of --out.
        skip: fields of `TrainConfig` for which the verb has a flag of another type.

    Raises:
        ValueError: an unknown method, or options of a method that is not among them.
    """
    from videossp.classifier import Classifier
    from videossp.training.config import TrainConfig

    add_data(parser)
    group = group_of(parser, "backbone")
    add_option(group, "backbone", str, CREATING["backbone"], default=BACKBONE)
    add_options(group, Classifier.create, CREATING, names=CREATING.keys() - {"backbone"})
    add_option(group_of(parser, "method"), "config", str, "flags from a file, or a bundled recipe")
    check_methods(given, methods)
    for name in members(methods):
        add_method(parser, name, given)
    rate = {"lr": shown_rate(given, methods)}
    for title, texts in TRAINING.items():
        add_options(group_of(parser, title), TrainConfig, texts, names=texts.keys() - {*skip}, shown=rate)
    known = {name for texts in TRAINING.values() for name in texts}
    group = group_of(parser, "output")
    add_options(group, TrainConfig, skip=known)
    add_option(group, "out", str, out)


def add_method(parser: "ArgumentParser", name: str, given: Arguments) -> None:
    """The options of a method, --NAME.OPTION."""
    from videossp.methods import find_method, resolve_options

    method = find_method(name)
    config, *options = inspect.signature(method).parameters
    group = group_of(parser, f"options of {name}")
    if not options:
        group.description = "none"
    backbone = named_backbone(given)
    shown = None if backbone is None else resolve_options(name, backbone, {})
    add_options(group, method, skip={config}, prefix=f"{name}.", shown=shown, suppress=True)


def named_backbone(given: Arguments) -> "VideoMambaConfig | None":
    """The sizes of the backbone that a command line names; None for a checkpoint, which is not read yet."""
    from videossp.model.config import BACKBONES
    from videossp.model.published_backbones import PUBLISHED_BACKBONES

    name = given.value("backbone") or BACKBONE
    published = PUBLISHED_BACKBONES.get(name)
    return published.sizes if published else BACKBONES.get(name)


def shown_rate(given: Arguments, methods: Sequence[str]) -> str:
    """The default of --lr as help shows it."""
    from videossp.methods import default_lr

    backbone = named_backbone(given)
    if backbone is None or len(methods) != 1:
        return "the method's"
    return f"{default_lr(methods[0], backbone):g} for {methods[0]}"


def check_methods(given: Arguments, methods: Sequence[str]) -> None:
    """Check the names of methods and that options are given for these methods only.

    Options of a config file whose method a flag replaces are removed from its settings, and this is reported.

    Raises:
        ValueError: an unknown method, options of another method, or settings that are no options.
    """
    from videossp.methods import find_method, method_names

    for name in members(methods):
        find_method(name)
    others = {name for name in method_names() if name not in members(methods)}
    flags = [x[2:].partition("=")[0] for x in before_separator(given.flags) if x.startswith("--")]
    replaced = "method" in flags or "methods" in flags
    trained = ", ".join(methods) or "none"
    for name in (x.split(".")[0] for x in flags if "." in x):
        if name in others:
            raise ValueError(f"options of {name} are given, but the method is {trained}")
    for name in list(given.settings):
        if name in others and not replaced:
            raise ValueError(f"options of {name} are in the config file, but the method is {trained}")
        if name in others:
            print_message(f"options of {name} in the config file are not used: the method is {trained}")
        elif name not in members(methods) or isinstance(given.settings[name], Mapping):
            continue
        elif given.settings[name] is not None:
            raise ValueError(f"{name} in the config file must have lines OPTION: VALUE")
        del given.settings[name]


def data_of(args: "Namespace", least_classes: int = 2) -> "VideoDataset":
    """The data set that the flags name; it must have at least `least_classes` classes."""
    from videossp.data.datasets import read_data

    return read_data(data_path(args), **chosen(args, READING), least_classes=least_classes)


def data_path(args: "Namespace") -> str:
    """Path of the data set: DATA, else --data, which a config file can hold."""
    path: str | None = args.dataset or args.data
    if path is None:
        raise ValueError("name the data set: its folder or annotation file")
    return path


def load_adapter(args: "Namespace", device: "torch.device", folder: str | None = None) -> "Classifier":
    """An adapter in the precision it was trained in, or the one of --precision.

    Args:
        args: the flags.
        device: where it computes.
        folder: of the adapter; default: the one that the flags name.
    """
    from videossp.load_adapter import load

    classifier = load(folder or args.adapter, backbone=args.backbone).to(device)
    trained = classifier.precision
    if args.precision not in (None, trained):
        print_message(
            f"trained with --precision {trained}, computed with {args.precision}: results may differ slightly"
        )
    return classifier.to_precision(args.precision or trained)


def views_of(args: "Namespace", classifier: "Classifier") -> tuple[int, int]:
    """(segments, crops) per video: the adapter's, unless the flags give others."""
    from videossp.data.sampling import check_views

    usual = classifier.clip_format.views
    given = args.segments, args.crops
    views = tuple(y if x is None else x for x, y in zip(given, usual, strict=True))
    check_views(classifier.clip_format, *views)
    if views != usual:
        print_message("views (segments x crops) {} x {}; the adapter's are {} x {}".format(*views, *usual))
    return views[0], views[1]


def options_of(args: "Namespace", methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By method, the given options as `Classifier.create` takes them; those of a chain are nested by name."""
    given = {name: dict(args[name].items()) if args.get(name) else {} for name in members(methods)}
    return {
        method: {name: given[name] for name in method.split("+")} if "+" in method else given[method]
        for method in methods
    }


def chosen(args: "Namespace", names: Iterable[str]) -> dict[str, Any]:
    """The arguments of these names."""
    return {name: args[name] for name in names}
