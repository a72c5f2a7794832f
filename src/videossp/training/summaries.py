"""A plan and a finished run as text and as figures."""

from dataclasses import fields
from typing import Any

from videossp.classifier import Classifier
from videossp.training.config import TrainConfig
from videossp.training.plan import Plan
from videossp.training.run import Run


def plan_lines(classifier: Classifier, plan: Plan, config: TrainConfig) -> list[str]:
    """The plan as it is printed before a run."""
    tuned = sum(x.numel() for x in classifier.trainable().values())
    whole = sum(x.numel() for x in classifier.parameters())
    usual = TrainConfig()
    changed = {
        x.name: getattr(config, x.name)
        for x in fields(config)
        if x.name in ("num_sample", "rand_augment", "erasing", "mixup", "cutmix", "layer_decay")
        and getattr(config, x.name) != getattr(usual, x.name)
    }
    lines = [
        f"{classifier.source.name} + {classifier.method}: {tuned:,} of {whole:,} weights train",
        f"{len(plan.training)} videos to train, {len(plan.validation)} to validate ({plan.held_out}), "
        f"{len(classifier.classes)} classes, {config.epochs} epochs of {plan.steps_per_epoch} steps, "
        f"mirror images {'on' if plan.flip else 'off'}",
    ]
    clip_format = classifier.clip_format
    if clip_format.sampling != "uniform" or clip_format.views != (1, 1):
        views = "{} x {}".format(*clip_format.views)
        lines.append(
            f"{clip_format.frames} frames, {clip_format.sampling}; test views (segments x crops) {views}"
        )
    rule = f" = {config.lr:g} x {plan.clips_per_step} clips per step / 256" if config.scale_lr else ""
    lines.append(f"learning rate {plan.lr:.3g}{rule}")
    if changed:
        lines.append(", ".join(f"{name} {value}" for name, value in changed.items()))
    return lines + [f"note: {x}" for x in plan.warnings]


def plan_summary(classifier: Classifier, plan: Plan, config: TrainConfig) -> dict[str, Any]:
    """The plan as figures."""
    return {
        "backbone": classifier.source.weights or classifier.source.name,
        "method": classifier.method,
        "tuned_parameters": sum(x.numel() for x in classifier.trainable().values()),
        "parameters": sum(x.numel() for x in classifier.parameters()),
        "classes": len(classifier.classes),
        "training_videos": len(plan.training),
        "validation_videos": len(plan.validation),
        "epochs": config.epochs,
        "steps_per_epoch": plan.steps_per_epoch,
        "steps": plan.steps_per_epoch * config.epochs,
        "clips_per_step": plan.clips_per_step,
        "lr": plan.lr,
        "min_lr": plan.min_lr,
        "warmup_epochs": config.warmup_epochs,
        "views": "{} x {}".format(*classifier.clip_format.views),
    }


def run_summary(classifier: Classifier, run: Run) -> dict[str, str]:
    """What came of a training, as the table that ends it and its page say it."""
    best, skipped, validation = run.best, run.history[-1]["skipped_steps"], run.validation
    tuned, whole = (
        sum(x.numel() for x in xs) for xs in (classifier.trainable().values(), classifier.parameters())
    )
    clips = sum(row["seconds"] / row["seconds_per_clip"] for row in run.history)
    return {
        "backbone": classifier.source.weights or classifier.source.name,
        "method": classifier.method,
        "weights": f"{tuned:,} of {whole:,} trained",
        "best epoch": f"{best['epoch']} of {len(run.history)}, chosen on validation",
        "validation": f"top-1 {100 * best['val_top1']:.1f} %, mean class accuracy "
        f"{100 * best['val_mean_class_accuracy']:.1f} % on {len(validation.samples)} videos",
        "time": f"{run.seconds:.0f} s without validation, {run.seconds / clips:.2g} s a clip, "
        f"{100 * run.data_wait:.0f} % of it waiting for clips",
        **({"steps skipped": f"{skipped}, not finite"} if skipped else {}),
        **({"videos not decoded": ", ".join(run.failures)} if run.failures else {}),
    }


def some(names: tuple[str, ...], most: int = 10) -> str:
    """Names for a message, not more than fit."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
