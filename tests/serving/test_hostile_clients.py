"""Clients that are slow, broken, too many or hostile: each gets a clear answer, and the others get theirs."""

import errno
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from conftest import write_video
from running import Answer, process, save_adapter, save_clip, service
from videossp.serving import http_protocol, job_windows, uploads
from videossp.serving import service as service_module
from videossp.serving.serve import LOCAL_NAMES

PREDICT = "/v1/models/one/predict"
TOKEN = "a-token-of-the-tests-0123"
SECRET = b"the content of another file"
CLEAR = {200, 413, 415, 422}  # answers to a file, whatever it is


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    save_adapter(folder / "one")
    save_adapter(folder / "below/other", seed=1)
    save_clip(folder / "clip.mp4")
    return folder


@pytest.fixture(scope="module")
def client(root):
    """Of a service with small limits, whose temporary folder is the root."""
    limits = {"max_bytes": 400_000, "max_job_bytes": 400_000, "max_seconds": 60.0, "timeout": 20.0}
    with service([root / "one"], temporary=root, below=root / "below", **limits) as found:
        yield found


@pytest.fixture
def video(root):
    return (root / "clip.mp4").read_bytes()


@pytest.fixture(autouse=True)
def _all_are_well_afterwards(request, capfd):
    """After each test the service answers, has no file of a client, and has logged no traceback."""
    yield
    assert "Traceback" not in capfd.readouterr().err
    if "client" in request.fixturenames:
        client, root = (request.getfixturevalue(x) for x in ("client", "root"))
        assert client.post(PREDICT, root / "clip.mp4").status == 200
        wait_until(lambda: files_of(root) == [])


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def files_of(folder):
    """Files of clients that a service keeps."""
    return [x.name for x in folder.glob("videossp-serve-*/*") if x.name != "lock"]


def head(method="POST", path=PREDICT, version="1.1", host="localhost", **headers):
    """The head of a request; `_` in names of headers stands for `-`."""
    lines = [f"{method} {path} HTTP/{version}", *([f"Host: {host}"] if host else [])]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


@contextmanager
def connected(client):
    with socket.create_connection((client.host, int(client.port)), timeout=30) as sock:
        yield sock


def rest_of(sock):
    """All that the service sends until it closes the connection."""
    found = b""
    try:
        while part := sock.recv(65536):
            found += part
    except ConnectionError:
        pass
    return found


def answers_in(data):
    """The answers in the bytes of a connection; those of uvicorn itself have no length and are the last."""
    found = []
    while data:
        top, _, data = data.partition(b"\r\n\r\n")
        first, *lines = top.decode().split("\r\n")
        headers = {k.lower(): v for k, v in (x.split(": ", 1) for x in lines)}
        status = int(first.split()[1])
        length = 0 if status < 200 else int(headers.get("content-length", len(data)))
        if headers.get("transfer-encoding") == "chunked":
            length = data.index(b"0\r\n\r\n") + 5
        found.append(Answer(status, headers, data[:length]))
        data = data[length:]
    return found


def sent(client, *parts):
    """The answers to bytes; the client closes its side when it has sent them, unless it was told before."""
    with connected(client) as sock:
        try:
            for part in parts:
                sock.sendall(part)
        except ConnectionError:
            pass
        return answers_in(rest_of(sock))


def one_line(answer):
    """Check that an answer is an error with one line, and return that."""
    (text,) = answer.json.values()
    assert text and text.isprintable(), text
    return text


# Time


def test_clients_that_send_a_head_bit_by_bit_are_cut_off_while_others_are_answered(
    client, root, monkeypatch
):
    monkeypatch.setattr(http_protocol, "HEAD", 1.0)
    text = head(Content_Length=10)

    def drip(number):
        with connected(client) as sock:
            sock.settimeout(0.05)
            for i in range(1000):  # 50 s, if nobody ends it
                try:
                    sock.send(text[i % len(text) :][: 1 if number % 4 else 0])
                    if not sock.recv(100):
                        return True
                except TimeoutError:
                    continue
                except ConnectionError:
                    return True
        return False

    with ThreadPoolExecutor(32) as threads:
        drips = [threads.submit(drip, i) for i in range(32)]
        assert client.post(PREDICT, root / "clip.mp4").status == 200
        assert all(x.result() for x in drips)


@pytest.mark.parametrize("gap", [0.05, None], ids=["drips", "stalls"])
@pytest.mark.parametrize("path", [PREDICT, "/v1/adapters", "/v2/models/one/infer"])
def test_a_body_that_comes_too_slowly_is_refused(client, monkeypatch, gap, path):
    monkeypatch.setattr(uploads, "STALL", 0.5)
    with connected(client) as sock:
        sock.sendall(
            head(path=path, Content_Length=100_000, Content_Type="application/json", Connection="close")
        )
        sock.settimeout(gap or 20)
        for _ in range(400):
            sock.sendall(b" " * 9)
            try:
                first = sock.recv(10_000)
                break
            except TimeoutError:
                continue
        (answer,) = answers_in(first + rest_of(sock))
    assert answer.status == 408 and "was not received" in one_line(answer)


def test_a_client_that_reads_no_answers_is_cut_off(client, monkeypatch):
    monkeypatch.setattr(http_protocol, "READ", 0.5)
    with connected(client) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(head("GET", "/docs/swagger-ui-bundle.js") * 20)
        wait_until(lambda: connections_of(client) == 1)
        wait_until(lambda: connections_of(client) == 0)


def connections_of(client):
    """Connections of clients that the service has."""
    return len(client.server.server_state.connections)


@pytest.mark.parametrize("path", [PREDICT, "/v1/jobs?model=one", "/v1/embed?model=one"])
@pytest.mark.parametrize("how", ["closes", "resets", "half"])
def test_a_client_that_goes_away_in_the_middle_leaves_no_file(client, root, video, path, how):
    with connected(client) as sock:
        sock.sendall(head(path=path, Content_Length=len(video)) + video[:5000])
        wait_until(lambda: files_of(root) != [])
        if how == "resets":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if how == "half":
            sock.shutdown(socket.SHUT_WR)
            rest_of(sock)
    wait_until(lambda: files_of(root) == [])


# Bodies and heads


@pytest.mark.parametrize(
    "path", [PREDICT, "/v1/jobs?model=one", "/v1/adapters", "/v2/models/one/infer", "/v1/explain?model=one"]
)
def test_a_declared_size_above_the_limit_is_refused_before_the_body(client, path):
    options = {"Content_Type": "application/json", "Expect": "100-continue"}
    (answer,) = sent(client, head(path=path, Content_Length=10**9, Connection="close", **options))
    assert answer.status == 413 and "larger" in one_line(answer)


@pytest.mark.parametrize("path", [PREDICT, "/v1/jobs?model=one", "/v1/adapters", "/v2/models/one/infer"])
def test_a_client_that_goes_on_to_send_beyond_the_limit_sees_the_answer(client, path):
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    top = head(path=path, Transfer_Encoding="chunked", Content_Type="application/json", Connection="close")
    with connected(client) as sock:
        sock.sendall(top)
        threading.Thread(target=send_all, args=(sock, chunk, 120)).start()
        (answer,) = answers_in(sock.recv(10_000))
    assert answer.status == 413 and "larger" in one_line(answer)


def send_all(sock, part, times):
    try:
        for _ in range(times):
            sock.sendall(part)
    except OSError:  # the service, or the other thread, has closed it
        pass


def test_a_gigabyte_is_refused_and_the_connection_is_usable_or_closed(client):
    with connected(client) as sock:
        sock.sendall(head(Content_Length=10**9))
        sender = threading.Thread(target=send_all, args=(sock, bytes(10**6), 1000))
        sender.start()
        (answer,) = answers_in(sock.recv(10_000))
        assert answer.status == 413
        sender.join(60)
        assert not sender.is_alive()
        try:
            sock.sendall(head("GET", "/health/live", Connection="close"))
            after = answers_in(rest_of(sock))
        except ConnectionError:
            after = []
        assert [x.status for x in after] in ([], [200])


CHUNKED = {"Transfer_Encoding": "chunked"}
REQUESTS = {  # name: (bytes, statuses of the answers)
    "longer than declared": (head(Content_Length=5) + b"0123456789" * 50, [415, 400]),
    "negative length": (head(Content_Length=-1) + b"a", [400]),
    "length that is no number": (head(Content_Length="a") + b"a", [400]),
    "length with a sign": (head(Content_Length="+1") + b"a", [400]),
    "huge length": (head(Content_Length="9" * 5000), [400]),
    "two lengths": (head(Content_Length="1\r\nContent-Length: 2") + b"ab", [400]),
    "a length twice": (head(Content_Length="1\r\nContent-Length: 1", Connection="close") + b"a", [415]),
    "length and chunks": (head(Content_Length=10, **CHUNKED, Connection="close") + b"1\r\na\r\n0\r\n\r\n", [415]),
    "no length": (head(Connection="close") + b"abc", [422]),
    "bad chunk size": (head(**CHUNKED) + b"zz\r\nabc\r\n", [400]),
    "negative chunk size": (head(**CHUNKED) + b"-1\r\nabc\r\n", [400]),
    "huge chunk size": (head(**CHUNKED) + b"f" * 50 + b"\r\nabc\r\n", [400]),
    "chunk longer than its size": (head(**CHUNKED) + b"1\r\nabcdefghijk\r\n0\r\n\r\n", [400]),
    "endless chunk size": (head(**CHUNKED) + b"0" * 100_000, [400]),
    "endless trailer": (head(**CHUNKED) + b"1\r\na\r\n0\r\n" + b"a: b\r\n" * 20_000, [400]),
    "another coding": (head(Transfer_Encoding="gzip") + b"abc", [501]),
    "100 kB of headers": (head(**{f"X_{i}": "a" * 90 for i in range(1000)}), [400]),
    "a header of 100 kB": (head(X="a" * 100_000), [400]),
    "a path of 100 kB": (head(path="/" + "a" * 100_000), [400]),
    "no name of a header": (b"GET / HTTP/1.1\r\n: a\r\n\r\n", [400]),
    "a header on two lines": (head("GET", "/health/live", X="a\r\n b", Connection="close"), [200]),
    "NUL in a header": (head("GET", "/health/live", X="a\0b"), [400]),
    "no host": (head(host=None, Content_Length=0), [400]),
    "two hosts": (head(host="localhost\r\nHost: evil"), [400]),
    "HTTP/0.9": (b"GET /\r\n\r\n", [400]),
    "HTTP/1.0": (head("GET", "/health/live", "1.0"), [200]),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
    "HTTP/9.9": (head("GET", "/", "9.9"), [400]),
    "TLS": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(range(256)) * 2, [400]),
    "binary": (bytes(range(256)) * 100, [400]),
    "blanks": (b"\r\n" * 50_000, [400]),
    "a proxy's request": (head("GET", "http://evil.test/v1/models", Connection="close"), [404]),
    "a tunnel": (head("CONNECT", "evil.test:443", Connection="close"), [404]),
    "a star": (head("OPTIONS", "*", Connection="close"), [404]),
    "an unknown method": (head("BREW", PREDICT, Connection="close"), [405]),
    "WebSocket": (
        head(
            "GET",
            "/v1/models",
            Connection="close, Upgrade",
            Upgrade="websocket",
            Sec_WebSocket_Key="AAAAAAAAAAAAAAAAAAAAAA==",
            Sec_WebSocket_Version=13,
        ),
        [200],
    ),
    "HTTP/2 upgrade": (head("GET", "/health/live", Connection="close, Upgrade", Upgrade="h2c"), [200]),
    "a form": (head(Content_Type="multipart/form-data; boundary=a", Connection="close") + b"--a--", [415]),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_against_the_protocol_gets_a_clear_answer(client, name):
    data, statuses = REQUESTS[name]
    answers = sent(client, data)
    assert [x.status for x in answers] == statuses
    for x in answers:
        if x.body.startswith(b"{") and x.status >= 400:
            one_line(x)


def test_a_body_shorter_than_declared_gets_no_result(client, video):
    with connected(client) as sock:
        sock.sendall(head(Content_Length=len(video) + 1) + video)
        sock.shutdown(socket.SHUT_WR)
        assert all(x.status == 400 for x in answers_in(rest_of(sock)))


def test_a_broken_chunk_after_the_answer_ends_the_connection_quietly(client):
    with connected(client) as sock:
        sock.sendall(head(**CHUNKED, Content_Type="multipart/form-data"))
        assert answers_in(sock.recv(10_000))[0].status == 415
        sock.sendall(b"zz\r\n")
        assert rest_of(sock) == b""


def test_a_client_may_ask_before_it_sends(client, video):
    with connected(client) as sock:
        sock.sendall(head(Content_Length=len(video), Expect="100-continue", Connection="close"))
        assert sock.recv(1000) == b"HTTP/1.1 100 \r\n\r\n" or b"100 Continue"
        sock.sendall(video)
        (answer,) = answers_in(rest_of(sock))
    assert answer.status == 200


def test_requests_that_are_sent_together_are_answered_in_order(client, video):
    good = head(Content_Length=len(video)) + video
    bad = head(Content_Length=3) + b"abc"
    last = head("GET", "/health/live", Connection="close")
    statuses = [x.status for x in sent(client, good + bad + good + bad + last)]
    assert statuses == [200, 415, 200, 415, 200]


def test_http_1_0_gets_a_prediction_and_the_connection_is_closed(client, video):
    (answer,) = sent(client, head(version="1.0", Content_Length=len(video)) + video)
    assert answer.status == 200 and len(answer.json) == 2


# Load


@pytest.mark.parametrize("count", [40, 200])
def test_of_many_uploads_at_once_each_is_answered(root, count):
    path = root / "clip.mp4"
    with service([root / "one"], temporary=root, queue=8, explain_queue=2, job_queue=2) as client:
        paths = [PREDICT, PREDICT, PREDICT, "/v1/embed?model=one", "/v1/explain?model=one&steps=1"]
        with ThreadPoolExecutor(count) as threads:
            answers = [*threads.map(lambda i: client.post(paths[i % len(paths)], path), range(count))]
        refused = [x for x in answers if x.status != 200]
        assert len(refused) < count and all(x.status == 429 for x in refused)
        assert all(int(x.headers["retry-after"]) >= 1 and "too many" in one_line(x) for x in refused)
        assert files_of(root) == [] and client.post(PREDICT, path).status == 200


def test_two_thousand_requests_keep_the_memory_flat(root, video):
    """One in ten is broken; the growth after the first 200 is below 30 MB."""
    bodies = [video[: len(video) // 2] if i == 9 else video for i in range(10)]
    with process(root / "one", "--workers", 1) as client:
        status = Path(f"/proc/{client.process.pid}/status")

        def memory():
            return int(re.search(r"VmRSS:\s*(\d+)", status.read_text())[1]) * 1024 / 1e6

        def send(count):
            with ThreadPoolExecutor(4) as threads:
                found = [*threads.map(lambda i: client.post(PREDICT, bodies[i % 10]).status, range(count))]
            assert found.count(200) == count * 9 // 10 and found.count(422) == count // 10

        send(200)
        before = memory()
        send(2000)
        growth = memory() - before
        print(f"growth of the resident memory: {growth:.1f} MB from {before:.0f} MB")
        assert growth < 30


# Processes that die


class Sent:
    """Is sent to a worker as source text, and is there what this gives."""

    def __init__(self, source):
        self.source = source

    def __reduce__(self):
        return eval, (self.source, {"__builtins__": __builtins__})


def reads(monkeypatch, source):
    """Let workers call this on an uploaded file instead of reading it; `os`, `time` are there."""
    text = f"lambda path, os=__import__('os'), time=__import__('time'): {source}"
    monkeypatch.setattr(service_module, "Reader", lambda *args, **options: Sent(text))


def process_in(file):
    """The process whose number is written to a file."""
    wait_until(lambda: file.exists() and file.read_text().endswith("."))
    number = int(file.read_text()[:-1])
    file.unlink()
    return number


def test_a_decoder_that_is_killed_in_the_middle_is_an_answer_and_the_next_request_has_another(
    client, root, monkeypatch, tmp_path
):
    for number, status in ((signal.SIGKILL, 503), (signal.SIGTERM, 503), (signal.SIGSEGV, 422)):
        with monkeypatch.context() as patch, ThreadPoolExecutor(1) as thread:
            file = tmp_path / "pid"
            reads(patch, f"(open({str(file)!r}, 'w').write(f'{{os.getpid()}}.'), time.sleep(60))")
            answer = thread.submit(client.post, PREDICT, root / "clip.mp4")
            os.kill(process_in(file), number)
            assert answer.result().status == status
            assert ("again" in one_line(answer.result())) == (status == 503)
        assert client.post(PREDICT, root / "clip.mp4").status == 200


def test_a_decoder_that_is_killed_while_it_waits_is_replaced(client, root, monkeypatch, tmp_path):
    for pause in (0, 0.5):
        with monkeypatch.context() as patch:
            reads(patch, f"open({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}.') * 0 + none")
            assert client.post(PREDICT, root / "clip.mp4").status == 422
        os.kill(process_in(tmp_path / "pid"), signal.SIGKILL)
        time.sleep(pause)
        assert client.post(PREDICT, root / "clip.mp4").status in (200, 503)
        assert client.post(PREDICT, root / "clip.mp4").status == 200


@pytest.mark.parametrize(
    "source, status, text",
    [
        ("time.sleep(60)", 422, "could not be decoded within 1 s"),
        ("os._exit(3)", 422, "exit code 3"),
        ("bytearray(2**45)", 422, "too much memory"),
        ("open(path + '-none')", 422, "cannot be decoded"),
    ],
)
def test_a_decoder_that_hangs_ends_or_fails_is_an_answer_without_a_path(root, monkeypatch, source, status, text):
    with service([root / "one"], temporary=root, timeout=1.0) as client:
        with monkeypatch.context() as patch:
            reads(patch, source)
            answer = client.post(PREDICT, root / "clip.mp4")
        assert answer.status == status and text in one_line(answer) and str(root) not in one_line(answer)
        assert client.post(PREDICT, root / "clip.mp4").status == 200


def test_a_job_whose_process_dies_or_hangs_fails_with_the_reason(root, monkeypatch, tmp_path):
    send = "(open({0!r}, 'w').write(f'{{os.getpid()}}.'), time.sleep(60))"
    text = f"lambda recording, to, os=__import__('os'), time=__import__('time'): {send}"
    with service([root / "one"], temporary=root, timeout=2.0) as client:
        for number, reason in ((signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV"), (0, "within 2 s")):
            file = tmp_path / "pid"
            with monkeypatch.context() as patch, ThreadPoolExecutor(1) as thread:
                patch.setattr(job_windows, "send_windows", Sent(text.format(str(file))))
                job = thread.submit(client.job, "/v1/jobs?model=one", root / "clip.mp4")
                os.kill(process_in(file), number)
                ended = job.result()
            assert ended["status"] == "failed" and reason in ended["error"]
            assert str(root) not in ended["error"]
        assert client.job("/v1/jobs?model=one", root / "clip.mp4")["status"] == "done"
        assert files_of(root) == []
