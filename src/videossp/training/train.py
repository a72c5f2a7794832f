"""`train`: sets up a run, new or gone on with, and leaves its folder."""

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed

from videossp.classifier import Classifier, load_trainable
from videossp.data.datasets import VideoDataset, read_data
from videossp.system.progress import Messages
from videossp.training.checkpoints import load_state, remove_states, save_state
from videossp.training.config import TrainConfig
from videossp.training.loop import Loop
from videossp.training.plan import make_plan
from videossp.training.run import Run
from videossp.training.run_folder import (
    CHECKPOINTS,
    claim_run,
    make_run_folder,
    refuse_finished,
    write_history,
    write_results,
    write_setup,
)
from videossp.training.settings import check_settings
from videossp.training.summaries import plan_lines, some


def train(
    classifier: Classifier,
    data: str | Path | VideoDataset,
    config: TrainConfig | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> Run:
    """Train the tuned set of a classifier; it ends with the weights of the best epoch on validation.

    Under `torchrun` or `accelerate launch` several processes do it together; each calls this in the same way,
    and the first writes. The batch is that of one process.

    Args:
        classifier: changed in place. Its class names must hold those of the data.
        data: a data set, or its folder or annotation file (`read_data`). Its test split is not read, unless
            `config.select_on` says so.
        config: how.
        out: run folder to write; it must not hold anything yet.
        resume: go on with the run in `out` from its newest checkpoint, to the same weights and figures that
            it would have had without the break (on a CPU with as many threads).
        progress: messages and a bar on stderr.

    Raises:
        DataError: the data cannot be used, or a video cannot be decoded (on_error "error").
        DivergedError: too many steps whose loss or gradient is not finite.
        RuntimeError: too little memory, or a process that decodes is lost.
        KeyboardInterrupt: SIGTERM or Ctrl-C. Whatever ends it, the state is saved before.
    """
    if classifier.merged:
        raise ValueError("a merged classifier cannot be trained; load the adapter again")
    if resume and out is None:
        raise ValueError("resume needs the run folder, out")
    if out is not None:
        classifier.check_saving()
    config = config or TrainConfig()
    samples = data if isinstance(data, VideoDataset) else read_data(data)
    folder = None if out is None else Path(out)
    accelerator = Accelerator(
        log_with=list(config.trackers) or None, project_dir=None if folder is None else str(folder)
    )
    plan = make_plan(samples, classifier.classes, config, accelerator.num_processes)
    messages = Messages(progress and accelerator.is_main_process)
    with ExitStack() as held:
        if folder and accelerator.is_main_process:
            if not resume:
                make_run_folder(folder)
            held.enter_context(claim_run(folder))
        accelerator.wait_for_everyone()
        set_seed(config.seed)
        classifier.backbone.grad_checkpoint = config.grad_checkpoint
        classifier.to(accelerator.device).to_precision(config.precision)

        loop = Loop(classifier, plan, config, accelerator, messages)
        state = loop.state
        written = 0  # the epoch whose weights are in the adapter folder

        def save() -> None:
            nonlocal written
            if folder is None:
                return
            tensors, facts = state.pack()
            if state.best and state.best["epoch"] != written:
                with state.standing_in(state.best_weights):
                    classifier.save(folder / "adapter")
                written = state.best["epoch"]
            write_history(folder, state.history)
            save_state(folder / CHECKPOINTS, state.step, tensors, {**facts, "settings": loop.settings})

        if folder and resume and (found := load_state(folder / CHECKPOINTS, messages.say)):
            tensors, facts = found
            check_settings(folder, facts["settings"], loop.settings)
            state.unpack(tensors, facts, plan.validation)
            messages.say(f"{folder}: goes on after step {state.step}")
        elif folder and accelerator.is_main_process:
            refuse_finished(folder)
            write_setup(folder, classifier, samples.origin, asdict(config), plan.training, plan.validation)
        if samples.ignored:
            messages.say(f"left out, no videos by their names: {some(samples.ignored)}")
        for split, names in samples.unlabelled.items():
            messages.say(f"left out, {split} without a label: {len(names)} videos")
        if samples.missing:
            messages.say(f"left out, not on disk: {some(samples.missing)}")
        for line in plan_lines(classifier, plan, config):
            messages.say(line)
        if config.trackers:
            settings = {name: str(value) for name, value in asdict(config).items()}
            accelerator.init_trackers(folder.name if folder else "videossp", settings)
        loop.run(save)
        assert state.best is not None and state.kept is not None  # epochs >= 1
        accelerator.end_training()
        load_trainable(classifier, state.best_weights)
        classifier.eval()
        run = Run(state.history, state.best, state.kept, state.failures)
        if folder and accelerator.is_main_process:
            write_results(folder, classifier, run)
            remove_states(folder / CHECKPOINTS)
        return run
