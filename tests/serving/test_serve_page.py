"""docs/serve.md: its examples in curl, Python and JavaScript run, and its limits are those of the code."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from running import service

from videossp import Classifier
from videossp.bundled import unpack_clips
from videossp.serving.answers import Score
from videossp.serving.job_windows import MOST_WINDOWS
from videossp.serving.service import JOBS_AT_ONCE, MOST_LOADS, VIDEOS_AT_ONCE
from videossp.serving.settings import ServeSettings

PAGE = (Path(__file__).parents[2] / "docs/serve.md").read_text(encoding="utf-8")
CLASSES = ("drawer-close", "drawer-open", "faucet-close", "faucet-open", "window-close", "window-open")


def examples(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The service of the page, and the folder in which its commands run."""
    root = tmp_path_factory.mktemp("page")
    unpack_clips(root / "demo")
    for method in ("ssp", "linear"):
        classifier = Classifier.create("videomamba_nano", classes=CLASSES, method=method)
        with torch.no_grad():
            classifier.head.linear.bias[0] = 5.0  # sure of a class, as a trained adapter is
        classifier.save(root / "demo" / method)
    folders = [root / "demo/ssp", root / "demo/linear"]
    with service(folders, below=root / "demo") as client:
        yield client, root


def here(text, client):
    """An example with the address of the running service."""
    assert "http://127.0.0.1:8000" in text
    return text.replace("http://127.0.0.1:8000", client.url)


def run(command, root):
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("number", range(len(examples("bash"))))
def test_a_command_with_curl_works(running, number):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    client, root = running
    commands = here(examples("bash")[number], client).strip().splitlines()
    answers = [
        run(["bash", "-c", x.replace("curl ", "curl -sS --fail-with-body ", 1)], root) for x in commands
    ]
    shown = examples("json")[number] if number < len(examples("json")) else None
    if shown:
        assert shape_of(json.loads(answers[0])) == shape_of(json.loads(shown))


def shape_of(value):
    """The keys and types of a JSON value."""
    if isinstance(value, list):
        return [shape_of(x) for x in value]
    if isinstance(value, dict):
        return {key: shape_of(x) for key, x in value.items()}
    return type(value)


@pytest.mark.parametrize("number", range(len(examples("python"))))
def test_an_example_in_python_runs(running, number):
    client, root = running
    out = run([sys.executable, "-c", here(examples("python")[number], client)], root)
    assert out.split()[-1] in CLASSES


def test_the_example_in_javascript_runs(running):
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    client, root = running
    (code,) = examples("javascript")
    (root / "example.mjs").write_text(here(code, client))
    assert run(["node", "example.mjs"], root).strip() in CLASSES


def test_the_page_names_every_flag_for_a_limit_and_its_default():
    for name in (
        "max_bytes",
        "max_pixels",
        "max_seconds",
        "max_job_bytes",
        "max_job_seconds",
        "upload_timeout",
    ):
        assert f"`--{name.replace('_', '-')}`" in PAGE
    limits = ServeSettings()
    for text in (
        f"`--max-bytes`, {limits.max_bytes // 10**6} MB",
        f"`--max-job-bytes`, {limits.max_job_bytes // 10**9} GB",
        f"`--max-seconds`, {limits.max_seconds:g} s",
        f"`--max-job-seconds`, {limits.max_job_seconds / 3600:g} hours",
        f"`--upload-timeout`, {limits.upload_timeout:g} s",
        f"`--timeout`, {limits.timeout:g} s",
        f"`--explain-timeout`, {limits.explain_timeout:g} s",
        f"`--job-timeout` seconds ({limits.job_timeout / 3600:g} hours)",
        f"more than {MOST_WINDOWS:,} windows",
        f"loads of adapters, {MOST_LOADS}; bytes of videos that are being received: those of "
        f"{VIDEOS_AT_ONCE} videos and {JOBS_AT_ONCE} jobs",
        f"`--queue`, {limits.queue}; `--explain-queue`, {limits.explain_queue}; ",
        f"`--job-queue`, {limits.job_queue}; ",
        f"`--batch-size` ({limits.batch_size})",
        f"`--batch-wait` seconds ({limits.batch_wait:g})",
        f"`--grace` seconds ({limits.grace:g})",
        f"`--keep-jobs`, {limits.keep_jobs / 3600:g} hour",
    ):
        assert text in PAGE, text


def test_the_page_explains_every_status_that_the_api_describes(running):
    client, _ = running
    paths = client.get("/openapi.json").json["paths"].values()
    described = {x for path in paths for route in path.values() for x in route["responses"]}
    explained = set(re.findall(r"^\| (4\d\d|5\d\d) \|", PAGE, re.MULTILINE))
    assert {x for x in described if x[0] in "45"} == explained


def test_the_page_lists_every_route_below_v1_and_no_other(running):
    client, _ = running
    routes = {
        f"{method.upper()} {path.replace('{name}', 'NAME').replace('{id}', 'ID')}"
        for path, methods in client.get("/openapi.json").json["paths"].items()
        for method in methods
        if not path.startswith(("/v2", "/label-studio"))
    }
    listed = {x.split("?")[0] for x in re.findall(r"`((?:GET|POST|DELETE) /[^`]*)`", PAGE)}
    assert routes == {x for x in listed if x not in ("GET /docs", "GET /openapi.json")}


def test_the_shape_of_a_prediction_is_that_of_the_task_of_hugging_face():
    """VideoClassificationOutputElement of huggingface_hub: label and score."""
    from dataclasses import fields

    from huggingface_hub import VideoClassificationOutputElement

    assert {x.name for x in fields(VideoClassificationOutputElement)} == set(Score.model_fields)
