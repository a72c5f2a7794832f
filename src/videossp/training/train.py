"""`train`: start or resume a run and write its folder."""

from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from accelerate import Accelerator, PartialState

from videossp.classifier import Classifier
from videossp.data.datasets import VideoDataset, read_data
from videossp.data.datasets.left_out import left_out_lines
from videossp.load_adapter import load_trainable
from videossp.model.device import Device, processes, selected
from videossp.ops.exact_float32 import exact_float32
from videossp.system.lost_processes import explain_lost_processes
from videossp.system.progress import Messages
from videossp.system.terminal import shorten
from videossp.system.warn import warn
from videossp.training.checkpoints import load_state, remove_states, save_state
from videossp.training.config import TrainConfig
from videossp.training.distributed import join_processes
from videossp.training.loop import Loop
from videossp.training.plan import Plan, caches_features, make_plan, resolve
from videossp.training.run import Run
from videossp.training.run_folder import (
    ADAPTER,
    CHECKPOINTS,
    check_startable,
    claim_run,
    make_run_folder,
    settings_table,
    write_history,
    write_results,
    write_setup,
)
from videossp.training.seeding import seeded
from videossp.training.settings import check_settings
from videossp.training.state import TrainState
from videossp.training.summaries import plan_lines
from videossp.training.video_seconds import mean_seconds


def train(
    classifier: Classifier,
    data: str | Path | VideoDataset,
    config: TrainConfig | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    change_device: bool = False,
    progress: bool = False,
) -> Run:
    """Train a classifier; it ends with the weights of the best epoch on validation, else of the last.

    Under `torchrun` or `accelerate launch` several processes train together: each calls this function with
    the same arguments, and the first one writes. The random generators of the caller stay as they were.

    Args:
        classifier: changed in place. Its class names must include those of the data.
        data: a data set, or its folder or annotation file (`read_data`). The test split is not read, unless
            `config.select_on` is "test".
        config: the settings; default: `TrainConfig()`.
        out: run folder to write. It must be empty or new.
        resume: continue the run in `out` from its newest checkpoint. Weights and figures end as without the
            interruption (on a CPU with as many threads).
        change_device: with `resume`, allow another kind of device than before; the result is then not
            exactly that of the run without the interruption.
        progress: print messages and a progress bar on stderr.

    Returns:
        Figures, validation and warnings of the run. Warnings are also issued as `VideoSSPWarning`.

    Raises:
        ValueError: settings that conflict, or (resume) that differ from those of the run.
        DataError: the data cannot be used, or a video cannot be decoded (on_error "error").
        DivergedError: too many steps whose loss or gradient is not finite.
        OutOfMemoryError: too little memory.
        WorkerLostError: a worker process or another process of the training is gone.
        KeyboardInterrupt: after SIGTERM or Ctrl-C. The state is saved before any exception leaves this
            function.
    """
    if classifier.merged:
        raise ValueError("a merged classifier cannot be trained; load the adapter again")
    if resume and out is None:
        raise ValueError("resume needs the run folder, out")
    if out is not None:
        classifier.check_saving()
    config = config or TrainConfig()
    device = join_processes(wanted_device(config, classifier))
    config = resolve(config, classifier, device)
    caches_features(config, classifier)  # refuses settings that conflict, before the folder is made
    samples = data if isinstance(data, VideoDataset) else read_data(data)
    folder = None if out is None else Path(out)
    accelerator = Accelerator(
        cpu=PartialState().device.type == "cpu",
        log_with=list(config.trackers) or None,
        project_dir=None if folder is None else str(folder),
    )
    main = accelerator.is_main_process
    messages = Messages(progress and main)
    plan = make_plan(samples, classifier.classes, config, accelerator.num_processes)
    with ExitStack() as stack:
        if folder and main:
            if not resume:
                make_run_folder(folder)
            stack.enter_context(claim_run(folder))
        accelerator.wait_for_everyone()
        stack.enter_context(seeded(config.seed))
        classifier.backbone.grad_checkpoint = config.grad_checkpoint
        stack.enter_context(selected(device))
        if config.precision == "float32":
            stack.enter_context(exact_float32(device))  # for the backward, too
        assert config.precision is not None  # `resolve` has set it
        classifier.to(device).to_precision(config.precision)
        loop = Loop(classifier, plan, config, accelerator, messages)
        resumed = folder is not None and resume and restore(folder, loop, messages, change_device)
        if folder and main and not resumed:
            check_startable(folder, settings_table(classifier, samples.origin, asdict(config)))
            write_setup(folder, classifier, samples.origin, asdict(config), plan.training, plan.validation)
        classifier.video_seconds = mean_seconds(plan.training)
        report_start(classifier, samples, plan, config, messages)
        start_trackers(accelerator, config, folder)
        if main:
            for text in [*loop.state.device_changes, *early_warnings(samples, plan)]:
                warn(text)
        classifier.head.temperature = 1.0
        loop.run(Saver(folder, loop), resumable=folder is not None)
        for tracker in accelerator.trackers:
            tracker.finish()  # not end_training(), which also ends the process group
        run = finish(loop, samples)
        if folder and main:
            write_results(folder, classifier, run)
            remove_states(folder / CHECKPOINTS)
    with explain_lost_processes(resumable=folder is not None):
        accelerator.wait_for_everyone()  # now the run folder is complete for every process
    return run


class Saver:
    """Writes the state of a loop to a run folder: the best adapter, the history and a checkpoint."""

    def __init__(self, folder: Path | None, loop: Loop) -> None:
        self.folder, self.loop = folder, loop
        self.written = 0  # the epoch whose weights are in the adapter folder

    def __call__(self) -> None:
        if self.folder is None:
            return
        state = self.loop.state
        tensors, metadata = state.pack()
        if state.best and state.best["epoch"] != self.written:
            classifier = self.loop.classifier
            with state.using(state.best_weights):
                classifier.head.temperature, _ = state.calibrated
                try:
                    classifier.save(self.folder / ADAPTER)
                finally:
                    classifier.head.temperature = 1.0  # the next epoch trains without one
            self.written = state.best["epoch"]
        write_history(self.folder, state.history)
        metadata = {**metadata, "settings": self.loop.settings}
        save_state(self.folder / CHECKPOINTS, state.step, tensors, metadata)


def wanted_device(config: TrainConfig, classifier: Classifier) -> Device:
    """The device that a training asks for: with "auto", that of a classifier that is not on the CPU."""
    if config.device != "auto" or classifier.device.type == "cpu":
        return config.device
    return classifier.device.type if processes() > 1 else classifier.device  # each process has its own GPU


def restore(folder: Path, loop: Loop, messages: Messages, change_device: bool = False) -> bool:
    """Restore the state of the newest intact checkpoint; returns whether there is one.

    Raises:
        ValueError: the checkpoint belongs to other settings.
    """
    checkpoint = load_state(folder / CHECKPOINTS, messages.say)
    if checkpoint is None:
        return False
    tensors, metadata = checkpoint
    change = check_settings(folder, metadata["settings"], loop.settings, change_device)
    loop.state.unpack(tensors, metadata, loop.plan.validation)
    if change:
        loop.state.device_changes.append(change)
    messages.say(f"{folder}: resumed after step {loop.state.step}")
    return True


def report_start(
    classifier: Classifier, samples: VideoDataset, plan: Plan, config: TrainConfig, messages: Messages
) -> None:
    """Print the plan, and the files and videos that are not used."""
    for line in left_out_lines(replace(samples, missing=())):  # missing videos are a warning
        messages.say(line)
    for line in plan_lines(classifier, plan, config, classifier.device):
        messages.say(line)


def start_trackers(accelerator: Accelerator, config: TrainConfig, folder: Path | None) -> None:
    """Start the trackers that the settings name."""
    if config.trackers:
        settings = {name: str(value) for name, value in asdict(config).items()}
        accelerator.init_trackers(folder.name if folder else "videossp", settings)


def early_warnings(samples: VideoDataset, plan: Plan) -> list[str]:
    """The warnings that are known before the first step, except those of the classifier's creation."""
    missing = samples.missing
    lost = [f"not on disk and left out: {len(missing)} videos ({shorten(missing)})"] if missing else []
    return [*lost, *plan.warnings]


def late_warnings(state: TrainState) -> list[str]:
    """Summaries of the warnings that were issued during the steps, those before an interruption included."""
    lines = []
    if names := list(state.failures):
        lines.append(f"skipped because they cannot be decoded: {len(names)} videos ({shorten(names)})")
    if state.skipped:
        lines.append(f"skipped because loss or gradient was not finite: {state.skipped} steps")
    return lines


def finish(loop: Loop, samples: VideoDataset) -> Run:
    """Give the classifier the weights of the best epoch, and collect the results."""
    state, classifier = loop.state, loop.classifier
    assert state.best is not None  # epochs >= 1
    load_trainable(classifier, state.best_weights)
    classifier.head.temperature, validation = state.calibrated
    classifier.eval()
    warnings = (
        *classifier.warnings,
        *state.device_changes,
        *early_warnings(samples, loop.plan),
        *late_warnings(state),
    )
    return Run(state.history, state.best, validation, state.failures, warnings)
