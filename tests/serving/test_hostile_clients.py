"""Clients that are slow, broken, too many or hostile: each gets a clear answer, and the others get theirs."""

import errno
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
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import numpy as np
import pytest
from running import Answer, process, save_adapter, save_clip, service

from conftest import write_video
from videossp.serving import http_protocol, job_windows, uploads
from videossp.serving import service as service_module
from videossp.serving.serve import LOCAL_NAMES
from videossp.serving.settings import ServeSettings

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
    limits = {"max_bytes": 400_000, "max_job_bytes": 400_000, "max_seconds": 60.0, "timeout": 120.0}
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


def wait_until(condition, seconds=120.0):
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
    with socket.create_connection((client.host, int(client.port)), timeout=120) as sock:
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


def next_answer(sock):
    """One answer that has a length, from a connection that stays open."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(1)
        assert part, "the service has closed the connection without an answer"
        data += part
    (answer,) = answers_in(data)
    body = b""
    while len(body) < int(answer.headers["content-length"]):
        body += sock.recv(int(answer.headers["content-length"]) - len(body))
    return answer._replace(body=body)


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


def test_clients_that_send_a_head_bit_by_bit_are_cut_off_while_others_are_answered(client, root, monkeypatch):
    monkeypatch.setattr(http_protocol, "HEAD", 0.6)
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
    monkeypatch.setattr(uploads, "STALL", 0.2)
    with connected(client) as sock:
        sock.sendall(
            head(path=path, Content_Length=100_000, Content_Type="application/json", Connection="close")
        )
        first, end = b"", time.monotonic() + 120
        sock.settimeout(gap or 120)
        while not first and time.monotonic() < end:
            sock.sendall(b" " * 9)
            with suppress(TimeoutError):
                first = sock.recv(10_000)
        (answer,) = answers_in(first + rest_of(sock))
    assert answer.status == 408 and "was not received" in one_line(answer)


def test_a_client_that_sends_much_and_then_almost_nothing_is_too_slow(client, monkeypatch):
    """The rate counts in each stretch of time, not since the start."""
    monkeypatch.setattr(uploads, "STALL", 0.3)
    with connected(client) as sock:
        sock.sendall(head(Content_Length=400_000, Connection="close") + bytes(390_000))
        first, end = b"", time.monotonic() + 120
        sock.settimeout(0.05)
        while not first and time.monotonic() < end:
            with suppress(TimeoutError, BrokenPipeError):
                sock.sendall(b" ")
                first = sock.recv(10_000)
        sock.settimeout(120)
        (answer,) = answers_in(first + rest_of(sock))
    assert answer.status == 408


def test_slow_senders_of_long_videos_do_not_keep_others_from_sending(client, root):
    """Jobs have a budget of their own."""
    with job_budget(client, 300_000), connected(client) as slow:
        slow.sendall(head(path="/v1/jobs?model=one", Content_Length=390_000) + bytes(299_000))
        wait_until(lambda: client.service._job_budget.used >= 299_000)
        assert client.post(PREDICT, root / "clip.mp4").status == 200
        refused = client.post("/v1/jobs?model=one", root / "clip.mp4")
        assert refused.status == 429 and refused.headers["retry-after"]


@contextmanager
def job_budget(client, limit):
    budget = client.service._job_budget
    before, budget.limit = budget.limit, limit
    try:
        yield
    finally:
        budget.limit = before


def test_a_client_that_reads_no_answers_is_cut_off(client, monkeypatch):
    monkeypatch.setattr(http_protocol, "READ", 0.5)
    size = len(client.get("/docs/swagger-ui-bundle.js").body)
    before = client.server.server_state.total_requests
    with connected(client) as sock:
        sock.sendall(head("GET", "/docs/swagger-ui-bundle.js") * 20)
        wait_until(lambda: client.server.server_state.total_requests > before)
        wait_until(lambda: not client.server.server_state.connections)
        assert len(rest_of(sock)) < 15 * size  # the rest was not sent any more


def test_a_slow_reader_gets_all_of_an_answer(client, monkeypatch):
    monkeypatch.setattr(http_protocol, "READ", 3.0)
    whole, found = client.get("/docs/swagger-ui-bundle.js").body, b""
    with connected(client) as sock:
        sock.sendall(head("GET", "/docs/swagger-ui-bundle.js", Connection="close"))
        while part := sock.recv(100_000):
            found += part
            time.sleep(0.3)
    assert found.endswith(whole)


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
        answer = next_answer(sock)
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
        answer = next_answer(sock)
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
    "longer than declared": (head(Content_Length=5) + b"0123456789\r\n\r\n", [415, 400]),
    "negative length": (head(Content_Length=-1) + b"a", [400]),
    "length that is no number": (head(Content_Length="a") + b"a", [400]),
    "length with a sign": (head(Content_Length="+1") + b"a", [400]),
    "huge length": (head(Content_Length="9" * 5000), [400]),
    "two lengths": (head(Content_Length="1\r\nContent-Length: 2") + b"ab", [400]),
    "a length twice": (head(Content_Length="1\r\nContent-Length: 1", Connection="close") + b"a", [415]),
    "length and chunks": (
        head(Content_Length=10, **CHUNKED, Connection="close") + b"1\r\na\r\n0\r\n\r\n",
        [415],
    ),
    "no length": (head(Connection="close") + b"abc", [422]),
    "bad chunk size": (head(**CHUNKED) + b"zz\r\nabc\r\n", [400]),
    "negative chunk size": (head(**CHUNKED) + b"-1\r\nabc\r\n", [400]),
    "huge chunk size": (head(**CHUNKED) + b"f" * 50 + b"\r\nabc\r\n", [400]),
    "chunk longer than its size": (head(**CHUNKED) + b"1\r\nabcdefghijk\r\n0\r\n\r\n", [400]),
    "endless chunk size": (head(**CHUNKED) + b"0" * 100_000, [400]),
    "endless trailer": (head(**CHUNKED) + b"1\r\na\r\n0\r\n" + b"a: b\r\n" * 20_000, [400]),
    "another coding": (head(Transfer_Encoding="gzip") + b"abc", [400]),
    "1 MB of headers": (head(**{f"X_{i}": "a" * 90 for i in range(10_000)}), [400]),
    "a header of 1 MB": (head(X="a" * 10**6), [400]),
    "a path of 1 MB": (head(path="/" + "a" * 10**6), [400]),
    "no name of a header": (b"GET / HTTP/1.1\r\n: a\r\n\r\n", [400]),
    "a header on two lines": (head("GET", "/health/live", X="a\r\n b", Connection="close"), [200]),
    "NUL in a header": (head("GET", "/health/live", X="a\0b"), [400]),
    "no host": (head(host=None, Content_Length=0), [400]),
    "two hosts": (head(host="localhost\r\nHost: evil"), [400]),
    "HTTP/0.9": (b"GET /\r\n\r\n", [400]),
    "HTTP/1.0": (head("GET", "/health/live", "1.0"), [200]),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [404, 400]),
    "HTTP/9.9": (head("GET", "/health/live", "9.9", Connection="close"), [200]),
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
    lost = [] if len(data) > 500_000 else statuses  # a client may not see the answer while it sends
    assert [x.status for x in answers] in (statuses, lost)
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
        assert next_answer(sock).status == 415
        sock.sendall(b"zz\r\n")
        assert rest_of(sock) == b""


def test_a_client_may_ask_before_it_sends(client, video):
    with connected(client) as sock:
        sock.sendall(head(Content_Length=len(video), Expect="100-continue", Connection="close"))
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
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
    with service([root / "one"], temporary=root, queue=8, explain_queue=2) as client:
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
        return eval, (self.source,)


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
            reads(patch, f"(open({str(file)!r}, 'w').write(f'{{os.getpid()}}.'), time.sleep(600))")
            answer = thread.submit(client.post, PREDICT, root / "clip.mp4")
            os.kill(process_in(file), number)
            assert answer.result().status == status
            assert ("again" in one_line(answer.result())) == (status == 503)
        assert client.post(PREDICT, root / "clip.mp4").status == 200


def test_a_decoder_that_is_killed_while_it_waits_is_replaced(client, root, monkeypatch, tmp_path):
    for pause in (0, 0.5):
        with monkeypatch.context() as patch:
            reads(patch, f"open({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}.') / 0")
            assert client.post(PREDICT, root / "clip.mp4").status == 422
        os.kill(process_in(tmp_path / "pid"), signal.SIGKILL)
        time.sleep(pause)
        assert client.post(PREDICT, root / "clip.mp4").status in (200, 503)
        assert client.post(PREDICT, root / "clip.mp4").status == 200


def test_whichever_decoders_are_killed_while_they_wait_requests_are_answered(root):
    from multiprocessing import forkserver

    server = forkserver._forkserver

    def decoders():
        return set() if server._forkserver_pid is None else {*children_of(server._forkserver_pid)}

    others = decoders()
    with service([root / "one"], temporary=root, workers=2) as client:
        for which in (slice(0, 1), slice(1, 2), slice(0, 2)):
            assert client.post(PREDICT, root / "clip.mp4").status == 200
            wait_until(lambda: len(decoders() - others) == 2)
            for number in sorted(decoders() - others)[which]:
                os.kill(number, signal.SIGKILL)
            with ThreadPoolExecutor(4) as threads:
                answers = [*threads.map(lambda i: client.post(PREDICT, root / "clip.mp4"), range(4))]
            assert {x.status for x in answers} <= {200, 503}
            assert client.post(PREDICT, root / "clip.mp4").status == 200


def test_a_decoder_that_hangs_ends_or_fails_is_an_answer_without_a_path(root, monkeypatch):
    cases = {
        "time.sleep(600)": "could not be decoded within 0.5 s",
        "os._exit(3)": "exit code 3",
        "bytearray(2**45)": "too much memory",
        "open(path + '-none')": "cannot be decoded",
    }
    with service([root / "one"], temporary=root, timeout=120) as client:
        for source, text in cases.items():
            with monkeypatch.context() as patch:
                reads(patch, source)
                if "sleep" in source:
                    patch.setattr(client.service.decoders, "timeout", 0.5)
                answer = client.post(PREDICT, root / "clip.mp4")
            assert answer.status == 422 and text in one_line(answer) and str(root) not in one_line(answer)
            assert client.post(PREDICT, root / "clip.mp4").status == 200


def test_a_job_whose_process_dies_or_hangs_fails_with_the_reason(root, monkeypatch, tmp_path):
    send = "(open({0!r}, 'w').write(f'{{os.getpid()}}.'), time.sleep(600))"
    text = f"lambda recording, to, os=__import__('os'), time=__import__('time'): {send}"
    with service([root / "one"], temporary=root, timeout=120) as client:
        for number, reason in ((signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV"), (0, "within 1.5 s")):
            file = tmp_path / "pid"
            with monkeypatch.context() as patch, ThreadPoolExecutor(1) as thread:
                patch.setattr(job_windows, "send_windows", Sent(text.format(str(file))))
                if not number:
                    patch.setattr(client.service.jobs, "settings", ServeSettings(timeout=1.5))
                job = thread.submit(client.job, "/v1/jobs?model=one", root / "clip.mp4")
                if number:
                    os.kill(process_in(file), number)
                ended = job.result()
                file.unlink(missing_ok=True)
            assert ended["status"] == "failed" and reason in ended["error"]
            assert str(root) not in ended["error"]
        assert client.job("/v1/jobs?model=one", root / "clip.mp4")["status"] == "done"
        assert files_of(root) == []


def test_the_process_from_which_others_are_forked_may_be_killed(root):
    from multiprocessing import forkserver

    with service([root / "one"], temporary=root) as client:
        for _ in range(3):
            job = client.job("/v1/jobs?model=one", root / "clip.mp4")
            assert (job["status"], job["error"]) == ("done", None)
            os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
        wait_until(lambda: client.post(PREDICT, root / "clip.mp4").status == 200)


# Files


def broken_files(folder):
    """{name: bytes} of files that are no good video, and of some that are."""
    good, noise = save_clip(folder / "good.mp4").read_bytes(), np.random.default_rng(0)
    grey = np.full((2, 32, 32, 3), 128, np.uint8)
    files = {
        "good": good,
        "half": good[: len(good) // 2],
        "without the end": good[:-100],
        "without the head": good[100:],
        "head": good[:40],
        "empty": b"",
        "one byte": b"\0",
        "zeros": bytes(100_000),
        "text": b"not a video\n" * 100,
        "HTML": b"<!doctype html><html><body>404</body></html>",
        "zip": b"PK\3\4" + noise.bytes(1000),
        "gzip": b"\x1f\x8b\x08" + noise.bytes(1000),
        "ELF": Path(sys.executable).resolve().read_bytes()[:50_000],
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
        "a script": f"ffconcat version 1.0\nfile '{folder}/good.mp4'\n".encode(),
        "a script of a relative name": b"ffconcat version 1.0\nfile good.mp4\nfile secret.txt\n",
        "a playlist": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{folder}/good.mp4\n"
        "#EXT-X-ENDLIST\n".encode(),
        "a playlist of an address": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        "SDP": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"
        b"a=rtpmap:96 H264/90000\n",
        "DASH": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        b"<Period><AdaptationSet><Representation><BaseURL>good.mp4</BaseURL></Representation>"
        b"</AdaptationSet></Period></MPD>",
        "ASX": b'<asx version="3.0"><entry><ref href="file:///etc/passwd"/></entry></asx>',
        "subtitles": b"1\n00:00:00,000 --> 00:00:01,000\nHello\n",
        "tracks of another file": good.replace(b"url \0\0\0\1", b"url \0\0\0\0"),
        "GIF of an enormous canvas": gif(65535, 65535),
        "GIF without pictures": gif(10, 10)[:-20],
    }
    for suffix, codec, pixels in (
        ("png", "png", "rgb24"),
        ("jpg", "mjpeg", "yuvj420p"),
        ("bmp", "bmp", "bgr24"),
    ):
        write_video(folder / f"a.{suffix}", grey[:1], codec=codec, pix_fmt=pixels)
        files[suffix] = (folder / f"a.{suffix}").read_bytes()
    for suffix, codec in (("mkv", "pcm_s16le"), ("wav", "pcm_s16le"), ("mp4", "aac")):
        with av.open(str(folder / f"sound.{suffix}"), "w") as container:
            stream = container.add_stream(codec, rate=8000)
            kind, dtype = ("fltp", np.float32) if codec == "aac" else ("s16", np.int16)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), dtype), kind, "mono")
            frame.sample_rate = 8000
            container.mux([*stream.encode(frame), *stream.encode(None)])
        files[f"sound in {suffix}"] = (folder / f"sound.{suffix}").read_bytes()
    write_video(folder / "hours.mp4", grey, times=[0, 12 * 3600 * 30])
    files["thirty hours in two frames"] = (folder / "hours.mp4").read_bytes()
    write_video(folder / "fast.mkv", np.repeat(grey, 20, 0), rate=1000)
    files["forty milliseconds"] = (folder / "fast.mkv").read_bytes()
    # 65,535 samples of the same 4 bytes: the table of an MP4 file that gives all samples one size.
    files["a declared frame of 60000 x 60000"] = good.replace(
        b"\x00\x30\x00\x28", b"\xea\x60\xea\x60"
    ).replace(b"\x00\x28\x00\x30", b"\xea\x60\xea\x60")
    for suffix in ("mkv", "avi", "ts", "flv", "gif", "mpg", "webm"):
        options = {"gif": ("gif", "rgb8"), "mpg": ("mpeg1video", "yuv420p"), "webm": ("libvpx", "yuv420p")}
        codec, pixels = options.get(suffix, ("libx264", "yuv420p"))
        frames = noise.integers(0, 256, (12, 32, 48, 3), dtype=np.uint8)
        write_video(folder / f"a.{suffix}", frames, codec=codec, pix_fmt=pixels, rate=25)
        files[suffix] = (folder / f"a.{suffix}").read_bytes()
    files["MKV with an attachment"] = with_attachment(files["mkv"])
    for name in ("good", "mkv", "avi", "ts", "flv", "gif", "mpg", "webm"):
        files[f"noise after the head of {name}"] = files[name][:200] + noise.bytes(20_000)
    files["noise"] = noise.bytes(50_000)
    return files


def gif(width, height):
    """A GIF of two frames of one pixel on a canvas."""
    top = (
        b"GIF89a" + width.to_bytes(2, "little") + height.to_bytes(2, "little") + b"\x80\0\0\0\0\0\xff\xff\xff"
    )
    picture = b"!\xf9\4\0\x0a\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    return top + 2 * picture + b";"


def with_attachment(mkv):
    """A Matroska file with an attached file, in an element after its others."""
    name, kind = b"/etc/passwd", b"text/plain"
    fields = ((b"\x46\x6e", name), (b"\x46\x60", kind), (b"\x46\x5c", SECRET), (b"\x46\xae", b"\1"))
    file = b"".join(key + bytes([0x80 | len(x)]) + x for key, x in fields)
    attached = b"\x61\xa7" + bytes([0x80 | len(file)]) + file
    element = b"\x19\x41\xa4\x69" + (0x4000 | len(attached)).to_bytes(2, "big") + attached
    start = mkv.index(b"\x1f\x43\xb6\x75")  # the first cluster
    return mkv[:start] + element + mkv[start:]


def check_answer(answer, root):
    """A clear answer without a path of this machine or the content of another file."""
    assert answer.status in CLEAR, (answer.status, answer.body)
    assert SECRET not in answer.body and str(root).encode() not in answer.body
    assert b"/tmp" not in answer.body and b"videossp-serve" not in answer.body
    if answer.status != 200:
        assert not re.search(r"/\w+/", one_line(answer)), answer.body


def test_every_kind_of_broken_file_gets_a_clear_answer(client, root, tmp_path):
    (tmp_path / "secret.txt").write_bytes(SECRET)
    found = {}
    for name, data in broken_files(tmp_path).items():
        answer = client.post(PREDICT, data)
        check_answer(answer, tmp_path)
        found[name] = answer.status
    videos = {"good", "mkv", "avi", "ts", "flv", "gif", "mpg", "webm", "MKV with an attachment"}
    assert videos <= {name for name, status in found.items() if status == 200}
    assert {name for name in found if name.startswith(("a script", "a playlist", "SDP", "DASH", "ASX"))} <= {
        name for name, status in found.items() if status == 415
    }
    assert found["empty"] == found["half"] == 422
    for name in (
        "GIF of an enormous canvas",
        "a declared frame of 60000 x 60000",
        "thirty hours in two frames",
    ):
        assert found[name] == 413, name


def test_broken_files_are_clear_on_every_route(client, root, tmp_path):
    files = broken_files(tmp_path)
    for name in (
        "half",
        "text",
        "png",
        "a script",
        "GIF of an enormous canvas",
        "thirty hours in two frames",
    ):
        for path in ("/v1/embed?model=one", "/v1/explain?model=one&steps=1", "/v1/predict?model=one"):
            answer = client.post(path, files[name])
            check_answer(answer, tmp_path)
            assert answer.status != 200
        started = client.post("/v1/jobs?model=one", files[name])
        if started.status != 202:  # the container says already that it is no video
            check_answer(started, tmp_path)
            continue
        job = client.until_finished(started.json["id"])
        assert job["status"] == "failed" and job["error"].isprintable()
        assert "/tmp" not in job["error"] and "videossp-serve" not in job["error"]


@pytest.mark.parametrize("count", [50, 2000])
def test_videos_with_random_damage_get_clear_answers(client, tmp_path, count):
    files = broken_files(tmp_path)
    bases = [files[x] for x in ("good", "mkv", "avi", "ts", "flv", "gif", "mpg", "webm")]
    statuses = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        data = np.frombuffer(bases[seed % len(bases)], np.uint8).copy()
        # Half of the damage is in the head, which is smaller and says more.
        reach = min(len(data), 600) if seed % 2 else len(data)
        places = rng.integers(0, reach, 1 + seed % 13)
        data[places] = rng.integers(0, 256, len(places))
        start = rng.integers(0, reach)
        kept = [*([data[:start]] if seed % 5 == 0 else [data]), *([data[start:]] if seed % 7 == 0 else [])]
        answer = client.post(PREDICT, np.concatenate(kept).tobytes())
        check_answer(answer, tmp_path)
        statuses.append(answer.status)
    print({x: statuses.count(x) for x in sorted(set(statuses))})


# Disks and folders


@pytest.mark.parametrize("kind", ["limit", "tmpfs"])
def test_a_full_disk_is_an_answer_and_later_requests_work(root, tmp_path, kind):
    folder = tmp_path / "disk"
    folder.mkdir()
    body = (root / "clip.mp4").read_bytes()
    with full_disk(folder, kind) as (fill, free), service([root / "one"], temporary=folder) as client:
        assert client.post(PREDICT, body).status == 200
        fill()
        coded = {"inputs": [{"name": "video", "datatype": "BYTES", "shape": [1], "data": ["A" * 200_000]}]}
        answers = [
            client.post(PREDICT, body),
            client.post("/v1/jobs?model=one", body),
            client.post("/v2/models/one/infer", coded),
        ]
        assert [x.status for x in answers] == [507] * 3
        assert all("cannot store" in one_line(x) and str(tmp_path) not in one_line(x) for x in answers)
        assert files_of(folder) == []
        free()
        assert client.post(PREDICT, body).status == 200


@contextmanager
def full_disk(folder, kind):
    """Functions that leave no room in a folder, and room again."""
    if kind == "limit":
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            yield (
                lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1])),
                lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before),
            )
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no command mount")
    if mounted.returncode:
        pytest.skip(f"only root can mount a small disk: {mounted.stderr.strip()}")
    try:
        filler = folder / "filler"

        def fill():
            with pytest.raises(OSError) as error, filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            assert error.value.errno == errno.ENOSPC

        yield fill, filler.unlink
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_services_leave_the_files_of_running_ones_and_remove_those_of_killed_ones(root, tmp_path):
    code = (
        "import os, sys, pathlib\n"
        "from videossp.serving.uploads import Uploads\n"
        "uploads = Uploads(pathlib.Path(sys.argv[1]))\n"
        "uploads.open()\n"
        "(uploads.folder / 'video').touch()\n"
        "print(uploads.folder.name, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    running, killed = (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    )
    (tmp_path / "videossp-serve-other").symlink_to(root)  # not a folder of a service
    with running, killed:
        names = [x.stdout.readline().strip() for x in (running, killed)]
        killed.kill()
        killed.wait()
        with service([root / "one"], temporary=tmp_path) as client:
            left = {x.name for x in tmp_path.iterdir()} - {client.service.uploads.folder.name}
            assert left == {names[0], "videossp-serve-other"} and (root / "clip.mp4").exists()
            assert (tmp_path / names[0] / "video").exists()
            assert client.post(PREDICT, root / "clip.mp4").status == 200
        running.kill()


# Signals


@contextmanager
def half_sent(client, folder, video):
    """A connection on which half of a video was sent, once the service has it."""
    with connected(client) as sock:
        sock.sendall(head(Content_Length=len(video)) + video[: len(video) // 2])
        wait_until(lambda: files_of(folder) != [])
        yield sock


def test_sigterm_lets_requests_finish_and_refuses_new_ones(root, video, tmp_path):
    with process(root / "one", "--temporary", tmp_path, "--workers", 1) as client:
        with half_sent(client, tmp_path, video) as sock, connected(client) as idle:
            job = client.post("/v1/jobs?model=one", video)
            client.process.send_signal(signal.SIGTERM)
            wait_until(lambda: refuses(client))
            assert rest_of(idle) == b""
            sock.sendall(video[len(video) // 2 :])
            (answer,) = answers_in(rest_of(sock))
        assert answer.status == 200 and job.status == 202
        assert client.process.wait(60) == 0
        assert "Traceback" not in client.process.stderr.read()
    assert [*tmp_path.iterdir()] == []


def test_a_request_that_takes_longer_than_the_grace_is_told_that_the_service_stops(root, video, tmp_path):
    with process(root / "one", "--temporary", tmp_path, "--workers", 1, "--grace", 1) as client:
        with half_sent(client, tmp_path, video) as sock:
            client.process.send_signal(signal.SIGTERM)
            (answer,) = answers_in(rest_of(sock))
        assert answer.status == 503 and "stopping" in one_line(answer)
        assert client.process.wait(60) == 0
        assert "Traceback" not in client.process.stderr.read()
    assert [*tmp_path.iterdir()] == []


def refuses(client):
    """Whether a service takes no connections any more."""
    try:
        with connected(client):
            return False
    except ConnectionError:
        return True


def test_the_folder_of_a_service_that_was_killed_is_removed_by_the_next(root, video, tmp_path):
    with process(root / "one", "--temporary", tmp_path, "--workers", 1) as client:
        with half_sent(client, tmp_path, video) as sock:
            workers = children_of(client.process.pid)
            client.process.kill()
            client.process.wait()
            assert rest_of(sock) == b""
        assert len(files_of(tmp_path)) == 1
        wait_until(lambda: not any(map(runs, workers)))  # its processes end by themselves
    with service([root / "one"], temporary=tmp_path) as client:
        assert files_of(tmp_path) == [] and len([*tmp_path.iterdir()]) == 1
        assert client.post(PREDICT, video).status == 200
    assert [*tmp_path.iterdir()] == []


def children_of(parent):
    """Numbers of the processes below a process."""
    found = []
    for file in Path(f"/proc/{parent}/task").glob("*/children"):
        for number in map(int, file.read_text().split()):
            found += [number, *children_of(number)]
    return found


def runs(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# Names and headers


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "%2e%2e",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "..%2f..%2fone",
        "one%00",
        "%00",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "..\\..\\one",
        "one%0d%0aX-Injected:%201",
        "%ff%fe",
        "%ed%a0%80",
        "%e2%80%ae",
        "one/../one",
        "a" * 10_000,
        "{name}",
        "$(id)",
        "%",
        "%zz",
    ],
)
def test_names_cannot_leave_their_place(client, video, name):
    for method, path in (
        ("GET", f"/v1/models/{name}"),
        ("POST", f"/v1/models/{name}/predict"),
        ("POST", f"/v1/embed?model={name}"),
        ("GET", f"/v1/jobs/{name}"),
        ("DELETE", f"/v1/adapters/{name}"),
        ("GET", f"/v2/models/{name}"),
        ("GET", f"/label-studio/{name}/health"),
        ("GET", f"/page/{name}"),
        ("GET", f"/docs/{name}"),
    ):
        data = head(method, path, Content_Length=len(video) if method == "POST" else 0, Connection="close")
        (answer,) = sent(client, data + (video if method == "POST" else b""))
        assert answer.status in (404, 405) and "x-injected" not in answer.headers, path
        assert b"root:" not in answer.body
        one_line(answer)


@pytest.mark.parametrize(
    "folder",
    [
        "..",
        ".",
        "../one",
        "/etc",
        "other/../../one",
        "\0",
        "other\0",
        "a" * 999,
        "~",
        "\ud800",
        "",
        "x/" * 499,
    ]
    + ["link", "other/adapter_config.json"],
)
def test_adapters_are_loaded_only_from_below_their_folder(client, root, folder):
    if not (root / "below/link").is_symlink():
        (root / "below/link").symlink_to(root / "one")
    answer = client.post("/v1/adapters", {"folder": folder, "name": "new"})
    assert answer.status in (404, 422) and str(root) not in one_line(answer)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"[" * 50_000,
        b'{"folder": ' * 10_000,
        b'{"folder": ' + b"9" * 10_000 + b"}",
        b"\xff\xfe",
        b'{"folder": NaN}',
        b'{"folder": "other", "name": ""}',
        b'{"folder": "other", "name": "a/b"}',
        b'{"folder": "other", "name": "\\u202e"}',
        b'{"folder": "other", "name": "\\ud800"}',
    ],
    ids=range(13),
)
@pytest.mark.parametrize("path", ["/v1/adapters", "/v2/models/one/infer", "/label-studio/one/setup"])
def test_json_of_every_kind_is_refused_in_one_line(client, path, body):
    answer = client.post(path, body, headers={"Content-Type": "application/json"})
    if path.startswith("/label-studio") and answer.status == 200:
        return  # a body without a labelling interface has nothing to check
    assert answer.status == 422, answer.body
    one_line(answer)


def test_tasks_of_label_studio_with_impossible_names_are_errors_of_the_task(root):
    interface = '<View><Video name="v" value="$v"/><Choices name="c" toName="v"/></View>'
    local = "/data/local-files/?d="
    names = [
        "//[",
        "//[::1",
        f"{local}a%00b",
        f"{local}{'a' * 9000}",
        f"{local}%ed%a0%80",
        f"{local}..",
        7,
        None,
    ]
    with service([root / "one"], label_studio=root) as client:
        tasks = [{"id": i, "data": {"v": x}} for i, x in enumerate(names)]
        answer = client.post("/label-studio/one/predict", {"tasks": tasks, "label_config": interface})
        assert answer.status == 200
        assert all(x["error"] and x["error"].isprintable() for x in answer.json["results"])


def test_without_the_right_token_there_is_nothing_to_see(root, video):
    import base64

    wrong = [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN} {TOKEN}",
        f"Token {TOKEN}",
        TOKEN,
        "Bearer " + "a" * 10_000,
        "Bearer \xe4\xf6\xfc",
        "Bearer \xff" + TOKEN,
        "Basic",
        "Basic ====",
        "Basic \xe4",
        "Basic " + base64.b64encode(b"user").decode(),
        "Basic " + base64.b64encode(TOKEN.encode() + b":").decode(),
        "Digest a=b",
    ]
    good = [
        f"Bearer {TOKEN}",
        f"bearer {TOKEN}",
        "Basic " + base64.b64encode(b"a:" + TOKEN.encode()).decode(),
    ]
    with service([root / "one"], token=TOKEN, below=root / "below") as client:
        client.token = None
        paths = [("GET", "/v1/models"), ("POST", PREDICT), ("GET", "/metrics"), ("GET", "/v1/adapters")]
        paths += [("DELETE", "/v1/adapters/one"), ("GET", "/v2"), ("GET", "/none"), ("GET", "//v1/models")]
        paths += [("GET", "/health/../v1/models"), ("GET", "/V1/models")]
        for value in wrong:
            for method, path in paths:
                headers = {} if value is None else {"Authorization": value}
                answer = client(method, path, headers=headers)
                refused = path.startswith("/health/") and answer.status == 404
                assert answer.status == 401 or refused, (value, path)
                one_line(answer)
                assert refused or answer.headers["www-authenticate"] == "Bearer"
        for value in good:
            assert client("POST", PREDICT, video, headers={"Authorization": value}).status == 200
        twice = f"Bearer {TOKEN}\r\nAuthorization: Bearer wrong"
        (answer,) = sent(client, head("GET", "/v1/models", Authorization=twice, Connection="close"))
        assert answer.status == 401


def test_pages_of_other_sites_get_nothing(root):
    evil = ["evil.test", "evil.test:80", "localhost.evil.test", "127.0.0.1.evil.test", "", "[::2]", "\xe4"]
    evil += ["a" * 9999, "localhost:80:80", "localhost@evil.test", "127.0.0.2", "localhost, evil.test"]
    with service([root / "one"], hosts=LOCAL_NAMES) as client:
        for host in evil:
            for method, path in (("GET", "/v1/models"), ("POST", PREDICT), ("GET", "/"), ("GET", "/docs")):
                answer = client(method, path, headers={"Host": host})
                assert answer.status == 403 and "host" in one_line(answer)
        for good in ("localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]", "[::1]:8000"):
            assert client("GET", "/health/live", headers={"Host": good}).status == 200
        for method in ("POST", "DELETE", "PUT", "OPTIONS"):
            answer = client(method, PREDICT, headers={"Sec-Fetch-Site": "cross-site"})
            assert answer.status == 403 and "other sites" in one_line(answer)


def test_errors_of_the_open_inference_protocol_have_its_shape(root):
    with service([root / "one"], token=TOKEN, hosts=LOCAL_NAMES) as client:
        for headers in ({"Authorization": "no"}, {"Host": "evil.test"}):
            assert [*client.get("/v2/models/one", headers=headers).json] == ["error"]
            assert [*client.get("/v1/models/one", headers=headers).json] == ["detail"]
