"""`videossp serve`: what it refuses, how it starts and stops, tokens and hosts."""

import base64
import errno
import json
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from running import Client, process, save_adapter, save_clip, service

TOKEN = "0123456789abcdef-secret"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    save_adapter(folder / "one")
    save_adapter(folder / "more/two", seed=2)
    save_clip(folder / "clip.mp4")
    (folder / "token").write_text(f"{TOKEN}\nnot this line\n")
    return folder


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ([], "name at least one ADAPTER"),
        (["--host", "0.0.0.0"], "reached from other machines: give --token-file FILE, or --insecure"),
        (["--host", "::"], "--insecure"),
        (["--host", "no.such.host.invalid", "--insecure"], "--host no.such.host.invalid"),
        (["--port", "70000"], "--port must be 0 to 65535"),
        (["--adapters", "nowhere"], "--adapters nowhere: no such folder"),
        (["--token-file", "nowhere"], "cannot be read"),
        (["--token-file", "short"], "at least 16 ASCII characters"),
        (["--load-all", "true"], "--load-all true needs a folder, --adapters FOLDER"),
        (["--queue", "0"], "queue must be positive"),
        (["--max-bytes", "-1"], "max_bytes must be positive"),
        (["--timeout", "nan"], "must be a number"),
    ],
)
def test_settings_that_cannot_be_are_one_line(call, root, tmp_path, monkeypatch, flags, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("abc")
    code, out, err = call("serve", *([root / "one"] if flags else []), *flags)
    assert code in (1, 2) and not out and text in err and len(err.splitlines()) == 1


def test_an_adapter_that_cannot_be_loaded_ends_the_start(call, root):
    code, _, err = call("serve", root / "nothing", "--port", 0)
    assert code == 4 and "no adapter here" in err
    code, _, err = call("serve", root / "one", root / "one", "--port", 0)
    assert code == 2 and "two adapters are named one" in err


def test_a_folder_for_videos_that_cannot_be_used_is_one_line(call, root, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("videossp.serving.uploads.tempfile.mkdtemp", full)
    code, _, err = call("serve", root / "one", "--port", 0, "--temporary", tmp_path)
    last = err.splitlines()[-1]
    assert code == 1 and "No space left on device; choose another folder with --temporary" in last


def test_a_port_that_is_taken_is_one_line(call, root):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, _, err = call("serve", root / "one", "--port", other.getsockname()[1])
    assert code == 1 and "cannot listen on 127.0.0.1" in err and "choose another --port" in err


def test_sigterm_finishes_the_requests_that_run_and_leaves_nothing(root, tmp_path):
    """Four explanations are sent, one after the other is computed; SIGTERM comes meanwhile."""
    flags = ["--temporary", tmp_path, "--explain-queue", 4, "--device", "cpu"]
    with process(root / "one", "--adapters", root / "more", "--load-all", "true", *flags) as client:
        assert [x["name"] for x in client.get("/v1/models").json["models"]] == ["one", "two"]
        answers = []

        def explain():
            answers.append(client.post("/v1/explain?model=one&steps=8", root / "clip.mp4").status)

        threads = [threading.Thread(target=explain) for _ in range(4)]
        for x in threads:
            x.start()
        while "videossp_decode_seconds_count 4" not in client.get("/metrics").body.decode():
            time.sleep(0.02)
        client.process.send_signal(signal.SIGTERM)
        for x in threads:
            x.join()
        assert client.process.wait(300) == 0
        assert answers == [200] * 4
        with pytest.raises(OSError):
            client.get("/health/live")
        assert "stopped" in client.process.stderr.read()
    assert not list(tmp_path.iterdir())


def test_after_sigterm_jobs_finish_and_their_results_can_be_read(root, tmp_path):
    with service([root / "one"], temporary=tmp_path, grace=60) as client:
        video = save_clip(tmp_path / "long.mp4", frames=60)
        ids = [client.post("/v1/jobs?model=one&hop=0.02&window=0.5", video).json["id"] for _ in range(2)]
        client.server.read_results = 600.0
        client.server.stop()
        for path in ("/health/ready", "/v2/health/ready", "/v2/models/one/ready"):
            assert client.get(path).status == 503
        assert client.get("/health/live").status == 200
        assert client.post("/v1/jobs?model=one", root / "clip.mp4").status == 503
        found = client.post("/v1/models/one/predict", root / "clip.mp4")
        assert found.status == 503 and "stopping" in found.error and found.headers["retry-after"]
        assert [client.until_finished(x)["status"] for x in ids] == ["done", "done"]
        client.server.read_results = 0.0
    assert [x.name for x in tmp_path.iterdir()] == ["long.mp4"]


def test_a_job_that_outlasts_the_grace_is_ended(root, tmp_path):
    video = save_clip(tmp_path / "long.mp4", frames=240)
    with service([root / "one"], temporary=tmp_path, grace=0.1) as client:
        assert client.post("/v1/jobs?model=one&hop=0.005&window=0.5", video).status == 202
    assert [x.name for x in tmp_path.iterdir()] == ["long.mp4"]


def test_a_second_server_on_the_same_port_ends_before_it_loads_anything(call, root):
    with service([root / "one"]) as client:
        code, _, err = call("serve", root / "nothing", "--port", client.port)
    assert code == 1 and "cannot listen on" in err and len(err.splitlines()) == 1


def test_all_adapters_of_a_folder_are_loaded_those_that_are_named_already_once(root):
    with process(root / "one", "--adapters", root, "--load-all", "true") as client:
        assert [x["name"] for x in client.get("/v1/models").json["models"]] == ["one", "two"]


def test_a_second_signal_ends_the_process_at_once_and_leaves_nothing(root, tmp_path):
    with process(root / "one", "--temporary", tmp_path, "--grace", 600) as client:
        video = save_clip(tmp_path / "long.mp4", frames=480)
        assert client.post("/v1/jobs?model=one&hop=0.01", video).status == 202
        client.process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            client.process.wait(2)  # the job runs on
        client.process.send_signal(signal.SIGINT)
        assert client.process.wait(300) == 128 + signal.SIGINT
    assert [x.name for x in tmp_path.iterdir()] == ["long.mp4"]


def test_what_a_killed_server_leaves_is_removed_by_the_next_start(root, tmp_path):
    with process(root / "one", "--temporary", tmp_path) as client:
        (folder,) = tmp_path.iterdir()
        (folder / "upload").write_bytes(b"video")
        with service(
            [root / "one"], temporary=tmp_path
        ):  # another server does not touch those of a running one
            assert (folder / "upload").exists() and len(list(tmp_path.iterdir())) == 2
        client.process.kill()
        client.process.wait()
        assert (folder / "upload").exists()
    with service([root / "one"], temporary=tmp_path):
        assert not folder.exists()
    assert not list(tmp_path.iterdir())


def test_a_token_opens_everything_but_the_page_and_the_health_checks(root):
    from videossp.serving.serve import read_token

    with service([root / "one"], token=read_token(root / "token")) as client:
        stranger = Client(client.url)
        for path in ("/v1/models", "/metrics", "/v1/adapters", "/v2/models/one", "/label-studio/one/health"):
            refused = stranger.get(path)
            assert refused.status == 401 and refused.headers["www-authenticate"] == "Bearer"
            assert client.get(path).status == 200
        for path in ("/", "/page/style.css", "/health/live", "/health/ready", "/docs", "/openapi.json"):
            assert stranger.get(path).status == 200
        assert stranger.post("/v1/models/one/predict", root / "clip.mp4").status == 401
        basic = base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
        for header, status in (
            (f"Basic {basic}", 200),
            (f"bearer {TOKEN}", 200),
            (TOKEN, 401),
            (f"Bearer {TOKEN}x", 401),
            (f"Bearer {TOKEN[:-1]}", 401),
            ("Bearer", 401),
            ("Basic !", 401),
            ("Bearer \xe9", 401),
        ):
            assert stranger.get("/v1/models", headers={"Authorization": header}).status == status, header
        schemes = client.get("/openapi.json").json["components"]["securitySchemes"]
        assert schemes == {"bearer": {"type": "http", "scheme": "bearer"}}


def test_pages_of_other_sites_can_do_nothing(root):
    """Not under another name of this machine, and not by a request of a browser."""
    from videossp.serving.serve import LOCAL_NAMES

    with service([root / "one"], hosts=LOCAL_NAMES, below=root) as client:
        for host, status in (
            ("localhost:1", 200),
            ("127.0.0.1", 200),
            ("[::1]:80", 200),
            ("evil.example", 403),
            ("evil.example:80", 403),
            ("", 403),
        ):
            assert client.get("/v1/models", headers={"Host": host}).status == status, host
        own = f"http://127.0.0.1:{client.port}"
        for headers, status in (
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),  # another port of this machine
            ({"Origin": "http://evil.example", "Content-Type": "text/plain"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://127.0.0.1:1"}, 403),
            ({"Origin": own, "Sec-Fetch-Site": "same-origin"}, 200),
            ({"Origin": "https://proxy.example", "Sec-Fetch-Site": "same-origin"}, 200),  # it changes Host
            ({"Sec-Fetch-Site": "none"}, 200),
        ):
            found = client.post("/v1/models/one/predict", root / "clip.mp4", headers=headers)
            assert found.status == status, headers
            assert status == 200 or client("DELETE", "/v1/adapters/one", headers=headers).status == 403
        answer = client.get("/v1/models", headers={"Origin": "http://evil.example"})
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers


def test_a_body_that_is_not_declared_as_json_is_refused(root):
    with service([], below=root) as client:
        found = client.post("/v1/adapters", b'{"folder": "one"}', headers={"Content-Type": "text/plain"})
        assert found.status == 415 and "application/json" in found.error


def test_no_answer_names_the_address_of_the_server_which_a_proxy_may_hide(root):
    with service([root / "one"]) as client:
        assert client.get("/v1/models/").status == 404  # no redirection
        job = client.post("/v1/jobs?model=one", root / "clip.mp4")
        assert job.headers["location"] == f"jobs/{job.json['id']}"
        assert client.get("/openapi.json").json["servers"] == [{"url": "."}]
        client.until_finished(job.json["id"])


def test_limits_are_answers(root, tmp_path):
    long = save_clip(tmp_path / "long.mp4", frames=60)
    wide = save_clip(tmp_path / "wide.mp4", frames=2, size=(120, 160))
    size = (root / "clip.mp4").stat().st_size
    with service([root / "one"], max_seconds=2, max_pixels=100 * 100, max_bytes=10 * size) as client:

        def post(body):
            return client.post("/v1/models/one/predict", body)

        assert post(root / "clip.mp4").status == 200
        found = post(long)
        assert found.status == 413 and "too long (5 s, 60 frames): at most 2 s" in found.error
        found = post(wide)
        assert found.status == 413 and "160x120" in found.error
        found = post(b"x" * (10 * size + 1))
        assert found.status == 413 and f"larger than {10 * size} bytes" in found.error
        with client.service.gate.enter(), client.service.explain_gate.enter():
            client.service.gate.limit = client.service.explain_gate.limit = 1
            for path in ("/v1/models/one/predict", "/v1/embed?model=one", "/v1/explain?model=one"):
                found = client.post(path, root / "clip.mp4")
                assert (
                    found.status == 429 and found.headers["retry-after"] == "1" and "try again" in found.error
                )
        assert post(root / "clip.mp4").status == 200
        for path, text in (
            ("/v1/models/one/predict?top_k=0", "top_k"),
            ("/v1/predict", "model"),
            ("/v1/predict?model=one&topk=3", "no parameter 'topk'; there are model, top_k"),
            ("/v1/explain?model=one&class=x", "no class 'x'; the classes are bright, dark"),
            ("/v1/jobs?model=one&window=0", "window"),
            ("/v1/jobs?model=one&window=1&hop=0.3", "no whole number of hops"),
        ):
            found = client.post(path, root / "clip.mp4")
            assert found.status == 422 and text in found.error, found.body
        assert client.post("/v1/models/three/predict", root / "clip.mp4").status == 404


def test_an_adapter_is_replaced_while_the_service_runs(root, tmp_path):
    folder = save_adapter(tmp_path / "one")
    with service([folder]) as client:
        save_adapter(folder, seed=5, classes=("x", "y", "z"))
        end = time.monotonic() + 120
        while client.get("/v1/models/one").json["classes"] != ["x", "y", "z"]:
            assert time.monotonic() < end
            time.sleep(0.05)
        labels = {x["label"] for x in client.post("/v1/models/one/predict", root / "clip.mp4").json}
        assert labels == {"x", "y", "z"}


def test_an_adapter_is_loaded_and_unloaded_by_requests(root):
    with service([], below=root) as client:
        assert client.get("/v1/adapters").json == {"folders": ["more/two", "one"]}
        new = client.post("/v1/adapters", {"folder": "more/two", "name": "mine"})
        assert new.status == 201 and new.json["name"] == "mine"
        assert client.post("/v1/adapters", {"folder": "one", "name": "mine"}).status == 409
        assert client.post("/v1/models/mine/predict", root / "clip.mp4").status == 200
        assert client("DELETE", "/v1/adapters/mine").status == 204
        assert client.post("/v1/models/mine/predict", root / "clip.mp4").status == 404
        assert client("DELETE", "/v1/adapters/mine").status == 404
    with service([root / "one"]) as client:
        assert client.post("/v1/adapters", {"folder": "one"}).status == 403
        assert client("DELETE", "/v1/adapters/one").status == 403


def test_without_the_extra_the_verb_says_what_to_install(call, root, monkeypatch):
    for name in [x for x in sys.modules if x.startswith("videossp.serving.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = call("serve", root / "one")
    assert code == 2 and "pip install 'videossp[serve]'" in err


def test_the_first_line_has_the_address_also_of_ipv6(root):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    command = [sys.executable, "-m", "videossp", "serve", str(root / "one"), "--host", "::1", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        try:
            line = running.stdout.readline()
            url = line.split()[0]
            assert url.startswith("http://[::1]:") and "adapters: one; backbones: 1" in line
            assert json.loads(Client(url).get("/health/live").body) == {"status": "live"}
        finally:
            running.terminate()
