"""A service on loopback in a thread of the tests, or in a process of its own, and requests to it."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from conftest import SMALL, SSP_SMALL, switch_on, write_video
from videossp import Classifier


class Answer(NamedTuple):
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json.get("detail") or self.json["error"]


class Client:
    """Requests to a service; each has a connection of its own."""

    def __init__(self, url, token=None):
        self.url, self.token = url, token
        self.host, self.port = url.removeprefix("http://").rsplit(":", 1)

    def __call__(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(self.host.strip("[]"), int(self.port), timeout=300)
        headers = {**({"Authorization": f"Bearer {self.token}"} if self.token else {}), **(headers or {})}
        if isinstance(body, Path):
            body = body.read_bytes()
        elif isinstance(body, dict):
            body, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path, **options):
        return self("GET", path, **options)

    def post(self, path, body=b"", **options):
        return self("POST", path, body, **options)

    def job(self, path, body):
        """A job as it is at its end."""
        answer = self.post(path, body)
        assert answer.status == 202, answer.body
        return self.until_finished(answer.json["id"])

    def until_finished(self, number):
        while True:
            job = self.get(f"/v1/jobs/{number}").json
            if job["status"] not in ("queued", "running"):
                return job
            time.sleep(0.05)


@contextmanager
def service(folders, *, token=None, hosts=None, below=None, label_studio=None, temporary=None, **limits):
    """A client of a service in a thread, with `service` and uvicorn's `server`; it is stopped at the end."""
    from videossp.serving.adapters import Adapters
    from videossp.serving.api import make_app
    from videossp.serving.label_studio import LabelStudioFiles
    from videossp.serving.serve import listening, new_server
    from videossp.serving.service import Service
    from videossp.serving.settings import ServeSettings

    adapters = Adapters(torch.device("cpu"), below=below)
    for folder in folders:
        adapters.add(Path(folder))
    made = Service(adapters, ServeSettings(**{"workers": 1, "grace": 5.0, **limits}), temporary)
    files = None if label_studio is None else LabelStudioFiles(Path(label_studio))
    app = make_app(made, token=token, hosts=hosts, label_studio=files)
    urls, ready = [], threading.Event()

    def started(url):
        urls.append(url)
        ready.set()

    with listening("127.0.0.1", 0) as sock:
        server = new_server(sock, app, made, started)
        server.read_results = 0.0
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            assert ready.wait(300)
            client = Client(urls[0], token)
            client.service, client.server = made, server
            yield client
        finally:
            server.stop()
            thread.join(300)
    assert not thread.is_alive()


@contextmanager
def process(*arguments, stop=True, environment=None):
    """A client of `videossp serve` in a process; `client.process` is the process. SIGTERM ends it."""
    command = [sys.executable, "-m", "videossp", "serve", *map(str, arguments), "--port", "0", "--json"]
    started = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    try:
        line = started.stdout.readline()
        assert line, started.stderr.read()
        client = Client(json.loads(line)["url"])
        client.process = started
        yield client
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGTERM)
        try:
            started.wait(300)
        finally:
            started.kill()
            started.stdout.close()
            started.stderr.close()


def save_adapter(folder, method="ssp", seed=0, classes=("bright", "dark"), **create):
    """An adapter of the small backbone, whose weights have values, as a folder."""
    options = {**(SSP_SMALL if method == "ssp" else {}), **create}
    classifier = Classifier.create(SMALL, classes=classes, method=method, **options)
    switch_on(classifier, seed=seed)
    classifier.video_seconds = 0.5
    classifier.save(folder)
    return folder


def save_clip(path, seed=0, frames=12, size=(40, 48)):
    """A short video of noise."""
    rng = np.random.default_rng(seed)
    write_video(path, rng.integers(0, 256, (frames, *size, 3), dtype=np.uint8))
    return path
