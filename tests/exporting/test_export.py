"""Exported files: the same model as the adapter, in another runtime, and with the bundled script."""

import hashlib
import importlib
import json
import math
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import wave
import zipfile
from collections import Counter
from dataclasses import replace
from importlib.metadata import requires
from pathlib import Path

import av
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from av.stream import Disposition

import videossp
from conftest import SMALL, switch_on, turn_video, write_video
from videossp import Classifier, ExportError, load, predict
from videossp.bundled import PREDICT_SCRIPT
from videossp.cli.main import exit_code
from videossp.data.clips import read_views
from videossp.data.sampling import ClipFormat
from videossp.errors import VideoSSPWarning
from videossp.exporting import export as export_module
from videossp.exporting.export import export
from videossp.methods.registry import METHODS
from videossp.model.hooks import Tuner

SIZE = (32, 48)


def classifier_of(method, **arguments):
    """A small classifier of a method whose parts are all switched on."""
    config = replace(SMALL, size=SIZE)
    classifier = Classifier.create(config, classes=["a", "b", "c"], method=method, **arguments)
    switch_on(classifier)
    return classifier


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(classifier, folder of model.onnx): an adapter that was exported once."""
    folder = tmp_path_factory.mktemp("exported")
    classifier = classifier_of("gather_spread")
    export(classifier, folder / "model.onnx")
    return classifier, folder


@pytest.mark.parametrize("method", [*METHODS, "lora+moments"])
def test_a_model_of_every_method_has_the_logits_of_its_classifier(method, tmp_path):
    classifier = classifier_of(method)
    before = classifier(torch.ones(1, 3, SMALL.frames, *SIZE))
    made = export(classifier, tmp_path / "model.onnx")
    assert made.proof.verdict == "proven"
    assert max(x.logits for x in made.proof.comparisons) < 2e-5
    assert [x.batch_size for x in made.proof.comparisons] == [1, 3, 8]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    clips = torch.randn(5, 3, SMALL.frames, *SIZE)
    logits = session.run(["logits"], {"clip": clips.numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(logits, classifier.eval()(clips), rtol=1e-4, atol=2e-5)
    assert torch.equal(classifier(torch.ones(1, 3, SMALL.frames, *SIZE)), before)  # it is not merged


def test_a_description_tells_all_that_a_program_needs(exported):
    classifier, folder = exported
    about = json.loads((folder / "model.json").read_text())
    data = (folder / "model.onnx").read_bytes()
    assert about["sha256"] == hashlib.sha256(data).hexdigest()
    assert ClipFormat(**about["clip"]) == classifier.clip_format
    assert about["classes"] == ["a", "b", "c"]
    assert about["input"]["shape"][1:] == [3, SMALL.frames, *SIZE]
    assert about["backbone"]["sha256"] == classifier.sha256
    assert about["batch"] is None and about["precision"] == "float32"
    assert about["proof"]["verdict"] == "proven" and about["proof"]["clips"] == 16
    source = str(Path(videossp.__file__).parent).encode()
    assert not [x for x in (b"videossp", source) if x in data]
    assert source not in (folder / "model.json").read_bytes()


def script():
    return runpy.run_path(str(PREDICT_SCRIPT))


@pytest.mark.parametrize("sampling", ["uniform", "sparse", "double", "dense"])
@pytest.mark.parametrize("shape", [(5, 40, 60), (23, 34, 200), (9, 100, 64)])
def test_the_script_makes_the_clips_of_the_package(sampling, shape, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    write_video(tmp_path / "a.mp4", noise)
    form = ClipFormat(4, SIZE, sampling, stride=3, views=(2, 3))
    found = script()["clips"](str(tmp_path / "a.mp4"), json.loads(json.dumps(vars(form))))
    np.testing.assert_allclose(found, read_views(str(tmp_path / "a.mp4"), form, 2, 3), atol=1e-6)


@pytest.mark.parametrize("matrix", [(0, 1, 0, -1, 0, 0), (-1, 0, 0, 0, -1, 0), (0, -1, 0, 1, 0, 0)])
def test_the_script_turns_videos_of_phones(matrix, tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 256, (4, 40, 60, 3)).astype(np.uint8))
    turn_video(path, matrix)
    form = ClipFormat(4, SIZE)
    found = script()["clips"](str(path), json.loads(json.dumps(vars(form))))
    np.testing.assert_allclose(found, read_views(str(path), form), atol=1e-6)


def packages_of(*names):
    """Distributions and all that they need on this machine."""
    from packaging.requirements import Requirement

    found, waiting = set(), list(names)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            needed = map(Requirement, requires(name) or ())
            waiting += [x.name for x in needed if not x.marker or x.marker.evaluate({"extra": ""})]
    return found


def test_the_script_predicts_as_the_package_where_torch_is_not_installed(exported, class_folder, tmp_path):
    from importlib.metadata import files

    classifier, folder = exported
    alone = tmp_path / "site"
    alone.mkdir()
    for name in packages_of("numpy", "onnxruntime", "av"):
        for file in files(name):
            top = file.parts[0]
            if top != ".." and not (alone / top).exists():
                place = Path(str(file.locate()))
                (alone / top).symlink_to(
                    place if len(file.parts) == 1 else place.parents[len(file.parts) - 2]
                )
    videos = sorted(map(str, (class_folder / "test").rglob("*.mp4")))
    code = (
        "import importlib.util, runpy, sys\n"
        f"sys.path.insert(0, {str(alone)!r})\n"
        "assert not importlib.util.find_spec('torch') and not importlib.util.find_spec('videossp')\n"
        "script = sys.argv.pop(1)\n"
        "sys.argv[0] = script\n"
        "runpy.run_path(script, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, folder / "predict.py", folder / "model.onnx", *videos],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for line, wanted in zip(done.stdout.splitlines(), predict(classifier, videos), strict=True):
        path, label, probability = line.split("\t")
        assert (path, label) == (wanted.path, wanted.label)
        assert float(probability) == pytest.approx(wanted.probability, abs=1e-4)


def test_the_script_names_a_video_that_cannot_be_decoded(exported, class_folder, tmp_path):
    _, folder = exported
    good = next((class_folder / "test").rglob("*.mp4"))
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    bad = [tmp_path / x for x in ("bad.mp4", "sound.wav", "missing.mp4")]
    command = [sys.executable, folder / "predict.py", folder / "model.onnx", *bad, good]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    for line, path in zip(done.stderr.splitlines(), bad, strict=True):
        assert line.startswith(f"{path}: cannot be decoded: ")
    assert done.stdout.startswith(f"{good}\t")


def test_the_script_refuses_a_model_with_the_description_of_another(exported, tmp_path):
    _, folder = exported
    shutil.copy(folder / "model.json", tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"another")
    for name, words in (("model.onnx", "describes another model"), ("no.onnx", "no.json")):
        model = tmp_path / name
        command = [sys.executable, folder / "predict.py", model, "a.mp4"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1


def test_the_script_reads_the_stream_that_a_player_shows(tmp_path):
    with av.open(str(tmp_path / "two.mkv"), "w") as container:
        streams = [container.add_stream("libx264", rate=5) for _ in range(2)]
        for i, stream in enumerate(streams):
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.disposition = Disposition.default if i else Disposition(0)
        for i, stream in enumerate(streams):
            for _ in range(5):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 250 * i, np.uint8), "rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    form = ClipFormat(4, SIZE)
    wanted = read_views(str(tmp_path / "two.mkv"), form)
    assert wanted.min() > 1  # the second one, which is bright
    found = script()["clips"](str(tmp_path / "two.mkv"), json.loads(json.dumps(vars(form))))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_fixed_batch_is_proven_at_that_size(tmp_path):
    classifier = classifier_of("linear")
    made = export(classifier, tmp_path / "model.onnx", batch=2)
    assert [x.batch_size for x in made.proof.comparisons] == [2]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert session.get_inputs()[0].shape == [2, 3, SMALL.frames, *SIZE]
    views = np.random.default_rng(0).random((3, 3, SMALL.frames, *SIZE), np.float32)
    found = script()["probabilities"](session, views, 2)
    with torch.no_grad():
        np.testing.assert_allclose(found, classifier(torch.from_numpy(views)).softmax(1).mean(0), atol=1e-5)


@pytest.mark.parametrize("method", ["linear", "gather_spread", "lora+moments"])
def test_int8_without_enough_real_clips_is_not_proven_and_has_weights_in_int8(method, tmp_path):
    made = export(classifier_of(method), tmp_path / "small.onnx", int8=True)
    assert made.proof.verdict == "not proven"
    assert json.loads((tmp_path / "small.json").read_text())["precision"] == "int8"
    model = onnx.load(tmp_path / "small.onnx")
    kinds = [x.op_type for x in model.graph.node]
    # of each block: in_proj, out_proj, and in both directions x_proj and dt_proj; of the head: one
    assert kinds.count("MatMulInteger") >= 6 * SMALL.depth + 1
    numbers = Counter()
    for x in model.graph.initializer:
        numbers[x.data_type, len(x.dims)] += math.prod(x.dims)
    assert numbers[onnx.TensorProto.FLOAT, 2] < 0.1 * numbers[onnx.TensorProto.INT8, 2]


def test_an_archive_of_torch_has_the_logits_of_its_classifier(tmp_path):
    classifier = classifier_of("ssp+lora")
    made = export(classifier, tmp_path / "model.pt2", to="torch")
    assert made.proof.verdict == "proven"
    assert [x.name for x in made.files] == ["model.pt2", "model.json"]
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        source = str(Path(videossp.__file__).parent).encode()
        assert not [x for x in archive.namelist() if source in archive.read(x)]
    module = torch.export.load(tmp_path / "model.pt2").module()
    clips = torch.randn(3, 3, SMALL.frames, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(module(clips), classifier.eval()(clips), rtol=1e-4, atol=1e-5)


def test_a_folder_of_an_adapter_is_exported_and_proven_on_its_own_clips(tmp_path, class_folder):
    classifier_of("moments").save(tmp_path / "adapter")
    with pytest.raises(ValueError, match="at least 16 videos, there are 8"):
        export(load(tmp_path / "adapter"), tmp_path / "model.onnx", clips=str(class_folder / "test"))
    made = export(tmp_path / "adapter", tmp_path / "model.onnx", clips=str(class_folder / "train"))
    assert made.proof.real and made.proof.clips == 16 and made.proof.verdict == "proven"


def test_a_large_folder_is_sampled_and_that_is_said(tmp_path, class_folder, monkeypatch):
    monkeypatch.setattr(export_module, "MOST_CLIPS", 16)
    classifier = classifier_of("linear")
    with pytest.warns(VideoSSPWarning, match="compared on 16 of 24 videos, evenly spread"):
        clips = export_module.comparison_clips(classifier, str(class_folder))
    assert clips.shape == (16, 3, SMALL.frames, *SIZE)


def test_a_model_that_differs_is_not_written_unless_allowed(tmp_path, monkeypatch):
    prove = export_module.prove

    def of_another(classifier, load, clips, **settings):
        other = classifier_of("linear", seed=1)
        return prove(other.eval(), load, clips, **settings)

    monkeypatch.setattr(export_module, "prove", of_another)
    classifier = classifier_of("linear")
    with pytest.raises(ExportError, match=r"logits differ by .*, more than 0.0001; .*nothing was written"):
        export(classifier, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    assert exit_code(ExportError("it differs")) == 1
    made = export(classifier, tmp_path / "model.onnx", allow=True)
    assert made.proof.verdict == "failed"
    assert json.loads((tmp_path / "model.json").read_text())["proof"]["verdict"] == "failed"


def test_a_method_without_a_translation_is_one_line(tmp_path):
    class Sorting(Tuner):
        def __init__(self, config):
            super().__init__()

        def edit_cls(self, tokens, y):
            return y * torch.linalg.svd(y[:, None]).S

    with pytest.raises(ExportError, match="^Sorting cannot be exported: ") as caught:
        export(classifier_of(Sorting), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_method_that_mixes_the_clips_of_a_batch_is_refused(tmp_path):
    with pytest.raises(ExportError, match="a prediction depends on the other clips of the batch"):
        export(classifier_of("ssp", importance="batch"), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"out": "model.pt2"}, "must be a .onnx in a folder that exists"),
        ({"out": "missing/model.onnx"}, "must be a .onnx in a folder that exists"),
        ({"to": "tflite"}, "to must be onnx or torch, got 'tflite'"),
        ({"out": "model.pt2", "to": "torch", "int8": True}, "int8 is of ONNX models"),
        ({"out": "model.pt2", "to": "torch", "custom_op": True}, "the custom operator is of ONNX models"),
        ({"batch": 0}, "batch must be a whole number of at least 1"),
        ({"out": "there.onnx"}, "there.json: exists; choose another name"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_anything_is_computed(arguments, words, tmp_path):
    (tmp_path / "there.json").write_text("{}")
    with pytest.raises(ValueError, match=words):
        export("no adapter", tmp_path / arguments.pop("out", "model.onnx"), **arguments)


def test_a_script_of_the_user_is_not_replaced(tmp_path):
    (tmp_path / "predict.py").write_text("mine")
    with pytest.raises(ValueError, match=r"predict.py: exists, and is not the one"):
        export("no adapter", tmp_path / "model.onnx")
    assert (tmp_path / "predict.py").read_text() == "mine"


needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")


@pytest.fixture(scope="module")
def with_operator(tmp_path_factory):
    """(classifier, folder of model.onnx): an adapter that was exported with the custom operator."""
    folder = tmp_path_factory.mktemp("operator")
    classifier = classifier_of("ssp+lora")
    made = export(classifier, folder / "model.onnx", custom_op=True)
    assert made.proof.verdict == "proven"
    names = ["model.onnx", "model.json", "predict.py", "selective_scan.so", "selective_scan.c"]
    assert [x.name for x in made.files] == names
    return classifier, folder


@needs_compiler
def test_a_model_with_the_custom_operator_has_the_logits_of_its_classifier(with_operator):
    classifier, folder = with_operator
    model = onnx.load(folder / "model.onnx")
    kinds = [x.op_type for x in model.graph.node]
    assert kinds.count("SelectiveScan") == 2 * SMALL.depth and "Scan" not in kinds
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(folder / "selective_scan.so"))
    session = onnxruntime.InferenceSession(folder / "model.onnx", options)
    for batch in (1, 5):
        clips = torch.randn(batch, 3, SMALL.frames, *SIZE)
        logits = session.run(["logits"], {"clip": clips.numpy()})[0]
        with torch.no_grad():
            np.testing.assert_allclose(logits, classifier.eval()(clips), rtol=1e-4, atol=2e-5)


@needs_compiler
def test_the_custom_operator_and_int8_go_together(tmp_path):
    made = export(classifier_of("linear"), tmp_path / "small.onnx", int8=True, custom_op=True)
    assert made.proof.verdict == "not proven" and made.proof.agreement > 0.5
    kinds = {x.op_type for x in onnx.load(tmp_path / "small.onnx").graph.node}
    assert kinds >= {"MatMulInteger", "SelectiveScan"}


@needs_compiler
def test_the_script_predicts_with_the_custom_operator_and_tells_how_to_compile_it(
    with_operator, class_folder, tmp_path
):
    classifier, folder = with_operator
    video = str(next((class_folder / "test").rglob("*.mp4")))
    for name in ("model.onnx", "model.json", "selective_scan.c"):
        shutil.copy(folder / name, tmp_path)
    command = [sys.executable, folder / "predict.py", "model.onnx", video]  # as documented: in its folder
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    told = re.search(
        r"compile selective_scan.so on this machine with (cc .* \S*selective_scan.c) ", done.stderr
    )
    subprocess.run(shlex.split(told[1]), cwd=tmp_path, check=True)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    _, label, probability = done.stdout.strip().split("\t")
    (wanted,) = predict(classifier, video)
    assert label == wanted.label and float(probability) == pytest.approx(wanted.probability, abs=1e-4)


@needs_compiler
def test_models_of_one_folder_share_the_library_but_none_of_the_user_is_replaced(with_operator, tmp_path):
    classifier, folder = with_operator
    for name in ("selective_scan.so", "selective_scan.c", "predict.py"):
        shutil.copy(folder / name, tmp_path)
    export(classifier, tmp_path / "second.onnx", custom_op=True, batch=1)
    (tmp_path / "selective_scan.so").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"selective_scan.so: exists, and is not the one"):
        export(classifier, tmp_path / "third.onnx", custom_op=True)
    assert (tmp_path / "selective_scan.so").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("compiler", "words"),
    [
        ("no-such-compiler", "needs a C compiler: no-such-compiler: "),
        (f"{sys.executable} -c 'import sys; sys.exit(\"bad flag\")'", "cannot be compiled: .*: bad flag$"),
        ("true", "cannot be compiled: .*: exit code 0$"),
    ],
)
def test_a_compiler_that_fails_is_one_line(compiler, words, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(ExportError, match=words) as caught:
        export("no adapter", tmp_path / "model.onnx", custom_op=True)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_compiler_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExportError, match="needs a C compiler: install gcc or clang, or set CC"):
        export("no adapter", tmp_path / "model.onnx", custom_op=True)


def test_a_full_disk_leaves_no_part_of_a_model(tmp_path, monkeypatch):
    write = export_module.atomic_write

    def full(path, content):
        if path.suffix == ".json":
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(export_module, "atomic_write", full)
    with pytest.raises(OSError, match="No space"):
        export(classifier_of("linear"), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_the_proof(tmp_path, call, monkeypatch):
    classifier_of("linear").save(tmp_path / "adapter")
    monkeypatch.chdir(tmp_path)
    code, out, err = call("export", "adapter", "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result["files"] == ["model.onnx", "model.json", "predict.py"]
    assert result["proof"]["verdict"] == "proven"
    code, out, err = call("export", "adapter", "--out", "again.onnx", "--batch", "2")
    assert code == 0 and out.splitlines()[-1] == "proven" and "16 random clips" in out
    code, out, err = call("export", "adapter")
    assert (code, out) == (2, "") and "model.onnx: exists; choose another name" in err


def test_the_extra_is_named_where_it_is_missing(tmp_path, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    for name in [x for x in sys.modules if x.startswith("videossp.exporting")]:
        monkeypatch.delitem(sys.modules, name)
    code, _, err = call("export", tmp_path)
    assert code == 2 and "pip install 'videossp[export]'" in err


def test_the_command_in_a_fresh_process_writes_nothing_to_stderr(tmp_path):
    classifier_of("linear").save(tmp_path / "adapter")
    command = [sys.executable, "-m", "videossp", "export", "adapter", "--batch", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_empty_folder_name_is_refused(tmp_path, call):
    code, _, err = call("export", tmp_path, "--clips", "")
    assert code == 2 and "--clips" in err


def test_an_interruption_leaves_no_part_of_a_model(tmp_path, monkeypatch):
    write = export_module.atomic_write

    def interrupted(path, content):
        write(path, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(export_module, "atomic_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(classifier_of("linear"), tmp_path / "model.onnx", batch=1)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_runtime_names_the_method(tmp_path, monkeypatch):
    def broken(model):
        raise RuntimeError("no kernel for Scan\nand more")

    monkeypatch.setattr(importlib.import_module("videossp.exporting.onnx_model"), "quantized", broken)
    with pytest.raises(ExportError, match="^linear cannot be exported: no kernel for Scan$"):
        export(classifier_of("linear"), tmp_path / "model.onnx", int8=True)
