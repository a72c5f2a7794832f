"""The test session's set-up, and the small videos, models and golden numbers that the tests share."""

import gc
import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import signal
import struct
from ctypes.util import find_library
from fractions import Fraction
from importlib.metadata import version
from multiprocessing import forkserver
from pathlib import Path

import videossp
from videossp import prepare_process

CACHE = Path(__file__).parents[1] / ".numba_cache"


def kernel_cache(source=Path(videossp.__file__).parent / "ops"):
    """The folder of the compiled kernels, by all that their code depends on.

    Numba compiles a kernel again if the kernel's own file has changed, but not if a function that it calls
    from another file has. Each state of the sources has its own folder instead; the test processes and the
    processes that they start share it.
    """
    state = hashlib.sha256(str([source, *map(version, ("numba", "llvmlite", "numpy"))]).encode())
    for file in sorted(source.glob("*.py")):
        state.update(file.name.encode() + file.read_bytes())
    return CACHE / state.hexdigest()[:16]


# Triton interprets its kernels, on a CPU: it chooses when it is imported, for the whole process.
os.environ["TRITON_INTERPRET"] = "1"
os.environ["NUMBA_CACHE_DIR"] = str(kernel_cache())  # before Numba is imported
# The models of the tests are small: a second thread doubles their time on a machine whose cores are busy.
os.environ["OMP_NUM_THREADS"] = "1"  # of torch, in this process and in those that it starts
# `nohup`, `&` in a script and some CI runners start processes with Ctrl-C ignored, and so would ours be.
signal.signal(signal.SIGINT, signal.default_int_handler)
prepare_process()  # before torch is imported: two test processes on two cores must not spin

import av  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402

from videossp.classifier import Classifier  # noqa: E402
from videossp.methods import registry  # noqa: E402
from videossp.model.config import BACKBONES, VideoMambaConfig  # noqa: E402
from videossp.model.videomamba import VideoMamba  # noqa: E402
from videossp.ops.conv import conv_silu  # noqa: E402
from videossp.ops.entropy import softmax_entropy  # noqa: E402
from videossp.ops.gate import gate  # noqa: E402
from videossp.ops.norm import add_norm  # noqa: E402
from videossp.ops.scan import Scan, selective_scan  # noqa: E402

# Wide matrices, soaks, compilation and runs of several processes: marked slow, but for the cases named here.
SLOW = {
    "test_all_adapters_of_a_folder_are_loaded_those_that_are_named_already_once": [],
    "test_an_error_of_an_actor_is_that_error": [],
    "test_methods_without_a_finished_run_are_named": [],
    "test_a_broken_declaration_does_not_disturb_the_command_line": [],
    "test_a_comparison_without_out_gets_the_next_free_number": [],
    "test_a_compiled_classifier_trains_and_exports": [],
    "test_a_copy_is_saved_like_its_original": ["ssp-deepcopy", "partial+vpt-pickle", "lora-torch.save"],
    "test_a_damaged_file_is_a_miss_and_is_made_again_once": ["cut in half", "one bit"],
    "test_a_data_set_built_by_hand_is_compared_whatever_its_size": [],
    "test_a_disabled_adapter_gives_the_frozen_backbone_with_the_head": ["ssp", "ssp+lora", "vpt"],
    "test_a_file_named_like_a_recipe_wins_but_a_folder_does_not": [],
    "test_a_folder_that_is_no_checkout_ends_in_one_line": [],
    "test_a_frame_above_the_limit_takes_no_memory": ["a.mp4"],
    "test_a_json_document_is_all_of_stdout_though_stderr_is_closed": [],
    "test_a_gigabyte_is_refused_and_the_connection_is_usable_or_closed": [],
    "test_a_loss_that_is_not_finite_ends_the_run": [],
    "test_a_lost_worker_is_one_line_and_the_run_can_be_resumed": ["dies"],
    "test_a_measurement_is_cpu_time_of_every_piece_of_work": [],
    "test_a_method_of_another_distribution_trains_saves_loads_and_compares": [],
    "test_a_folder_of_an_adapter_is_exported_and_proven_on_its_own_clips": [],
    "test_a_full_disk_leaves_no_part_of_a_model": [],
    "test_a_model_of_every_method_has_the_logits_of_its_classifier": ["lora+moments"],
    "test_a_rate_that_is_given_holds_for_all_methods": [],
    "test_a_recipe_plans_the_published_run_without_the_data": ["hmdb51"],
    "test_a_request_that_takes_longer_than_the_grace_is_told_that_the_service_stops": [],
    "test_a_resumed_comparison_repeats_no_finished_run_and_has_the_same_figures": [],
    "test_a_resumed_run_equals_one_that_was_not_killed": [],
    "test_a_run_continues_on_another_kind_of_device_only_if_asked": ["cuda"],
    "test_a_scan_is_the_recurrence": ["leave_out0-False", "leave_out4-True"],
    "test_a_signal_ends_the_run_after_the_step_and_it_can_be_resumed": ["15"],
    "test_a_second_signal_ends_the_process_at_once_and_leaves_nothing": [],
    "test_a_signal_to_a_whole_group_is_an_interruption_not_a_lost_worker": [],
    "test_a_slow_reader_gets_all_of_an_answer": [],
    "test_a_training_step_of_a_model_equals_that_of_numba": ["ssp"],
    "test_all_seeds_are_validated_on_the_same_videos": [],
    "test_an_interruption_leaves_no_part_of_a_model": [],
    "test_an_archive_of_torch_has_the_logits_of_its_classifier": [],
    "test_an_exported_classifier_takes_batches_of_any_size": ["vpt"],
    "test_an_interrupted_training_keeps_its_best_adapter": [],
    "test_an_interruption_writes_whole_files_of_all_that_was_read": [],
    "test_any_two_methods_make_a_chain": ["ssp"],
    "test_bf16_products_stay_close_and_gradients_too": ["ssp"],
    "test_bfloat16_gradients_of_full_tuning_equal_the_eager_ones": [],
    "test_compare_reads_recipes_and_configs_of_runs": [],
    "test_compare_runs_registered_method_in_subprocess": [],
    "test_a_comparison_of_an_older_version_resumes": [],
    "test_a_full_disk_and_too_little_memory_are_one_line_and_leave_a_checkpoint": ["disk-File too large"],
    "test_a_stream_that_is_killed_and_restarted_is_found_again": ["rtsp"],
    "test_ctrl_c_leaves_a_whole_file_and_the_next_run_completes_it": [],
    "test_ctrl_c_works_where_the_session_started_with_it_ignored": [],
    "test_damaged_features_are_computed_again_once": ["one bit"],
    "test_damaged_hints_give_the_frames_of_a_full_decode": [
        "msmpeg4-avi",
        "qtrle-mov",
        "wmv2-wmv",
        "flv-flv",
    ],
    "test_damaged_hints_give_the_frames_of_a_full_decode_in_every_container": [],
    "test_each_run_is_a_process_with_the_figures_of_its_classifier": [],
    "test_every_bfloat16_gradient_of_a_scan_equals_the_eager_one": [],
    "test_every_module_imports_and_prediction_works_without_posix": [],
    "test_every_stage_measures_something_and_only_once": ["machine+around"],
    "test_fewer_methods_and_seeds_reuse_the_runs_of_a_comparison": [],
    "test_files_of_a_killed_writer_are_removed_by_a_later_save": ["1"],
    "test_generated_requests_get_answers_that_the_api_describes": [],
    "test_kernels_compile_without_spills_and_with_the_layouts_of_the_design": ["90-frozen"],
    "test_labels_of_classes_lie_in_the_figure_apart_and_without_foreign_lines": [
        "draw_classes-long",
        "draw_classes-no font",
        "draw_confusion-Arabic, Greek",
        "draw_confusion-many",
    ],
    "test_launches_with_real_arguments_compile_to_the_same_kernels": [],
    "test_modules_and_functions_of_one_name_are_both_there": [],
    "test_of_many_uploads_at_once_each_is_answered": ["40"],
    "test_on_the_bundled_backbone_the_sum_of_the_map_is_within_two_per_cent": [],
    "test_one_part_is_switched_off_and_the_other_is_not": [],
    "test_runs_use_the_given_videos_not_those_on_disk": [],
    "test_sigterm_lets_requests_finish_and_refuses_new_ones": [],
    "test_the_csv_and_the_json_agree_with_the_rows": [],
    "test_the_demo_runs_from_end_to_end": [],
    "test_the_documented_commands_train_and_evaluate_in_two_processes": [],
    "test_the_first_line_has_the_address_also_of_ipv6": [],
    "test_the_environment_variable_sets_the_choice": ["torch-chunked"],
    "test_the_folder_of_a_service_that_was_killed_is_removed_by_the_next": [],
    "test_the_process_from_which_others_are_forked_may_be_killed": [],
    "test_the_pretraining_helps_on_classes_that_were_not_in_it": [],
    "test_thousands_of_decodes_keep_the_memory_flat": [],
    "test_three_processes_give_the_evaluation_of_one_to_the_last_digit": [],
    "test_training_on_cached_features_is_training_on_clips": ["linear-options0"],
    "test_two_clips_are_overfitted_in_sixty_steps": ["small-linear", "small-ssp"],
    "test_two_doctors_can_run_at_once": [],
    "test_two_interruptions_change_nothing": [],
    "test_two_processes_train_evaluate_and_train_again": [],
    "test_two_processes_at_once_leave_intact_files": [],
    "test_two_thousand_requests_keep_the_memory_flat": [],
    "test_videos_with_random_damage_get_clear_answers": ["50"],
    "test_warnings_of_a_comparison_are_issued_once": [],
    "test_what_a_killed_server_leaves_is_removed_by_the_next_start": [],
    "test_with_entropy_or_places_off_frames_or_positions_weigh_the_same": [],
    "test_with_several_rates_the_other_seeds_run_at_the_rate_that_the_first_selected": [],
    "test_without_a_rate_each_method_trains_at_its_default": [],
    "test_without_a_test_split_the_accuracy_is_that_on_validation": [],
    "test_workers_decode_the_same_frames": ["fork"],
}
LONG = ("bulk", "device", "training", "watching")  # folders of long tests, which run first
GOLDEN = Path(__file__).parent / "golden"
SMALL = VideoMambaConfig(depth=3, d_model=32, frames=4, size=(32, 32), d_state=4)
SSP_SMALL = {"gather_width": 16, "spread_width": 16, "heads": 4}


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items):
    for item in items:
        if getattr(item, "originalname", None) in SLOW:
            case = item.callspec.id if hasattr(item, "callspec") else None
            if case not in SLOW[item.originalname]:
                item.add_marker("slow")
    # At the end, no test process should wait for a long test of the other one.
    items.sort(key=lambda x: x.path.parent.name not in LONG)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Modules and collected tests stay to the end: the garbage collector need not search them each time."""
    gc.disable()
    result = yield
    gc.enable()
    gc.freeze()
    return result


@pytest.fixture(scope="session", autouse=True)
def _kernels():
    """Compile the CPU kernels, those of one dtype in each test process, so that none is compiled twice."""
    if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
        number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
        for dtype in (torch.float32, torch.bfloat16)[number : number + 1]:
            compile_kernels(dtype)


def compile_kernels(dtype):
    """Run every CPU kernel once with sequences of a dtype."""

    def draw(*shape):
        return torch.rand(*shape, dtype=dtype).requires_grad_()

    steps, matrix, weight, bias = torch.rand(1, 2, 4), -torch.rand(8, 4), draw(8, 1, 4), draw(8)
    outputs = [
        selective_scan(Scan(draw(1, 2, 8), draw(1, 2, 8), matrix, steps, steps)),
        *conv_silu(draw(1, 2, 8), weight, bias, weight, bias),
        gate(draw(1, 2, 8), draw(1, 2, 8), draw(1, 2, 8)),
        *add_norm(torch.rand(1, 2, 8), draw(1, 2, 8), torch.ones(8)),
    ]
    torch.stack([x.float().sum() for x in outputs]).sum().backward()
    softmax_entropy(draw(2, 8))


@pytest.fixture(autouse=True)
def _threads(request):
    """Numbers are compared at one thread count; two threads compute the kernels and the backbone."""
    torch.set_num_threads(2 if request.path.parent.name in ("ops", "model") else 1)


@pytest.fixture
def nan_filled_empty(monkeypatch):
    """torch.empty gives NaN, so that a kernel that forgets to write is caught."""
    empty = torch.empty

    def filled(*args, **kwargs):
        x = empty(*args, **kwargs)
        return x.fill_(float("nan")) if x.is_floating_point() else x

    monkeypatch.setattr(torch, "empty", filled)


def golden(name):
    """(tensors by group "param", "grad", "", config) of numbers that the published model gave."""
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    groups = {"param": {}, "grad": {}, "": {}}
    for key, value in tensors.items():
        group, slash, rest = key.partition("/")
        groups[group if slash else ""][rest if slash else key] = value
    return groups, config


@pytest.fixture
def small_backbone(monkeypatch):
    """The name of a backbone small enough to train in a test."""
    monkeypatch.setitem(BACKBONES, "videomamba_small_test", SMALL)
    return "videomamba_small_test"


@pytest.fixture
def small_classifier(small_backbone):
    """SSP on the small backbone, with prompts that are switched on."""
    classifier = Classifier.create(small_backbone, classes=["a", "b", "c"], **SSP_SMALL)
    switch_on(classifier)
    return classifier


def published(config=SMALL, classes=3):
    """A published checkpoint of a plain backbone, random, as {name: tensor}."""
    torch.manual_seed(0)
    state = {key: torch.randn_like(x) for key, x in VideoMamba(config).state_dict().items()}
    state |= {"norm_f.weight": torch.rand(config.d_model), "head.bias": torch.randn(classes)}
    return state | {"head.weight": torch.randn(classes, config.d_model)}


def switch_on(classifier, seed=0):
    """Give every tuned weight a value, so that no test passes because of a zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for x in classifier.trainable().values():
            x.add_(0.05 * torch.randn(x.shape, generator=generator))


def write_video(
    path, frames, *, codec="libx264", rate=12, pix_fmt="yuv420p", options=None, times=None, mux=None
):
    """Encode frames (time, height, width, 3); `times` are presentation times in units of 1/rate seconds."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", container_options=mux or {}) as container:
        stream = container.add_stream(codec, rate=Fraction(rate), options=options or {})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.time_base = Fraction(1, rate)
            frame.pts = i if times is None else times[i]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def scan_arguments(batch, length, d_inner, d_state, seed=0, dtype=torch.float32):
    """Random arguments of a selective scan by name, with all optional ones."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "u": (batch, length, d_inner),
        "delta": (batch, length, d_inner),
        "A": (d_inner, d_state),
        "B": (batch, length, d_state),
        "C": (batch, length, d_state),
        "D": (d_inner,),
        "delta_bias": (d_inner,),
        "h0": (batch, d_inner, d_state),
    }
    tensors = {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in shapes.items()}
    tensors["A"] = -tensors["A"].abs() - 0.1
    return tensors


def turn_video(path, matrix):
    """Write the six entries that turn a picture into the header of an MP4 file, as phones do."""
    content = bytearray(Path(path).read_bytes())
    unit = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    at = content.index(unit, content.index(b"tkhd"))
    a, b, u, c, d, v = (x * 0x10000 for x in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, u, c, d, v, 0, 0, 0x40000000)
    Path(path).write_bytes(content)


def browser_program():
    """The path of a Chromium; skips the test if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = os.environ.get("VIDEOSSP_BROWSER") or next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(names)}, and VIDEOSSP_BROWSER names none")
    return program


def copy_packets(sources, target, change=lambda number, packet: packet):
    """Copy the packets of files into one stream; `change` returns a packet, or None to leave it out."""
    number = 0
    with av.open(str(target), "w") as new:
        stream = None
        for source in sources:
            with av.open(str(source)) as old:
                stream = stream or new.add_stream_from_template(old.streams.video[0])
                for packet in old.demux(video=0):
                    if packet.size and (changed := change(number, packet)) is not None:
                        changed.stream = stream
                        new.mux(changed)
                    number += bool(packet.size)


def join_streams(target, *sources, default=None):
    """Copy files into the streams of one file; `default` is the place of the one that is marked so."""
    marks = av.stream.Disposition
    with av.open(str(target), "w") as new:
        files = [av.open(str(x)) for x in sources]
        streams = [new.add_stream_from_template(x.streams.video[0]) for x in files]
        for place, stream in enumerate(streams):
            stream.disposition = marks.default if place == default else marks(0)
        for file, stream in zip(files, streams, strict=True):
            for packet in file.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    new.mux(packet)
            file.close()
    return target


def numbered_frames(count, height=48, width=64):
    """Frames whose grey level tells their number: frame i is 4 i + 8, up to 60 frames."""
    levels = (8 + 4 * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def numbers_of(frames):
    """The numbers that `numbered_frames` wrote into decoded frames (ten-bit ones come 2 levels darker)."""
    return [round((float(x.mean()) - 7) / 4) for x in frames]


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory):
    """Train and test folders of two easy classes, bright and dark, eight and four clips each."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for name, level in (("bright", 200), ("dark", 50)):
            for i in range(count):
                frames = rng.normal(level, 20, (6, 40, 48, 3)).clip(0, 255).astype(np.uint8)
                write_video(root / split / name / f"{i}.mp4", frames)
    return root


def start_fork_server_with(*modules):
    """The next process is forked from a server that has imported these modules.

    There is one server per process. If it runs with the modules of other tests, it is ended.
    """
    server = forkserver._forkserver
    if server._preload_modules != [*modules]:
        server._stop()
        server.set_forkserver_preload([*modules])


@pytest.fixture
def call(capsys):
    """Run a command; returns (exit code, stdout, stderr)."""
    from videossp.cli.main import main

    def run(*arguments):
        code = main([str(x) for x in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def benchmarks(monkeypatch):
    """Gives modules of benchmarks/ by name. Methods that they register are available until the test ends."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    return importlib.import_module


@pytest.fixture
def minibench(monkeypatch):
    """Gives modules of benchmarks/minibench by name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks/minibench"))
    return importlib.import_module


@pytest.fixture
def made_twice(minibench, tmp_path):
    """The bytes of a clip of a set that is made after another one, and alone."""

    def make(name, split, label, *data):
        clipset = minibench("clipset")
        clips = [clipset.Clip(split, label, i) for i in range(2)]
        clipset.make_block(name, 0, tmp_path / "after", clips, *data)
        clipset.make_block(name, 0, tmp_path / "alone", clips[1:], *data)
        return [(tmp_path / x / clips[1].path).read_bytes() for x in ("after", "alone")]

    return make


@pytest.fixture
def drawn(minibench):
    """The same, for what needs the renderer."""
    if importlib.util.find_spec("mujoco") is None:
        pytest.skip("the renderer, mujoco, is in the extra bench")
    if "MUJOCO_GL" not in os.environ and find_library("OSMesa") is None:
        pytest.skip("libosmesa6 is not installed")
    return minibench
