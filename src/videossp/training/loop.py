"""`Loop`: the steps, validations and checkpoints of a training."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader

from videossp.classifier import Classifier
from videossp.data.augment import parse_rand_augment
from videossp.data.clips import TrainClips
from videossp.errors import DataError, DivergedError, WorkerLostError
from videossp.inference.evaluate import Evaluation, evaluate
from videossp.model.device import default_workers, peak_memory, reads_late
from videossp.system.lost_processes import explain_lost_processes
from videossp.system.process import give_back_memory
from videossp.system.progress import Messages
from videossp.system.warn import warn
from videossp.training.batches import Batch, Share, collate, shares_of
from videossp.training.config import TrainConfig
from videossp.training.distributed import ProcessGroup
from videossp.training.faults import explain_memory_errors, first_not_finite, is_finite
from videossp.training.feature_cache import FeatureCache, Features, cache_folder
from videossp.training.optimizer import parameter_groups
from videossp.training.outcome import Outcome
from videossp.training.plan import Plan, caches_features
from videossp.training.settings import settings_of
from videossp.training.signals import GracefulStop
from videossp.training.state import TrainState
from videossp.training.train_step import TrainStep


class Loop:
    """Trains a classifier.

    Each step depends only on the state after the previous step. No generator state is saved: the order of an
    epoch, the augmentation of a clip, and dropout and mixing of a batch are drawn from (seed, epoch, video)
    or (seed, step, batch). The batches of a step are divided among the processes; its gradient is the mean
    over all clips, whichever batch and process they are in.

    Args:
        classifier: changed in place.
        plan: videos, steps and learning rate.
        config: settings with a learning rate.
        accelerator: processes and trackers; the device is that of the classifier.
        messages: prints progress.

    Attributes:
        state: everything that the steps change.
        train_step: computes a step.
        settings: the settings that the state belongs to.
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
        self.accelerator, self.messages, self.device = accelerator, messages, classifier.device
        self.group = ProcessGroup(accelerator)
        self.group.broadcast(list(classifier.trainable().values()))
        self.late = reads_late(self.device)
        groups = parameter_groups(classifier, plan, config)
        optimizer = torch.optim.AdamW(groups, lr=plan.lr, fused=True if self.late else None)
        self.clips = TrainClips(
            plan.training,
            classifier.clip_format,
            crop_scale=config.crop_scale,
            flip=plan.flip,
            seed=config.seed,
            num_sample=config.num_sample,
            rand_augment=parse_rand_augment(config.rand_augment) if config.rand_augment else None,
            erasing=config.erasing,
            fixed_augmentations=config.fixed_augmentations,
        )
        self.workers = default_workers(self.device) if config.workers is None else config.workers
        self.cache = self._make_cache()
        if self.cache and config.workers is None:
            self.workers = 0  # features are read from their files faster than processes start, in each epoch
        # Erasing draws its noise for normalised clips, and features are those of finished clips.
        self.clips.unfinished = self.late and not self.cache and not config.erasing
        fits = config.calibrate and config.select_on != "test"  # never on the test split
        self.state = TrainState(classifier, optimizer, bool(config.ema_decay), fits)
        self.train_step = TrainStep(classifier, plan, config, self.state, self.group, self.late)
        self.settings = settings_of(classifier, plan, config)
        self._saved_at = time.monotonic()
        self._last_not_finite = ""
        self._pending: Outcome | None = None
        self._gpu_memory = 0.0

    def _make_cache(self) -> FeatureCache | None:
        """The feature cache, if augmentations repeat and the method reads the backbone's output only."""
        config = self.config
        if not caches_features(config, self.classifier):
            return None
        return FeatureCache(
            self.classifier,
            Path(config.features) if config.features else cache_folder(),
            self.messages,
            workers=self.workers,
            timeout=config.timeout,
            wait=self.group.wait,
        )

    def run(self, save: Callable[[], None], resumable: bool) -> None:
        """Train from the current state to the end of the last epoch.

        The state is saved even if training ends with an error.

        Args:
            save: writes `state`. Only the first process calls it.
            resumable: whether `save` writes a checkpoint; then errors advise to resume.

        Raises:
            KeyboardInterrupt: SIGTERM or Ctrl-C.
            DataError: a video cannot be decoded (on_error "error"), or none of them can.
            DivergedError: more than `max_skipped` steps, or the validation, were not finite.
            OutOfMemoryError: too little memory.
            WorkerLostError: a worker process or another process of the training is gone.
        """
        self._write = save if self.accelerator.is_main_process else lambda: None
        size, bf16 = self.config.batch_size, self.classifier.precision == "bf16"
        advice = f"smaller --batch-size (now {size}) or --frames need less"
        if not self.config.grad_checkpoint:
            advice = f"smaller --batch-size (now {size}) or --frames, or --grad-checkpoint true, need less"
        if self.device.type == "cuda" and not bf16:
            advice += ", and so does --precision bf16"
        with GracefulStop() as stop:
            try:
                with explain_lost_processes(resumable), explain_memory_errors(advice, self.device):
                    self.group.check_agreement({"step": self.state.step, **self.settings})
                    for epoch in range(len(self.state.history), self.config.epochs):
                        self.train_epoch(epoch, stop)
                        self.save()
                        self._end_if_asked(stop)
                        self.end_epoch(epoch, stop)
                        self.save()
            except BaseException as error:
                self._save_after_fault()
                # A signal to a whole process group kills the worker processes as well.
                if stop.asked and isinstance(error, WorkerLostError):
                    raise KeyboardInterrupt from error
                raise
        if self.cache and self.accelerator.is_main_process:
            self.cache.prune(self.config.features_limit)

    def save(self) -> None:
        """Write the state, if this is the process that writes."""
        self.settle()
        self._write()
        self._saved_at = time.monotonic()

    def _save_after_fault(self) -> None:
        """Save the state if it is consistent.

        If saving fails, report it and let the original error propagate.
        """
        if not self.state.consistent:
            self.messages.say("interrupted during an update; the last checkpoint is kept")
            return
        self.state.optimizer.zero_grad()
        try:
            with suppress(DivergedError):  # the step is counted; the error that ends the training is another
                self.settle()
            self.save()
        except Exception as error:
            self.messages.say(f"the checkpoint cannot be written: {str(error) or type(error).__name__}")

    def train_epoch(self, epoch: int, stop: GracefulStop) -> None:
        """Do the remaining steps of an epoch."""
        state, config, self._last_not_finite = self.state, self.config, ""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        per_epoch = self.plan.steps_per_epoch
        first = state.step - epoch * per_epoch
        shares = shares_of(epoch, self.plan, config, self.group.rank, self.group.size)[first:]
        batches = self._start_loader(epoch, shares, stop)
        title = f"epoch {epoch + 1}/{config.epochs}"
        for share in self.messages.bar(shares, title, first, per_epoch, self.plan.steps - state.step):
            started = time.monotonic()
            try:
                self.one_step(epoch, share, batches)
            finally:
                state.epoch_sums["seconds"] += time.monotonic() - started
            self._end_if_asked(stop)
            if time.monotonic() - self._saved_at > 60 * config.save_minutes:
                self.save()
        started = time.monotonic()
        self.settle()
        state.epoch_sums["seconds"] += time.monotonic() - started
        if self.device.type == "cuda":
            self._gpu_memory = peak_memory(self.device)  # before a validation, which takes what is free
        if state.epoch_sums["clips"]:
            return
        state.restart_epoch(epoch * per_epoch)  # so that a resumed run tries it again
        if self._last_not_finite:
            raise DivergedError(f"{self._last_not_finite}; no step of the epoch was finite; {self._advice()}")
        raise DataError(f"none of the {len(self.plan.training)} training videos can be decoded")

    def _start_loader(self, epoch: int, shares: list[Share], stop: GracefulStop) -> Iterator[Batch]:
        """Start to load the batches of some steps: clips, or features of the cache."""
        sums, batches = self.state.epoch_sums, [indices for share in shares for _, indices in share.batches]
        workers = min(self.workers, len(batches)) if self.config.workers is None else self.workers
        self.clips.epoch = epoch
        started = time.monotonic()
        clips: TrainClips | Features = self.clips
        if self.cache:
            with stop.at_once():  # computed features are on disk already
                clips = self.cache.of(self.clips, self.group.rank, self.group.size)
        self._items = clips
        sums["seconds"] += time.monotonic() - started
        loader = DataLoader(
            clips,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=collate,
            timeout=self.config.timeout if workers else 0,
            pin_memory=self.device.type == "cuda",
        )
        self.classifier.train()
        started = time.monotonic()
        if workers:
            give_back_memory()
        loaded = iter(loader)
        for name in ("seconds", "waited"):  # the start of worker processes counts as waiting for clips
            sums[name] += time.monotonic() - started
        return loaded

    def one_step(self, epoch: int, share: Share, batches: Iterator[Batch]) -> None:
        """Do one optimiser step, or skip it if a loss or gradient is not finite.

        On a GPU this function only queues the step. Its figures are read by the next step, or by `settle`.
        """
        losses, sizes, indices, unreadable = self._accumulate(share, batches)
        self.settle()  # the device has this step to compute while the figures of the last one are read
        done, failures = self.group.sum(sum(sizes), len(unreadable))
        if failures:
            self.note_unreadable(unreadable)
        state, outcome, problem = self.state, None, ""
        if done:
            names, norms = self.train_step.gradients(share.clips / done)
            skip, total = self.train_step.figures(norms, losses, sizes)
            outcome = Outcome(state.step, epoch, int(done), losses, indices, names, norms, skip, total)
        if outcome and not self.late:
            problem = self._problem(outcome)
            if problem:
                self.report_skipped(outcome, problem, state.skipped + 1)
        with state.updating():
            if outcome and not problem:
                self.train_step.update(outcome.skip)
            if self.late:
                self._pending = outcome
            elif outcome:
                self._count(outcome, problem)
            state.optimizer.zero_grad()
            state.step += 1

    def _accumulate(
        self, share: Share, batches: Iterator[Batch]
    ) -> tuple[list[Tensor], list[int], list[list[int]], dict[str, str]]:
        """Forward and backward passes of a share.

        Returns:
            For each batch its mean loss, number of clips and videos; reason by name of each video that could
            not be decoded.
        """
        losses, sizes, videos = [], [], []
        unreadable: dict[str, str] = {}
        for number, indices in share.batches:
            started = time.monotonic()
            batch = next(batches)
            self.state.epoch_sums["waited"] += time.monotonic() - started
            unreadable |= batch.unreadable
            if not batch.names or (unreadable and self.config.on_error == "error"):
                continue
            loss = self.train_step.loss(batch, number)
            (loss * (len(batch.labels) / share.clips)).backward()
            losses.append(loss.detach())
            sizes.append(len(batch.labels))
            videos.append(indices)
        return losses, sizes, videos, unreadable

    def settle(self) -> None:
        """Read the figures of the last step, if the device has not yet given them.

        Raises:
            DivergedError: the step was not finite, and it was one too many.
        """
        outcome = self._pending
        if outcome is None:
            return
        problem = self._problem(outcome)
        with self.state.updating():
            self._pending = None
            self._count(outcome, problem)
        if problem:
            self.report_skipped(outcome, problem, self.state.skipped)

    def _count(self, outcome: Outcome, problem: str) -> None:
        """Add a step to the sums of its epoch, or to the skipped ones."""
        if problem:
            self.state.skipped += 1
            return
        self.state.epoch_sums["loss"] += outcome.total
        self.state.epoch_sums["clips"] += outcome.clips

    def _problem(self, outcome: Outcome) -> str:
        """The first tensor of a step that is not finite, in any process; "" if all are finite."""
        if outcome.finite:
            return ""
        text = ""
        if outcome.bad_batch is not None:
            batch = collate([self._items[i] for i in outcome.bad_batch])
            clips = self.train_step.clips_of(batch) if batch.names else None
            tensor = "the loss" if clips is None else first_not_finite(self.classifier, clips)
            text = f"{tensor}, with {', '.join(batch.names)}"
        elif outcome.bad_gradient is not None:
            text = f"the gradient of {outcome.bad_gradient}"
        return next((x for x in self.group.gather(text) if x), "the gradient of all weights together")

    def note_unreadable(self, unreadable: Mapping[str, str]) -> None:
        """Note the videos of a step that some process could not decode, or end the training."""
        for part in self.group.gather(unreadable):
            for name, reason in part.items():
                if self.config.on_error == "error":
                    raise DataError(reason)
                if name not in self.state.failures:
                    self.state.failures[name] = reason
                    self._warn(f"skipped: {reason}")

    def report_skipped(self, outcome: Outcome, reason: str, count: int) -> None:
        """Warn that a step is skipped, or stop the training if more than `max_skipped` steps were skipped."""
        limit = self.config.max_skipped
        step = f"step {outcome.step + 1} (epoch {outcome.epoch + 1})"
        self._last_not_finite = line = f"{step}: not finite: {reason}"
        if count > limit:
            steps = "step was" if count == 1 else "steps were"
            raise DivergedError(f"{line}; {count} {steps} not finite; {self._advice()}")
        self._warn(f"{line}; skipped ({count} of at most {limit})")

    def _advice(self) -> str:
        return f"a smaller --lr (now {self.config.lr:g}) or --max-grad-norm 1 may help"

    def _warn(self, text: str) -> None:
        """Warn in the main process only."""
        if self.accelerator.is_main_process:
            warn(text)

    def validate(self, epoch: int, stop: GracefulStop) -> Evaluation:
        """Evaluate the weights of the epoch on the validation videos."""
        config, state = self.config, self.state
        try:
            with state.using(state.average), stop.at_once():  # an evaluation can be repeated
                result = evaluate(
                    self.classifier,
                    self.plan.validation,
                    segments=1,
                    crops=1,
                    workers=self.workers,
                    timeout=config.timeout,
                    on_error=config.on_error,
                    progress=self.messages.on,
                    through=self.cache.of if self.cache else None,
                )
        except FloatingPointError as error:
            raise DivergedError(f"epoch {epoch + 1}, validation: {error}; {self._advice()}") from error
        if len(result.failures) == len(self.plan.validation):
            raise DataError(f"none of the {len(self.plan.validation)} validation videos can be decoded")
        for name, reason in result.failures.items():
            if name not in state.failures:
                self._warn(f"counted as wrong in validation: {reason}")
        return result

    def end_epoch(self, epoch: int, stop: GracefulStop) -> None:
        """Validate the weights of the epoch, and keep them if they are the best so far.

        Without validation videos they are kept: those of the last epoch remain.
        """
        config, state, sums = self.config, self.state, self.state.epoch_sums
        if self.plan.validation:
            result = self.validate(epoch, stop)
        else:
            result = None
            self._check_weights(epoch)
        row = {
            "epoch": epoch + 1,
            "loss": sums["loss"] / sums["clips"],
            "val_top1": result.top(1) if result else None,
            "val_mean_class_accuracy": result.mean_class_accuracy if result else None,
            "val_loss": result.loss if result else None,
            "lr": self.plan.lr * self.plan.rate_factor(state.step - 1),
            "skipped_steps": state.skipped,
            "seconds": sums["seconds"],
            "seconds_per_clip": sums["seconds"] / sums["clips"],
            "data_wait": sums["waited"] / sums["seconds"],
        }
        if self.device.type == "cuda":
            row["gpu_memory_gb"] = self._gpu_memory
        best = state.end_epoch(row, result)
        validated = ""
        if result:
            validated = (
                f"validation top-1 {100 * result.top(1):.1f} % (best {100 * best['val_top1']:.1f} %, epoch "
                f"{best['epoch']}), "
            )
        self.messages.say(
            f"epoch {epoch + 1}/{config.epochs}: loss {row['loss']:.3f}, {validated}{row['seconds']:.1f} s"
        )
        figures = {name: x for name, x in row.items() if name != "epoch" and x is not None}
        self.accelerator.log(figures, step=epoch + 1)

    def _check_weights(self, epoch: int) -> None:
        """End the training if the weights of an epoch are not finite, which a validation would notice."""
        for name, x in (self.state.average or self.state.parameters).items():
            if not is_finite(x):
                raise DivergedError(f"epoch {epoch + 1}: not finite: {name}; {self._advice()}")

    def _end_if_asked(self, stop: GracefulStop) -> None:
        """End all processes after the same step, whichever received the signal."""
        if self.group.sum(stop.asked)[0]:
            raise KeyboardInterrupt
