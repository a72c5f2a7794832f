"""The REST API: its answers equal those of the package, for the same files."""

import asyncio
import http.client
import json
import re
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from running import save_adapter, save_clip, service

import videossp
from videossp.watching.watch import watch


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    save_adapter(folder / "one", seed=1)
    save_adapter(folder / "two", seed=2, classes=("red", "green", "blue"))
    save_adapter(folder / "plain", method="linear")
    save_adapter(folder / "larger", method="linear", size=32, frames=2)
    for i in range(4):
        save_clip(folder / f"{i}.mp4", seed=i)
    return folder


@pytest.fixture(scope="module")
def client(root):
    with service([root / x for x in ("one", "two", "plain", "larger")], temporary=root) as found:
        yield found


def test_a_prediction_is_that_of_the_package_in_the_shape_of_hugging_face(client, root):
    answer = client.post("/v1/models/two/predict?top_k=2", root / "0.mp4")
    (expected,) = videossp.load(root / "two").predict(root / "0.mp4")
    assert answer.status == 200 and len(answer.json) == 2
    for found, (label, p) in zip(answer.json, expected.probabilities.items(), strict=False):
        assert found == {"label": label, "score": pytest.approx(p, abs=1e-5)}
    assert all(x in answer.headers["server-timing"] for x in ("upload;", "decode;", "model;"))


def test_several_adapters_answer_in_the_order_of_the_request_also_of_other_clips(client, root):
    names = ["plain", "larger", "one", "two"]
    answer = client.post(f"/v1/predict?model={'&model='.join(names)}&top_k=9", root / "1.mp4")
    assert [x["model"] for x in answer.json] == names
    for x in answer.json:
        (expected,) = videossp.load(root / x["model"]).predict(root / "1.mp4")
        found = {y["label"]: y["score"] for y in x["predictions"]}
        assert found == pytest.approx(expected.probabilities, abs=1e-5)


def test_an_explanation_is_that_of_the_package_with_the_times_of_its_frames(client, root):
    answer = client.post("/v1/explain?model=two&class=red&steps=3", root / "0.mp4").json
    expected = videossp.explain(videossp.load(root / "two"), root / "0.mp4", target="red", steps=3)
    assert answer["target"] == "red" and answer["method"] == "integrated_gradients"
    assert np.allclose(answer["map"], expected.map, atol=1e-5)
    assert np.allclose(answer["frame_drops"], expected.frame_drops, atol=1e-5)
    assert answer["seconds"] == pytest.approx(expected.seconds)
    assert len(answer["frames"]) == 4 and all(
        x.startswith("data:image/jpeg;base64,") for x in answer["frames"]
    )


def test_an_embedding_is_that_of_the_package(client, root):
    for kind in ("cls", "mean", "moments"):
        answer = client.post(f"/v1/embed?model=one&features={kind}", root / "0.mp4").json
        expected = videossp.embed(videossp.load(root / "one"), root / "0.mp4", features=kind)
        assert np.allclose(answer["vector"], expected.vectors[0], atol=1e-5)


def test_a_job_finds_the_segments_of_watch(client, root, tmp_path):
    video = save_clip(tmp_path / "long.mp4", frames=60)
    job = client.job("/v1/jobs?model=two", video)
    expected = [*watch(videossp.load(root / "two"), video)]
    assert job["status"] == "done" and job["progress"] == 1 and job["seconds"] == pytest.approx(5.0)
    assert [(x["start"], x["end"], x["label"]) for x in job["segments"]] == [
        (x.start, x.end, x.label) for x in expected
    ]
    chosen = client.job("/v1/jobs?model=two&window=1&hop=0.5", video)
    assert chosen["status"] == "done" and chosen["segments"] != job["segments"]


def test_a_damaged_recording_is_a_failed_job_with_its_reason_and_without_a_path(client, root, tmp_path):
    video = save_clip(tmp_path / "long.mp4", frames=60)
    content = video.read_bytes()
    video.write_bytes(content[:-2000])
    found = client.post("/v1/jobs?model=two", video)  # its index is at the end: seen at once
    assert found.status == 422 and "truncated" in found.error and str(tmp_path) not in found.error
    assert client.post("/v1/jobs?model=two", b"text").status == 415
    middle = len(content) // 2
    video.write_bytes(content[:middle] + bytes(9000) + content[middle + 9000 :])
    job = client.job("/v1/jobs?model=two", video)
    assert job["status"] == "failed" and "damaged" in job["error"] and "/" not in job["error"]


def test_a_job_of_too_many_windows_fails_at_once(client, root, monkeypatch):
    monkeypatch.setattr("videossp.serving.job_windows.MOST_WINDOWS", 100)
    job = client.job("/v1/jobs?model=two&window=0.001&hop=0.001", root / "0.mp4")
    assert job["status"] == "failed" and job["error"].startswith("1,0") and "longer hop" in job["error"]


def test_a_job_can_be_cancelled_and_its_id_is_a_secret(client, root, tmp_path):
    video = save_clip(tmp_path / "long.mp4", frames=240)
    ids = [client.post("/v1/jobs?model=two&hop=0.05&window=0.5", video).json["id"] for _ in range(2)]
    assert client("DELETE", f"/v1/jobs/{ids[1]}").status == 200
    assert client.until_finished(ids[1])["status"] == "cancelled"
    assert client.until_finished(ids[0])["status"] == "done"
    assert all(len(x) >= 20 for x in ids) and client.get("/v1/jobs/1").status == 404


def test_a_cancelled_job_leaves_the_queue_at_once(root, tmp_path):
    """The first job is held: the second one is cancelled, and its place and its file are free."""
    with service([root / "two"], temporary=tmp_path, job_queue=2) as client:
        held, go_on = threading.Event(), threading.Event()
        client.service.jobs._thread.submit(lambda: (held.set(), go_on.wait()))
        held.wait()
        ids = [client.post("/v1/jobs?model=two", root / "0.mp4").json["id"] for _ in range(2)]
        assert client.post("/v1/jobs?model=two", root / "0.mp4").status == 429
        client("DELETE", f"/v1/jobs/{ids[1]}")
        assert client.until_finished(ids[1])["status"] == "cancelled"
        (folder,) = tmp_path.iterdir()
        assert len([*folder.iterdir()]) == 2  # the lock and the first video
        third = client.post("/v1/jobs?model=two", root / "0.mp4")
        go_on.set()
        assert [client.until_finished(x)["status"] for x in (ids[0], third.json["id"])] == ["done"] * 2


def test_a_job_and_an_explanation_have_a_limit_of_time(root, tmp_path):
    video = save_clip(tmp_path / "long.mp4", frames=60)
    with service([root / "two"], job_timeout=1e-6, explain_timeout=1e-6) as client:
        job = client.job("/v1/jobs?model=two", video)
        assert job["status"] == "failed" and "not finished within 1e-06 s" in job["error"]
        found = client.post("/v1/explain?model=two", root / "0.mp4")
        assert found.status == 422 and "longer than 1e-06 s" in found.error


def test_an_explanation_ends_when_its_client_is_gone_and_the_next_one_is_computed(root, monkeypatch):
    """Of a client that leaves in the middle: the computation ends at its next step."""
    from videossp.serving import service as module

    steps, started = [], threading.Event()

    def slow(classifier, clip, targets, settings, *, report):
        started.set()
        for i in range(10_000):
            steps.append(i)
            time.sleep(0.01)
            report(1)
        pytest.fail("it was not ended")

    with service([root / "two"], explain_queue=1) as client:
        with monkeypatch.context() as patch:
            patch.setattr(module, "explain_classes", slow)
            connection = http.client.HTTPConnection(client.host, int(client.port))
            connection.request("POST", "/v1/explain?model=two", (root / "0.mp4").read_bytes())
            assert started.wait(60)
            assert client.post("/v1/explain?model=two", root / "0.mp4").status == 429
            connection.sock.close()
            connection.close()
            while client.service.explain_gate.inside:
                time.sleep(0.01)
        assert client.post("/v1/explain?model=two&steps=1", root / "0.mp4").status == 200


def test_a_client_that_leaves_during_many_tasks_of_label_studio_ends_them_all(root, monkeypatch):
    """The decoders are held: only the first task reaches them, and its decode is cancelled."""
    with service([root / "two"], label_studio=root) as client:
        calls, cancelled = [], threading.Event()

        async def held(function, path):
            calls.append(path)
            try:
                await asyncio.sleep(600)
            finally:
                cancelled.set()

        with monkeypatch.context() as patch:
            patch.setattr(client.service.decoders, "call", held)
            tasks = [{"id": i, "data": {"clip": "/data/local-files/?d=0.mp4"}} for i in range(20)]
            body = json.dumps({"tasks": tasks, "label_config": INTERFACE})
            connection = http.client.HTTPConnection(client.host, int(client.port))
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/label-studio/two/predict", body, headers)
            while not calls:
                time.sleep(0.01)
            connection.sock.close()
            connection.close()
            assert cancelled.wait(60)
        while client.service.gate.inside:
            time.sleep(0.01)
        assert len(calls) == 1
        assert client.post("/v1/models/two/predict", root / "0.mp4").status == 200


def test_slow_senders_of_json_do_not_hold_the_queue(root):
    """A request of KServe counts when its body is there."""
    kind = "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000"
    with (
        service([root / "two"], queue=1) as client,
        socket.create_connection((client.host, int(client.port))) as slow,
    ):
        slow.sendall(f"POST /v2/models/two/infer HTTP/1.1\r\n{kind}\r\n\r\n{{".encode())
        while not client.service._budget.used:
            time.sleep(0.01)
        assert client.post("/v1/models/two/predict", root / "0.mp4").status == 200


def test_the_folder_of_uploads_is_made_again_if_the_system_has_removed_it(root, tmp_path):
    with service([root / "two"], temporary=tmp_path) as client:
        (folder,) = tmp_path.iterdir()
        shutil.rmtree(folder)
        assert client.post("/v1/models/two/predict", root / "0.mp4").status == 200
        (new,) = tmp_path.iterdir()
        assert [x.name for x in new.iterdir()] == ["lock"]
    assert not list(tmp_path.iterdir())


def test_requests_do_not_wait_for_adapters_that_are_loaded(root, monkeypatch):
    """Loading has a thread of its own. Predictions need none of the threads that requests share."""
    with service([root / "two"], below=root) as client:
        loading, go_on = threading.Event(), threading.Event()

        def load(folder, name):
            loading.set()
            go_on.wait()
            raise OSError

        monkeypatch.setattr(client.service.adapters, "load_below", load)
        with ThreadPoolExecutor(20) as threads:
            body = {"folder": "one"}
            waiting = [threads.submit(client.post, "/v1/adapters", body) for _ in range(20)]
            assert loading.wait(60)
            assert client.post("/v1/models/two/predict", root / "0.mp4").status == 200
            go_on.set()
        statuses = [x.result().status for x in waiting]
        assert set(statuses) == {429, 500} and statuses.count(500) >= 8


def test_the_models_are_described(client, root):
    found = {x["name"]: x for x in client.get("/v1/models").json["models"]}
    assert found["two"]["classes"] == ["red", "green", "blue"] and found["two"]["error"] is None
    assert found["larger"]["size"] == [32, 32] and found["larger"]["frames"] == 2
    assert client.get("/v1/models/two").json == found["two"]
    assert found["one"]["backbone"] == videossp.load(root / "one").sha256


def test_health_and_metrics(client, root):
    assert client.get("/health/live").json == {"status": "live"}
    assert client.get("/health/ready").json == {"status": "ready"}
    client.post("/v1/models/one/predict", root / "0.mp4")
    text = client.get("/metrics").body.decode()
    assert 'videossp_requests_total{route="/v1/models/{name}/predict",status="200"}' in text
    assert "videossp_adapters 4.0" in text and "videossp_backbones 2.0" in text  # one of another size


def test_the_api_is_described_and_every_route_has_a_purpose(client):
    document = client.get("/openapi.json").json
    routes = {
        "/v1/models",
        "/v1/models/{name}/predict",
        "/v1/predict",
        "/v1/explain",
        "/v1/embed",
        "/v1/jobs",
        "/v1/adapters",
        "/v2/models/{name}/infer",
        "/label-studio/{name}/predict",
    }
    assert routes <= document["paths"].keys()
    for path in document["paths"].values():
        assert all(x["description"] for x in path.values())
    assert (
        b"swagger-ui" in client.get("/docs").body and client.get("/docs/swagger-ui-bundle.js").status == 200
    )


def test_the_open_inference_protocol_takes_base64(client, root):
    import base64

    videos = [base64.b64encode((root / f"{i}.mp4").read_bytes()).decode() for i in (0, 1)]
    body = {"id": "7", "inputs": [{"name": "video", "datatype": "BYTES", "shape": [2], "data": videos}]}
    answer = client.post("/v2/models/two/infer", body).json
    expected = videossp.load(root / "two").predict([root / "0.mp4", root / "1.mp4"])
    probabilities, labels = answer["outputs"]
    assert answer["id"] == "7" and labels["data"] == [x.label for x in expected]
    rows = np.reshape(probabilities["data"], probabilities["shape"])
    for row, x in zip(rows, expected, strict=True):
        assert row == pytest.approx([x.probabilities[y] for y in ("red", "green", "blue")], abs=1e-5)
    assert client.get("/v2/models/two").json["outputs"][0]["shape"] == [-1, 3]
    assert client.get("/v2/models/two/ready").json["ready"] and client.get("/v2/health/live").json["live"]
    for data, shape, text in ((["!"], [1], "base64"), (videos, [1], "shape"), ([], [0], "data")):
        body["inputs"][0] |= {"data": data, "shape": shape}
        wrong = client.post("/v2/models/two/infer", body)
        assert wrong.status == 422 and text in wrong.json["error"]


INTERFACE = """<View><Video name="video" value="$clip"/>
<Choices name="what" toName="video"><Choice value="red"/><Choice value="green"/><Choice value="blue"/>
</Choices>
<TimelineLabels name="parts" toName="video"><Label value="red"/><Label value="green"/><Label value="blue"/>
</TimelineLabels></View>"""


def test_label_studio_gets_choices_and_ranges_for_files_below_its_folder(root):
    with service([root / "two"], label_studio=root) as client:
        assert client.get("/label-studio/two/health").json["status"] == "UP"
        body = {"project": "1", "schema": INTERFACE, "extra_params": None}
        version = client.post("/label-studio/two/setup", body).json["model_version"]
        names = ["0.mp4", "../secret.mp4", "one/adapter_config.json"]
        tasks = [{"id": i, "data": {"clip": f"/data/local-files/?d={x}"}} for i, x in enumerate(names)]
        tasks.append({"id": 9, "data": {"clip": "http://127.0.0.1/0.mp4"}})
        found = client.post("/label-studio/two/predict", {"tasks": tasks, "label_config": INTERFACE}).json
        (expected,) = videossp.load(root / "two").predict(root / "0.mp4")
        choice, *ranges = found["results"][0]["result"]
        assert choice["value"] == {"choices": [expected.label]} and choice["type"] == "choices"
        assert choice["from_name"] == "what" and choice["to_name"] == "video"
        assert all(x["type"] == "timelinelabels" and x["value"]["ranges"][0]["start"] >= 1 for x in ranges)
        assert found["model_version"] == version
        errors = [x["error"] for x in found["results"]]
        assert errors[0] is None and "no file" in errors[1] and "local storage" in errors[3]
        assert errors[2] and [x["result"] for x in found["results"][1:]] == [[], [], []]
        wrong = client.post("/label-studio/two/setup", body | {"schema": INTERFACE.replace("blue", "pink")})
        assert wrong.status == 422 and "lacks classes of two: blue" in wrong.error
        many = "<View><Video name='v' value='$v'/>" + "<Choices name='c' toName='v'/>" * 17 + "</View>"
        wrong = client.post("/label-studio/two/setup", body | {"schema": many})
        assert wrong.status == 422 and "more than 16" in wrong.error
        bomb = '<!DOCTYPE a [<!ENTITY b "c">]><View/>'
        assert client.post("/label-studio/two/setup", body | {"schema": bomb}).status == 422


def test_without_its_folder_label_studio_reads_no_file(client):
    body = {"tasks": [], "label_config": INTERFACE}
    assert client.post("/label-studio/two/predict", body).status == 403


def test_no_file_stays_behind(client, root):
    for path, body in (
        ("/v1/models/one/predict", root / "0.mp4"),
        ("/v1/models/one/predict", b"no video"),
        ("/v1/embed?model=one", root / "0.mp4"),
    ):
        client.post(path, body)
    (folder,) = root.glob("videossp-serve-*")
    assert [x.name for x in folder.iterdir()] == ["lock"]


def test_the_page_and_its_files_name_no_other_server(client):
    page = Path(videossp.__file__).parent / "serving/page"
    assert client.get("/").body == (page / "index.html").read_bytes()
    sizes = []
    for file in page.iterdir():
        answer = client.get(f"/page/{file.name}")
        others = re.findall(rb"[a-z]+://(?!www\.w3\.org/2000/svg)", answer.body)  # the name of SVG
        assert answer.body == file.read_bytes() and not others
        sizes.append(len(answer.body))
    assert sum(sizes) < 100_000


def test_json_of_the_api_has_no_value_that_is_no_number(client, root):
    text = client.post("/v1/explain?model=one&steps=1", root / "0.mp4").body.decode()
    json.loads(text, parse_constant=lambda x: pytest.fail(x))
