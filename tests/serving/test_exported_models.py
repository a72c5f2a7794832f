"""Exported models in the service: predictions and jobs equal those of the adapter; the rest is refused."""

import json
import shutil

import pytest
import torch
from running import process, save_adapter, save_clip, service

import videossp
from videossp.errors import WeightsError
from videossp.exporting.export import export
from videossp.exporting.exported import ExportedClassifier
from videossp.serving.adapters import Adapters


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    save_adapter(folder / "one", "moments", seed=1)
    export(folder / "one", folder / "model.onnx")
    export(folder / "one", folder / "pairs.onnx", batch=2)
    save_clip(folder / "a.mp4")
    return folder


def test_predictions_of_the_service_are_those_of_the_adapter(root):
    (expected,) = videossp.load(root / "one").predict(root / "a.mp4")
    with service([root / x for x in ("model.onnx", "one", "pairs.onnx")], temporary=root) as client:
        answer = client.post("/v1/predict?model=model&model=one&model=pairs&top_k=2", root / "a.mp4")
        assert [x["model"] for x in answer.json] == ["model", "one", "pairs"]
        for x in answer.json:
            found = {y["label"]: y["score"] for y in x["predictions"]}
            assert found == pytest.approx(expected.probabilities, abs=1e-4)
        jobs = [client.job(f"/v1/jobs?model={x}", root / "a.mp4") for x in ("model", "one")]
        assert jobs[0]["segments"] == [
            x | {"probability": pytest.approx(x["probability"], abs=1e-4)} for x in jobs[1]["segments"]
        ]
        for path in ("explain", "embed"):
            refused = client.post(f"/v1/{path}?model=model", root / "a.mp4")
            assert refused.status == 422 and b"model is an exported model" in refused.body
        models = {x["name"]: x for x in client.get("/v1/models").json["models"]}
        same = ("method", "classes", "frames", "size", "views", "backbone", "video_seconds")
        assert all(models["model"][x] == models["one"][x] for x in same)


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_the_custom_operator_is_compiled_by_the_service_not_taken_from_the_folder(root, tmp_path):
    export(root / "one", tmp_path / "fast.onnx", custom_op=True)
    (tmp_path / "selective_scan.so").write_bytes(b"not to be loaded")
    (expected,) = videossp.load(root / "one").predict(root / "a.mp4")
    (found,) = ExportedClassifier(tmp_path / "fast.onnx").eval().predict(root / "a.mp4")
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-4)


def test_a_model_whose_operator_cannot_be_compiled_is_refused(root, tmp_path, monkeypatch):
    shutil.copy(root / "model.onnx", tmp_path)
    about = json.loads((root / "model.json").read_text()) | {"custom_op": "selective_scan.so"}
    (tmp_path / "model.json").write_text(json.dumps(about))
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(WeightsError, match=r"model.onnx: cannot be loaded: .* needs a C compiler"):
        ExportedClassifier(tmp_path / "model.onnx")


def test_the_command_serves_an_exported_model(root):
    with process(root / "model.onnx") as client:
        assert [x["name"] for x in client.get("/v1/models").json["models"]] == ["model"]


def test_a_model_that_was_replaced_is_loaded(root, tmp_path):
    for name in ("model.onnx", "model.json"):
        shutil.copy(root / name, tmp_path)
    adapters = Adapters(torch.device("cpu"))
    first = adapters.add(tmp_path / "model.onnx")
    save_adapter(tmp_path / "two", "linear", seed=2, classes=("red", "green"))
    export(tmp_path / "two", tmp_path / "new.onnx")
    (tmp_path / "new.json").replace(tmp_path / "model.json")
    adapters.reload_changed()
    kept = adapters.get("model")
    assert kept.classifier is first.classifier and "describes another model" in kept.error
    (tmp_path / "new.onnx").replace(tmp_path / "model.onnx")
    adapters.reload_changed()
    assert adapters.get("model").classifier.classes == ("red", "green")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.with_suffix(".json").unlink(), "No such file"),
        (lambda file: file.with_suffix(".json").write_text("{}"), "model.json: lacks 'format'"),
        (lambda file: file.with_suffix(".json").write_text('{"format": 2}'), "format 2; this version"),
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "describes another model"),
        (lambda file: file.unlink(), "No such file"),
    ],
)
def test_a_damaged_model_is_one_line(root, tmp_path, damage, words):
    for name in ("model.onnx", "model.json"):
        shutil.copy(root / name, tmp_path)
    damage(tmp_path / "model.onnx")
    with pytest.raises(WeightsError, match=words) as caught:
        Adapters(torch.device("cpu")).add(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_model_is_one_line_though_its_hash_is_right(tmp_path, root):
    import hashlib

    about = json.loads((root / "model.json").read_text())
    (tmp_path / "model.onnx").write_bytes(b"no model")
    (tmp_path / "model.json").write_text(
        json.dumps(about | {"sha256": hashlib.sha256(b"no model").hexdigest()})
    )
    with pytest.raises(WeightsError, match="cannot be loaded") as caught:
        ExportedClassifier(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_a_precision_that_the_file_does_not_have_is_refused(root):
    with pytest.raises(WeightsError, match="computes in float32: leave out --precision"):
        Adapters(torch.device("cpu"), precision="bf16").add(root / "model.onnx")


def test_an_exported_model_predicts_in_python_and_has_no_features(root):
    model = ExportedClassifier(root / "model.onnx")
    (found,) = videossp.predict(model, root / "a.mp4")
    (expected,) = videossp.load(root / "one").predict(root / "a.mp4")
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-4)
    with pytest.raises(ValueError, match="an exported model has no features"):
        model.features(torch.zeros(1, 3, 4, 32, 32))
    with pytest.raises(ValueError, match="explain the adapter"):
        videossp.explain(model, root / "a.mp4")
    with pytest.raises(ValueError, match="computes in float32"):
        model.to_precision("bf16")
