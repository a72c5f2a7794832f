"""`videossp eval` and `videossp predict` use the precision and the views of the adapter."""

import json

import pytest

from videossp.classifier import Classifier
from videossp.load_adapter import load


@pytest.fixture
def adapter(small_backbone, tmp_path):
    """A function that saves a linear probe with these views and this training precision."""

    def make(precision, views=(1, 1)):
        classifier = Classifier.create(
            small_backbone, classes=["bright", "dark"], method="linear", views=views, sampling="dense"
        )
        classifier.to_precision(precision)
        folder = tmp_path / f"{precision}-{views[0]}-{views[1]}"
        classifier.save(folder)
        return folder

    return make


@pytest.mark.parametrize(("precision", "views"), [("bf16", (1, 1)), ("float32", (3, 2)), ("bf16", (2, 3))])
def test_predict_takes_precision_and_views_from_the_adapter(call, adapter, class_folder, precision, views):
    video = str(class_folder / "test" / "dark" / "0.mp4")
    folder = adapter(precision, views)
    code, stdout, stderr = call("predict", folder, video, "--json")
    assert code == 0 and stderr == ""
    classifier = load(folder).to_precision(precision)
    (expected,) = classifier.predict([video], segments=views[0], crops=views[1])
    assert {x["class"]: x["probability"] for x in json.loads(stdout)["top"]} == expected.probabilities


def test_eval_takes_precision_and_views_from_the_adapter(call, adapter, class_folder):
    folder = adapter("bf16", (2, 3))
    code, stdout, stderr = call("eval", folder, class_folder, "--json")
    result = json.loads(stdout)
    assert code == 0 and stderr == "" and result["views"] == "2 x 3"
    code, stdout, _ = call("eval", folder, class_folder, "--json", "--precision", "bf16")
    assert json.loads(stdout) == result
    code, stdout, _ = call("eval", folder, class_folder, "--json", "--precision", "float32")
    assert json.loads(stdout)["loss"] != result["loss"]


def test_a_test_set_of_one_class_is_evaluated_but_not_trained(call, adapter, class_folder, tmp_path):
    rows = "".join(f"{x.absolute()},dark,test\n" for x in sorted((class_folder / "test/dark").iterdir()))
    (tmp_path / "dark.csv").write_text(f"path,label,split\n{rows}")
    folder = adapter("float32")
    code, stdout, stderr = call("eval", folder, tmp_path / "dark.csv", "--json")
    assert code == 0 and stderr == "" and sum(json.loads(stdout)["confusion"][1]) == rows.count("\n")
    code, _, stderr = call("train", tmp_path / "dark.csv", "--out", tmp_path / "run")
    assert code != 0 and "1 classes found, at least two are needed" in stderr


@pytest.mark.parametrize("verb", ["predict", "eval"])
def test_flags_override_the_adapter_and_the_deviation_is_reported(call, adapter, class_folder, verb):
    folder = adapter("bf16", (2, 3))
    code, _, stderr = call(verb, folder, class_folder / "test", "--precision", "float32", "--crops", 1)
    assert code == 0
    assert "trained with --precision bf16, computed with float32: results may differ slightly" in stderr
    assert "views (segments x crops) 2 x 1; the adapter's are 2 x 3" in stderr
    code, _, stderr = call(verb, adapter("float32"), class_folder / "test", "--precision", "bf16")
    assert code == 0 and "trained with --precision float32, computed with bf16" in stderr
    assert "views" not in stderr


@pytest.mark.parametrize(("split", "warned"), [("train", True), ("test", False)])
def test_eval_on_training_videos_warns(call, adapter, class_folder, split, warned):
    code, _, stderr = call("eval", adapter("float32"), class_folder, "--split", split)
    text = "videossp: these are training videos: the adapter may have been trained on them\n"
    assert code == 0 and stderr == text * warned
