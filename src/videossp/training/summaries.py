"""Plans and finished runs as lines of text and as tables of figures."""

from dataclasses import fields
from typing import Any

import torch

from videossp.classifier import Classifier
from videossp.inference.evaluate import Evaluation
from videossp.methods import default_lr, lr_source
from videossp.model.device import describe
from videossp.training.config import TrainConfig
from videossp.training.plan import Plan
from videossp.training.run import Run

# Shown in a plan only where they differ from the default.
SPECIAL = ("num_sample", "rand_augment", "erasing", "mixup", "cutmix", "layer_decay")


def plan_lines(classifier: Classifier, plan: Plan, config: TrainConfig, device: torch.device) -> list[str]:
    """A plan as it is printed before a run; without its warnings."""
    trained, total = parameter_counts(classifier)
    validation = f"{len(plan.validation)} validation videos ({plan.validation_source})"
    if not plan.validation:
        validation = "no validation videos"
    lines = [
        f"{classifier.source.name} + {classifier.method}: {trained:,} of {total:,} parameters are trainable",
        f"{len(plan.training)} training videos, {validation}, {len(classifier.classes)} classes, "
        f"{config.epochs} epochs "
        f"of {plan.steps_per_epoch} steps, horizontal flip {'on' if plan.flip else 'off'}",
    ]
    clip_format = classifier.clip_format
    if clip_format.sampling != "uniform" or clip_format.views != (1, 1):
        views = "{} x {}".format(*clip_format.views)
        lines.append(
            f"{clip_format.frames} frames, {clip_format.sampling}; test views (segments x crops) {views}"
        )
    rule = f" = {config.lr:g} x {plan.clips_per_step} clips per step / 256" if config.scale_lr else ""
    method, sizes = classifier.unregistered or classifier.method, classifier.backbone.config
    source = f" (default: {lr_source(method, sizes)})" if config.lr == default_lr(method, sizes) else ""
    lines.append(f"learning rate {plan.lr:.3g}{rule}{source}")
    if device.type != "cpu":
        slow = ", which has no fast kernels here: slow" * (device.type == "mps")
        lines.append(f"device {describe(device)}{slow}; matrix products in {config.precision}")
    usual = {x.name: x.default for x in fields(config)}
    changed = {name: getattr(config, name) for name in SPECIAL if getattr(config, name) != usual[name]}
    if changed:
        lines.append(", ".join(f"{name} {value}" for name, value in changed.items()))
    return lines + [f"note: {x}" for x in plan.notes]


def plan_summary(classifier: Classifier, plan: Plan, config: TrainConfig) -> dict[str, Any]:
    """A plan as figures."""
    trained, total = parameter_counts(classifier)
    return {
        "backbone": classifier.source.weights or classifier.source.name,
        "method": classifier.method,
        "tuned_parameters": trained,
        "parameters": total,
        "classes": len(classifier.classes),
        "training_videos": len(plan.training),
        "validation_videos": len(plan.validation),
        "epochs": config.epochs,
        "steps_per_epoch": plan.steps_per_epoch,
        "steps": plan.steps,
        "clips_per_step": plan.clips_per_step,
        "lr": plan.lr,
        "min_lr": plan.min_lr,
        "warmup_epochs": config.warmup_epochs,
        "views": "{} x {}".format(*classifier.clip_format.views),
        "warnings": [*classifier.warnings, *plan.warnings],
    }


def run_summary(classifier: Classifier, run: Run) -> dict[str, str]:
    """The result of a training, for the table that ends it and for its report."""
    best, skipped, validation = run.best, run.history[-1]["skipped_steps"], run.validation
    without = " without validation" if validation else ""
    trained, total = parameter_counts(classifier)
    clips = sum(row["seconds"] / row["seconds_per_clip"] for row in run.history)
    kept = {"epoch kept": f"{best['epoch']} of {len(run.history)}, the last: no validation"}
    if validation:
        kept = {
            "best epoch": f"{best['epoch']} of {len(run.history)}, selected on validation",
            "validation": f"top-1 {100 * best['val_top1']:.1f} %, mean class accuracy "
            f"{100 * best['val_mean_class_accuracy']:.1f} % on {len(validation.samples)} videos",
            **calibration_line(classifier, validation),
        }
    return {
        "backbone": classifier.source.weights or classifier.source.name,
        "method": classifier.method,
        "weights": f"{trained:,} of {total:,} trained",
        **kept,
        "time": f"{run.seconds:.0f} s{without}, {run.seconds / clips:.2g} s per clip, "
        f"{100 * run.data_wait:.0f} % of it waiting for clips",
        **({"GPU memory": f"{run.gpu_memory:.1f} GB at most"} if run.gpu_memory else {}),
        **({"steps skipped": f"{skipped}, not finite"} if skipped else {}),
        **({"videos not decoded": ", ".join(run.failures)} if run.failures else {}),
    }


def calibration_line(classifier: Classifier, validation: Evaluation) -> dict[str, str]:
    """Temperature and calibration error on validation; nothing if none of its videos could be decoded."""
    if (error := validation.reliability.error) is None:
        return {}
    temperature = classifier.head.temperature
    source = "not fitted" if temperature == 1 else f"temperature {temperature:.3g}, fitted on them"
    return {"calibration error": f"{100 * error:.1f} % on validation ({source})"}


def parameter_counts(classifier: Classifier) -> tuple[int, int]:
    """Numbers of trainable and of all parameters."""
    trained = sum(x.numel() for x in classifier.trainable().values())
    return trained, sum(x.numel() for x in classifier.parameters())
