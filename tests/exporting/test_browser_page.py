"""The page of examples/browser/: an exported model in Chromium, by onnxruntime-web."""

import functools
import http.server
import json
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import videossp
from conftest import SMALL, browser_program
from videossp import Classifier, TrainConfig, export, predict
from videossp.data.clips import read_views

playwright = pytest.importorskip("playwright.sync_api", reason="playwright: make test-web installs it")
pytestmark = pytest.mark.slow  # make test-web

EXAMPLE = Path(__file__).parents[2] / "examples/browser"
RUNTIME = "onnxruntime-web@1.30.0"  # of npm; only this test downloads it
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """A folder with the files of onnxruntime-web."""
    if shutil.which("npm") is None:
        pytest.skip("npm, which downloads onnxruntime-web, is not installed")
    folder = tmp_path_factory.mktemp("runtime")
    done = subprocess.run(["npm", "pack", RUNTIME], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm cannot download {RUNTIME}: {done.stderr[-200:]}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        for name in FILES:
            (folder / name).write_bytes(archive.extractfile(f"package/dist/{name}").read())
    return folder


@pytest.fixture(scope="module")
def site(runtime, class_folder, tmp_path_factory):
    """(classifier, folder of the page, its address): a model of two easy classes, exported and served."""
    folder = tmp_path_factory.mktemp("site")
    classifier = Classifier.create(SMALL, classes=["bright", "dark"], method="moments")
    data = videossp.read_data(class_folder)
    config = TrainConfig(epochs=6, lr=0.01, batch_size=4, val_fraction=0)
    videossp.train(classifier, data, config, out=tmp_path_factory.mktemp("run") / "run")
    export(classifier, folder / "model.onnx")
    for source in (*EXAMPLE.iterdir(), *(runtime / x for x in FILES)):
        shutil.copy(source, folder)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield classifier, folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(site):
    """The opened page; at the end, it asked no other server and reported no error."""
    program = browser_program()
    _, _, address = site
    problems, asked = [], []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=FLAGS)
        opened = browser.new_page()
        opened.on("pageerror", lambda error: problems.append(str(error)))
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(f"{address}/index.html")
        opened.get_by_text("Choose a video.").wait_for(timeout=60_000)
        yield opened
        browser.close()
    assert problems == []
    assert [x for x in asked if not x.startswith((address, "blob:", "data:"))] == []


def test_a_clip_has_the_probabilities_of_the_package(site, page):
    classifier, folder, _ = site
    clips = torch.randn(4, 3, SMALL.frames, *SMALL.size, generator=torch.Generator().manual_seed(0))
    (folder / "clips.bin").write_bytes(clips.numpy().tobytes())
    found = page.evaluate(
        """async () => {
            const { classify, load } = await import("./classify.js");
            const clips = new Float32Array(await (await fetch("clips.bin")).arrayBuffer());
            const model = await load(), size = clips.length / 4, results = [];
            for (let i = 0; i < 4; i++) {
                results.push(await classify(model, clips.slice(i * size, (i + 1) * size)));
            }
            return results;
        }"""
    )
    wanted = classifier.probabilities(clips).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert (np.argmax(found, 1) == wanted.argmax(1)).all()


def test_the_page_classifies_videos_as_the_package_does(site, page, class_folder):
    classifier, _, _ = site
    for video in sorted((class_folder / "test").rglob("*.mp4")):
        page.locator("#video").set_input_files(video)
        page.locator("#frames canvas").first.wait_for()
        page.get_by_text("ms)").wait_for()
        (wanted,) = predict(classifier, video)
        assert page.locator("#status").text_content().startswith(f"{wanted.label} (")
        assert page.locator("#frames canvas").count() == SMALL.frames
        shown = page.locator("#classes dt").first.text_content()
        assert shown.endswith(f"% {wanted.label}")
        assert float(shown.split()[0]) == pytest.approx(100 * wanted.probability, abs=10)
        page.locator("#video").set_input_files([])


def test_the_frames_of_the_page_are_those_of_the_package(site, page, class_folder):
    classifier, _, _ = site
    video = next((class_folder / "test").rglob("*.mp4"))
    page.locator("#video").set_input_files(video)
    page.locator("#frames canvas").first.wait_for()
    found = page.evaluate(
        """async () => {
            const { clipOf, load } = await import("./classify.js");
            const frames = [...document.querySelectorAll("#frames canvas")];
            return Array.from(clipOf(frames, (await load()).about));
        }"""
    )
    wanted = read_views(str(video), classifier.clip_format)[0].flatten().numpy()
    assert np.corrcoef(found, wanted)[0, 1] > 0.95  # noise, resized by another rule


def test_the_result_of_a_video_is_dropped_if_another_was_chosen(page, class_folder):
    dark, bright = (next((class_folder / "test" / x).glob("*.mp4")) for x in ("dark", "bright"))
    page.evaluate(
        """() => {
            const { get, set } = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "currentTime");
            let first, release;
            const released = new Promise((resolve) => { release = resolve; });
            Object.defineProperty(HTMLMediaElement.prototype, "currentTime", {
                get,
                async set(value) {
                    first ??= this;
                    if (this === first) await released; // the first video waits for its frames
                    set.call(this, value);
                },
            });
            const revoke = URL.revokeObjectURL;
            window.release = () => new Promise((resolve) => {
                URL.revokeObjectURL = (url) => { revoke(url); setTimeout(resolve, 500); };
                release();
            });
        }"""
    )
    page.locator("#video").set_input_files(dark)
    page.get_by_text("Computing").wait_for()
    page.locator("#video").set_input_files(bright)
    page.get_by_text("ms)").wait_for()
    shown = page.locator("body").inner_text()
    assert "bright (" in shown
    page.evaluate("release()")  # until the first video was read, and half a second for its class
    assert page.locator("body").inner_text() == shown


def test_a_model_with_the_custom_operator_is_refused(site, page):
    _, folder, address = site
    about = json.loads((folder / "model.json").read_text()) | {"custom_op": "selective_scan.so"}
    page.route("**/model.json", lambda route: route.fulfill(json=about))
    page.goto(f"{address}/index.html")
    page.get_by_text("exported with --custom-op, which does not run in a browser").wait_for()


def test_a_file_that_is_no_video_is_one_line(page, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    page.locator("#video").set_input_files(tmp_path / "a.mp4")
    page.get_by_text("this browser cannot decode the video").wait_for()
