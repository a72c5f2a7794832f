"""`Loop`: a training under way, step by step."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from videossp.classifier import Classifier
from videossp.data.augment import mix, parse_rand_augment, soft_targets
from videossp.data.clips import TrainClips
from videossp.errors import DataError, DivergedError, WorkerLostError
from videossp.inference.evaluate import evaluate
from videossp.system.process import give_back_memory
from videossp.system.progress import Messages
from videossp.training.batches import Batch, Share, collate, shares_of
from videossp.training.config import TrainConfig
from videossp.training.distributed import ProcessGroup
from videossp.training.faults import first_not_finite, lost_told, memory_told
from videossp.training.feature_cache import FeatureCache, Features, cache_folder
from videossp.training.optimizer import learning_rate, parameter_groups
from videossp.training.plan import Plan
from videossp.training.settings import settings_of
from videossp.training.signals import GracefulStop
from videossp.training.state import TrainState


class Loop:
    """Trains a classifier. What step k does depends on the state after step k - 1 alone.

    So nothing random is kept: the order of an epoch, the augmentation of a clip and what a batch drops or
    mixes are drawn anew from (seed, epoch, video) or (seed, step, batch). The batches of a step are divided
    among the processes; its gradient is the mean over all clips, in whatever batch and process they were.

    Attributes:
        state: all that its steps change.
        settings: what the state belongs to.
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
        self.team = ProcessGroup(accelerator)
        self.team.share(list(classifier.trainable().values()))
        self.optimizer = torch.optim.AdamW(parameter_groups(classifier, plan, config), lr=plan.lr)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.factor = learning_rate(plan, config)
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
        self.cache: FeatureCache | None = None
        if config.fixed_augmentations and classifier.tuner.depends_on != "blocks":
            folder = Path(config.features) if config.features else cache_folder()
            if config.mixup or config.cutmix:
                raise ValueError("draws keeps features, but mixup and cutmix mix pixels: leave one out")
            wait = accelerator.wait_for_everyone
            self.cache = FeatureCache(classifier, folder, messages, workers=config.workers, wait=wait)
        self.state = TrainState(classifier, self.optimizer, bool(config.ema_decay))
        self.settings = settings_of(classifier, plan, config)
        self._saved_at = time.monotonic()
        self._oddity = ""

    def run(self, save: Callable[[], None]) -> None:
        """From where it stands to the end of the last epoch; saved whatever ends it.

        Args:
            save: writes `state`. Only the first process calls it.

        Raises:
            KeyboardInterrupt: a signal asked for an end.
            DataError: a video cannot be decoded (on_error "error"), or none can.
            DivergedError: more than `max_skipped` steps were not finite, or the validation.
            RuntimeError: too little memory.
            WorkerLostError: a process that decodes, or another one of the training.
        """
        self._write = save if self.accelerator.is_main_process else lambda: None
        size = self.config.batch_size
        levers = f"smaller --batch-size (now {size}) or --frames, or --grad-checkpoint true, need less"
        with GracefulStop() as stop:
            try:
                with lost_told(), memory_told(levers):
                    self.team.agree({"step": self.state.step, **self.settings})
                    for epoch in range(len(self.state.history), self.config.epochs):
                        self.train_epoch(epoch, stop)
                        self.save()
                        self._end_if_asked(stop)
                        self.validate(epoch, stop)
                        self.save()
            except BaseException as error:
                if not self.state.whole:
                    self.messages.say("ended within an update: the last checkpoint stands")
                else:
                    self.optimizer.zero_grad()
                    try:
                        self.save()
                    except Exception as fault:  # what ended the training is to be told, not this
                        self.messages.say(f"the state cannot be saved: {str(fault) or type(fault).__name__}")
                if stop.asked and isinstance(
                    error, WorkerLostError
                ):  # who signals a whole group ends what is lost, too
                    raise KeyboardInterrupt from error
                raise

    def save(self) -> None:
        """Write the state, if this process is the one that writes."""
        self._write()
        self._saved_at = time.monotonic()

    def train_epoch(self, epoch: int, stop: GracefulStop) -> None:
        """The steps of an epoch that are not done yet."""
        state, team, self._oddity = self.state, self.team, ""
        first = state.step - epoch * self.plan.steps_per_epoch
        shares = shares_of(epoch, self.plan, self.config, team.rank, team.size)[first:]
        self.clips.epoch = epoch
        started = time.monotonic()
        clips: TrainClips | Features = self.clips
        if self.cache:
            with stop.at_once():  # what was kept before stays
                clips = self.cache.of(self.clips, team.rank, team.size)
        state.under_way["seconds"] += time.monotonic() - started
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
            state.under_way[time_of] += time.monotonic() - started
        title, whole = f"epoch {epoch + 1}/{self.config.epochs}", self.plan.steps_per_epoch
        every = whole * self.config.epochs - state.step
        for share in self.messages.bar(shares, title, first, whole, every):
            started = time.monotonic()
            try:
                self.one_step(epoch, share, batches)
            finally:
                state.under_way["seconds"] += time.monotonic() - started
            self._end_if_asked(stop)
            if time.monotonic() - self._saved_at > 60 * self.config.save_minutes:
                self.save()
        if state.under_way["clips"]:
            return
        state.begin_again(epoch * self.plan.steps_per_epoch)  # so that a run that goes on tries it once more
        if self._oddity:
            raise DivergedError(f"{self._oddity}; no step of the epoch was finite; {self._advice()}")
        raise DataError(f"none of the {len(self.plan.training)} training videos can be decoded")

    def one_step(self, epoch: int, share: Share, batches: Iterator[Batch]) -> None:
        """One optimiser step on the clips of a share; skipped if something is not finite."""
        config, state = self.config, self.state
        total, clips, odd = 0.0, 0, ""
        unread: dict[str, str] = {}
        for number, _ in share.batches:
            started = time.monotonic()
            batch = next(batches)
            state.under_way["waited"] += time.monotonic() - started
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
        total, done, odds, news = self.team.sum(total, clips, bool(odd), len(unread))
        if news:
            self.note_unread(unread)
        if odds:
            odd = next(x for x in self.team.from_all(odd) if x)
        elif done:
            odd = self.gather_gradients(share.clips / done)
        if odd:
            self.count_skipped(epoch, odd)
        with state.changing():
            if odd:
                state.skipped += 1
            elif done:
                factor = self.factor(state.step)
                for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
                    group["lr"] = peak * factor
                self.optimizer.step()
                for name, x in state.average.items():
                    x.lerp_(state.tuned[name].detach(), 1 - config.ema_decay)
                state.under_way["loss"] += total
                state.under_way["clips"] += done
            self.optimizer.zero_grad()
            state.step += 1

    def note_unread(self, unread: Mapping[str, str]) -> None:
        """Note what videos of a step could not be decoded, in whatever process, or end the training."""
        for part in self.team.from_all(unread):
            for name, reason in part.items():
                if self.config.on_error == "error":
                    raise DataError(reason)
                if name not in self.state.failures:
                    self.state.failures[name] = reason
                    self.messages.say(f"skipped: {reason}")

    def loss(self, batch: Batch, number: int) -> Tensor:
        """Mean cross entropy of batch `number` of the step, whose clips are mixed if the config says so."""
        config, device = self.config, self.accelerator.device
        seeds = (config.seed, self.state.step, number)
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
        tuned = self.state.tuned
        self.team.sum_gradients(list(tuned.values()))
        gradients = {name: x.grad for name, x in tuned.items() if x.grad is not None}
        if factor != 1:
            for gradient in gradients.values():
                gradient.mul_(factor)
        norm = nn.utils.get_total_norm(gradients.values())
        if not torch.isfinite(norm):
            odd = [name for name, x in gradients.items() if not x.isfinite().all()]
            return f"the gradient of {odd[0] if odd else 'all weights together'}"
        if self.config.max_grad_norm:
            nn.utils.clip_grads_with_norm_(tuned.values(), self.config.max_grad_norm, norm)
        return ""

    def count_skipped(self, epoch: int, reason: str) -> None:
        """Say that a step is left out, or end the training if that is one too many."""
        count = self.state.skipped + 1
        self._oddity = line = f"step {self.state.step + 1} (epoch {epoch + 1}): not finite: {reason}"
        if count > self.config.max_skipped:
            were = "step was" if count == 1 else "steps were"
            raise DivergedError(f"{line}; {count} {were} not finite; {self._advice()}")
        self.messages.say(f"{line}; skipped ({count} of at most {self.config.max_skipped})")

    def _advice(self) -> str:
        return f"a smaller --lr (now {self.config.lr:g}) or --clip-grad 1 may help"

    def validate(self, epoch: int, stop: GracefulStop) -> None:
        """Evaluate the weights of the epoch, and keep them if they are the best so far."""
        config, state, sums = self.config, self.state, self.state.under_way
        try:
            with state.standing_in(state.average), stop.at_once():  # it can be done again
                result = evaluate(
                    self.classifier,
                    self.plan.validation,
                    segments=1,
                    crops=1,
                    workers=config.workers,
                    on_error=config.on_error,
                    progress=self.messages.on,
                    through=self.cache.of if self.cache else None,
                )
        except FloatingPointError as error:
            raise DivergedError(f"epoch {epoch + 1}: validation has {error}; {self._advice()}") from error
        if len(result.failures) == len(self.plan.validation):
            raise DataError(f"none of the {len(self.plan.validation)} validation videos can be decoded")
        row = {
            "epoch": epoch + 1,
            "loss": sums["loss"] / sums["clips"],
            "val_top1": result.top(1),
            "val_mean_class_accuracy": result.mean_class_accuracy,
            "val_loss": result.loss,
            "lr": self.plan.lr * self.factor(state.step - 1),
            "skipped_steps": state.skipped,
            "seconds": sums["seconds"],
            "seconds_per_clip": sums["seconds"] / sums["clips"],
            "data_wait": sums["waited"] / sums["seconds"],
        }
        best = state.end_epoch(row, result)
        self.messages.say(
            f"epoch {epoch + 1}/{config.epochs}: loss {row['loss']:.3f}, validation top-1 "
            f"{100 * row['val_top1']:.1f} % (best {100 * best['val_top1']:.1f} %, epoch "
            f"{best['epoch']}), {row['seconds']:.1f} s"
        )
        self.accelerator.log({name: x for name, x in row.items() if name != "epoch"}, step=epoch + 1)

    def _end_if_asked(self, stop: GracefulStop) -> None:
        """All processes end after the same step, whichever got the signal."""
        if self.team.sum(stop.asked)[0]:
            raise KeyboardInterrupt
