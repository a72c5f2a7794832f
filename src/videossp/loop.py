"""`Loop`: a training under way, step by step; everything that its steps change, which a checkpoint holds."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as distributed
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from videossp.augment import mix, parse_rand_augment, soft_targets
from videossp.batches import Batch, Share, collate, shares_of
from videossp.classifier import Classifier, place
from videossp.clips import TrainClips
from videossp.datasets import Sample
from videossp.evaluate import Evaluation, evaluate
from videossp.faults import Diverged, Lost, first_not_finite, lost_told, memory_told
from videossp.features import FeatureCache, Features, cache_folder
from videossp.messages import Messages
from videossp.optimizer import learning_rate, parameter_groups
from videossp.plan import Plan, TrainConfig
from videossp.process import give_back_memory
from videossp.stop import StopAsked
from videossp.video import DataError


class Loop:
    """Trains a classifier. What step k does depends on the state after step k - 1 alone.

    So nothing random is kept: the order of an epoch, the augmentation of a clip and what a batch drops or
    mixes are drawn anew from (seed, epoch, video) or (seed, step, batch). The batches of a step are divided
    among the processes; its gradient is the mean over all clips, in whatever batch and process they were.

    Attributes:
        step: optimiser steps done, those that were skipped counted as well.
        history: one row of figures for each epoch that was validated.
        best, kept, best_weights: the row, the evaluation and the tuned tensors of the best of them.
        failures: reason by name of each video that could not be decoded.
        skipped: steps left out because something was not finite.
        average: the moving average of the tuned tensors, if there is one.
        under_way: sums over the epoch so far.
    """

    def __init__(
        self,
        classifier: Classifier,
        plan: Plan,
        config: TrainConfig,
        accelerator: Accelerator,
        messages: Messages,
    ) -> None:
        self.classifier, self.plan, self.config = classifier, plan, config
        self.accelerator, self.messages = accelerator, messages
        self.tuned: dict[str, nn.Parameter] = classifier.tuned()
        if accelerator.num_processes > 1:
            for x in self.tuned.values():
                distributed.broadcast(x.data, 0)
        self.optimizer = torch.optim.AdamW(parameter_groups(classifier, plan, config), lr=plan.lr)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.factor = learning_rate(plan, config)
        self.clips = TrainClips(
            plan.training,
            classifier.form,
            scale=config.scale,
            flip=plan.flip,
            seed=config.seed,
            num_sample=config.num_sample,
            rand_augment=parse_rand_augment(config.rand_augment) if config.rand_augment else None,
            erasing=config.erasing,
            draws=config.draws,
        )
        self.cache: FeatureCache | None = None
        if config.draws and classifier.tuner.depends_on != "blocks":
            folder = Path(config.features) if config.features else cache_folder()
            if config.mixup or config.cutmix:
                raise ValueError("draws keeps features, but mixup and cutmix mix pixels: leave one out")
            wait = accelerator.wait_for_everyone
            self.cache = FeatureCache(classifier, folder, messages, workers=config.workers, wait=wait)
        self.average = {name: x.detach().clone() for name, x in self.tuned.items()} if config.ema else {}
        self.step = self.skipped = 0
        self.history: list[dict[str, Any]] = []
        self.failures: dict[str, str] = {}
        self.best: dict[str, Any] | None = None
        self.kept: Evaluation | None = None
        self.best_weights: dict[str, Tensor] = {}
        self.under_way = self._nothing()
        self._saved_at = time.monotonic()
        self._updating = False
        self._oddity = ""

    @staticmethod
    def _nothing() -> dict[str, float]:
        return dict.fromkeys(("loss", "clips", "seconds", "waited"), 0.0)

    def run(self, save: Callable[[], None]) -> None:
        """From where it stands to the end of the last epoch; saved whatever ends it.

        Args:
            save: writes `state`. Only the first process calls it.

        Raises:
            KeyboardInterrupt: a signal asked for an end.
            DataError: a video cannot be decoded (on_error "error"), or none can.
            Diverged: more than `max_skipped` steps were not finite, or the validation.
            RuntimeError: too little memory.
            Lost: a process that decodes, or another one of the training.
        """
        self._write = save if self.accelerator.is_main_process else lambda: None
        size = self.config.batch_size
        levers = f"smaller --batch-size (now {size}) or --frames, or --grad-checkpoint true, need less"
        with StopAsked() as stop:
            try:
                with lost_told(), memory_told(levers):
                    self._stand_together()
                    for epoch in range(len(self.history), self.config.epochs):
                        self.train_epoch(epoch, stop)
                        self.save()
                        self._end_if_asked(stop)
                        self.validate(epoch, stop)
                        self.save()
            except BaseException as error:
                if self._updating:
                    self.messages.say("ended within an update: the last checkpoint stands")
                else:
                    self.optimizer.zero_grad()
                    try:
                        self.save()
                    except Exception as fault:  # what ended the training is to be told, not this
                        self.messages.say(f"the state cannot be saved: {str(fault) or type(fault).__name__}")
                if stop.asked and isinstance(error, Lost):  # who signals a whole group ends what is lost, too
                    raise KeyboardInterrupt from error
                raise

    def save(self) -> None:
        """Write the state, if this process is the one that writes."""
        self._write()
        self._saved_at = time.monotonic()

    def train_epoch(self, epoch: int, stop: StopAsked) -> None:
        """The steps of an epoch that are not done yet."""
        first = self.step - epoch * self.plan.steps_per_epoch
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        shares = shares_of(epoch, self.plan, self.config, rank, processes)[first:]
        self.clips.epoch = epoch
        started = time.monotonic()
        clips: TrainClips | Features = self.clips
        if self.cache:
            with stop.at_once():  # what was kept before stays
                clips = self.cache.of(self.clips, rank, processes)
        self.under_way["seconds"] += time.monotonic() - started
        loader = DataLoader(
            clips,
            batch_sampler=[indices for share in shares for _, indices in share.batches],
            num_workers=self.config.workers,
            collate_fn=collate,
            timeout=self.config.timeout if self.config.workers else 0,
        )
        self.classifier.train()
        started = time.monotonic()
        if self.config.workers:
            give_back_memory()
        batches = iter(loader)
        for time_of in ("seconds", "waited"):  # to start processes is to wait for clips
            self.under_way[time_of] += time.monotonic() - started
        title, whole = f"epoch {epoch + 1}/{self.config.epochs}", self.plan.steps_per_epoch
        every = whole * self.config.epochs - self.step
        for share in self.messages.bar(shares, title, first, whole, every):
            started = time.monotonic()
            try:
                self.one_step(epoch, share, batches)
            finally:
                self.under_way["seconds"] += time.monotonic() - started
            self._end_if_asked(stop)
            if time.monotonic() - self._saved_at > 60 * self.config.save_minutes:
                self.save()
        if not self.under_way["clips"] and self.skipped:
            raise Diverged(f"{self._oddity}; no step of the epoch was finite; {self._advice()}")
        if not self.under_way["clips"]:
            raise DataError(f"none of the {len(self.plan.training)} training videos can be decoded")

    def one_step(self, epoch: int, share: Share, batches: Iterator[Batch]) -> None:
        """One optimiser step on the clips of a share; skipped if something is not finite."""
        config = self.config
        total, clips, odd = 0.0, 0, ""
        unread: dict[str, str] = {}
        for number, _ in share.batches:
            started = time.monotonic()
            batch = next(batches)
            self.under_way["waited"] += time.monotonic() - started
            unread |= batch.broken
            if not batch.names or odd or (unread and config.on_error == "error"):
                continue
            loss = self.loss(batch, number)
            if torch.isfinite(loss):
                (loss * (len(batch.labels) / share.clips)).backward()
                total, clips = total + loss.item() * len(batch.labels), clips + len(batch.labels)
            else:
                what = first_not_finite(self.classifier, batch.clips.to(self.accelerator.device))
                odd = f"{what}, with {', '.join(batch.names)}"
        total, done, odds, news = self._sum(total, clips, bool(odd), len(unread))
        if news:
            self.note_unread(unread)
        if odds:
            odd = next(x for x in self._from_all(odd) if x)
        elif done:
            odd = self.gather_gradients(share.clips / done)
        if odd:
            self.count_skipped(epoch, odd)
        self._updating = True
        if odd:
            self.skipped += 1
        elif done:
            factor = self.factor(self.step)
            for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
                group["lr"] = peak * factor
            self.optimizer.step()
            for name, x in self.average.items():
                x.lerp_(self.tuned[name].detach(), 1 - config.ema)
            self.under_way["loss"] += total
            self.under_way["clips"] += done
        self.optimizer.zero_grad()
        self.step += 1
        self._updating = False

    def note_unread(self, unread: Mapping[str, str]) -> None:
        """Note what videos of a step could not be decoded, in whatever process, or end the training."""
        for part in self._from_all(unread):
            for name, reason in part.items():
                if self.config.on_error == "error":
                    raise DataError(reason)
                if name not in self.failures:
                    self.failures[name] = reason
                    self.messages.say(f"skipped: {reason}")

    def loss(self, batch: Batch, number: int) -> Tensor:
        """Mean cross entropy of batch `number` of the step, whose clips are mixed if the config says so."""
        config, device = self.config, self.accelerator.device
        seeds = (config.seed, self.step, number)
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0] >> 1))
        clips, labels = batch.clips.to(device), batch.labels.to(device)
        if not config.mixup and not config.cutmix:
            smoothing = config.label_smoothing
            return nn.functional.cross_entropy(self.classifier(clips), labels, label_smoothing=smoothing)
        targets = soft_targets(labels, len(self.classifier.classes), config.label_smoothing)
        rng = np.random.default_rng((*seeds, 1))
        clips, targets = mix(clips, targets, config.mixup, config.cutmix, rng)
        return nn.functional.cross_entropy(self.classifier(clips), targets)

    def gather_gradients(self, factor: float) -> str:
        """Sum the gradients over the processes, scale them, clip them; names the first not finite, if any.

        Args:
            factor: clips planned over clips that there were: one that cannot be decoded weakens no step.
        """
        if self.accelerator.num_processes > 1:
            for x in self.tuned.values():
                x.grad = torch.zeros_like(x) if x.grad is None else x.grad
        gradients = {name: x.grad for name, x in self.tuned.items() if x.grad is not None}
        if self.accelerator.num_processes > 1:
            flat = self.accelerator.reduce(torch.cat([x.flatten() for x in gradients.values()]), "sum")
            parts = flat.split([x.numel() for x in gradients.values()])
            for gradient, part in zip(gradients.values(), parts, strict=True):
                gradient.copy_(part.view_as(gradient))
        if factor != 1:
            for gradient in gradients.values():
                gradient.mul_(factor)
        norm = nn.utils.get_total_norm(gradients.values())
        if not torch.isfinite(norm):
            odd = [name for name, x in gradients.items() if not x.isfinite().all()]
            return f"the gradient of {odd[0] if odd else 'all weights together'}"
        if self.config.clip_grad:
            nn.utils.clip_grads_with_norm_(self.tuned.values(), self.config.clip_grad, norm)
        return ""

    def count_skipped(self, epoch: int, reason: str) -> None:
        """Say that a step is left out, or end the training if that is one too many."""
        count = self.skipped + 1
        self._oddity = line = f"step {self.step + 1} (epoch {epoch + 1}): not finite: {reason}"
        if count > self.config.max_skipped:
            were = "step was" if count == 1 else "steps were"
            raise Diverged(f"{line}; {count} {were} not finite; {self._advice()}")
        self.messages.say(f"{line}; skipped ({count} of at most {self.config.max_skipped})")

    def _advice(self) -> str:
        return f"a smaller --lr (now {self.config.lr:g}) or --clip-grad 1 may help"

    def validate(self, epoch: int, stop: StopAsked) -> None:
        """Evaluate the weights of the epoch, and keep them if they are the best so far."""
        config, sums = self.config, self.under_way
        with self.standing_in(self.average), stop.at_once():  # it can be done again
            result = evaluate(
                self.classifier,
                self.plan.validation,
                segments=1,
                crops=1,
                workers=config.workers,
                on_error=config.on_error,
                progress=self.messages.on,
                **({"through": self.cache.of} if self.cache else {}),
            )
        if len(result.failures) == len(self.plan.validation):
            raise DataError(f"none of the {len(self.plan.validation)} validation videos can be decoded")
        if not math.isfinite(result.loss):
            raise Diverged(f"epoch {epoch + 1}: the validation loss is not finite; {self._advice()}")
        row = {
            "epoch": epoch + 1,
            "loss": sums["loss"] / sums["clips"],
            "val_top1": result.top(1),
            "val_mean_class_accuracy": result.mean_class_accuracy,
            "val_loss": result.loss,
            "lr": self.plan.lr * self.factor(self.step - 1),
            "skipped_steps": self.skipped,
            "seconds": sums["seconds"],
            "seconds_per_clip": sums["seconds"] / sums["clips"],
            "data_wait": sums["waited"] / sums["seconds"],
        }
        best = self.best
        self._updating = True
        if best is None or (row["val_top1"], -row["val_loss"]) > (best["val_top1"], -best["val_loss"]):
            self.best = best = row
            self.kept = result
            validated = self.average or self.tuned
            self.best_weights = {name: x.detach().clone() for name, x in validated.items()}
            self.classifier.metrics = {"best_epoch": epoch + 1, "validation": result.summary()}
        self.failures |= result.failures
        self.history.append(row)
        self.under_way = self._nothing()
        self._updating = False
        self.messages.say(
            f"epoch {epoch + 1}/{config.epochs}: loss {row['loss']:.3f}, validation top-1 "
            f"{100 * row['val_top1']:.1f} % (best {100 * best['val_top1']:.1f} %, epoch "
            f"{best['epoch']}), {row['seconds']:.1f} s"
        )
        self.accelerator.log({name: x for name, x in row.items() if name != "epoch"}, step=epoch + 1)

    @contextmanager
    def standing_in(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Other tuned tensors in place of the ones that train, if any are given."""
        if not weights:
            yield
            return
        own = {name: x.detach().clone() for name, x in self.tuned.items()}
        self._updating = True  # what ends the training before its own are back must not save these
        try:
            place(self.classifier, weights)
            yield
        finally:
            place(self.classifier, own)
            self._updating = False

    def _sum(self, *values: float) -> list[float]:
        """Sums over the processes."""
        if self.accelerator.num_processes == 1:
            return list(values)
        mine = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        summed: list[float] = self.accelerator.reduce(mine, "sum").tolist()
        return summed

    def _from_all(self, own: Any) -> list[Any]:
        """What each process has, in the order of the processes."""
        parts = [own] * self.accelerator.num_processes
        if len(parts) > 1:
            distributed.all_gather_object(parts, own)
        return parts

    def _end_if_asked(self, stop: StopAsked) -> None:
        """All processes end after the same step, whichever got the signal."""
        if self._sum(stop.asked)[0]:
            raise KeyboardInterrupt

    def _stand_together(self) -> None:
        """Refuse to train where a process has other videos, settings or steps than the first."""
        first, *others = self._from_all({"step": self.step, **self.settings()})
        for rank, other in enumerate(others, 1):
            odd = [name for name, x in other.items() if x != first[name]]
            if odd:
                raise ValueError(
                    f"process {rank} differs from process 0 in {', '.join(odd)}: "
                    "each must see the same data and run folder"
                )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, facts): all that the steps to come depend on."""
        tensors: dict[str, Tensor] = {f"tuned/{name}": x for name, x in self.tuned.items()}
        tensors |= {f"average/{name}": x for name, x in self.average.items()}
        tensors |= {f"best/{name}": x for name, x in self.best_weights.items()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{i}/{key}": x for key, x in moments.items()}
        facts: dict[str, Any] = {
            "step": self.step,
            "skipped": self.skipped,
            "history": self.history,
            "failures": self.failures,
            "under_way": self.under_way,
            "best_epoch": self.best and self.best["epoch"],
        }
        if self.kept is not None:
            tensors["kept"] = self.kept.view_scores
            facts["kept_failures"] = self.kept.failures
        return tensors, facts

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Stand where a state was taken."""

        def part(kind: str) -> dict[str, Tensor]:
            return {key[len(kind) + 1 :]: x for key, x in tensors.items() if key.startswith(f"{kind}/")}

        place(self.classifier, part("tuned"))
        device = self.accelerator.device
        self.average = {name: x.to(device) for name, x in part("average").items()}
        self.best_weights = part("best")
        moments: dict[int, dict[str, Tensor]] = {}
        for key, x in part("optimizer").items():
            i, _, name = key.partition("/")
            moments.setdefault(int(i), {})[name] = x
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.step, self.skipped = facts["step"], facts["skipped"]
        self.history, self.failures, self.under_way = (facts[x] for x in ("history", "failures", "under_way"))
        if facts["best_epoch"]:
            self.best = self.history[facts["best_epoch"] - 1]
            classes, samples = self.classifier.classes, tuple(self.plan.validation)
            self.kept = Evaluation(classes, samples, tensors["kept"], facts["kept_failures"], (1, 1))
            summary = self.kept.summary()
            self.classifier.metrics = {"best_epoch": facts["best_epoch"], "validation": summary}

    def settings(self) -> dict[str, Any]:
        """What a state belongs to: it may be gone on from only where all of this is the same."""
        free = ("workers", "timeout", "features", "save_minutes", "on_error", "max_skipped", "trackers")
        config = {name: x for name, x in asdict(self.config).items() if name not in free}
        return {
            **config,
            "clips_per_step": self.plan.clips_per_step,
            "method": self.classifier.method,
            "options": self.classifier.options,
            "drop_path": self.classifier.backbone.drop_path,
            "dropout": self.classifier.head.dropout.p,
            "clip": asdict(self.classifier.form),
            "classes": self.classifier.classes,
            "backbone_sha256": self.classifier.sha256,
            "training_videos": fingerprint(self.plan.training),
            "validation_videos": fingerprint(self.plan.validation),
        }


def fingerprint(samples: Sequence[Sample]) -> str:
    """sha256 of names and labels, in order."""
    return hashlib.sha256("\n".join(f"{x.name} {x.label}" for x in samples).encode()).hexdigest()
