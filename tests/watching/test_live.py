"""Live sources: the newest frames, a lag that does not grow, lost streams, and no other file is opened."""

import contextlib
import http.server
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

import videossp
from conftest import numbered_frames
from videossp.data.sampling import ClipFormat
from videossp.errors import DataError
from videossp.watching.ahead import ahead
from videossp.watching.held import Held, Preparer
from videossp.watching.live import LiveReader, Newest
from videossp.watching.source import Source, connect, masked
from videossp.watching.watch import Watcher

RATE = 24
RTSP = """
import asyncio, sys
from aio_rtsp_toolkit.server import RtspServer
asyncio.run(RtspServer(sys.argv[1], "127.0.0.1", int(sys.argv[2])).serve_forever())
"""


def write_stream(path, seconds, codec="libx264"):
    """A video whose decoder can start every half second."""
    frames = itertools.cycle(numbered_frames(48))
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"g": "12", "bf": "0", "preset": "ultrafast", "tune": "zerolatency"}
        for i in range(seconds * RATE):
            frame = av.VideoFrame.from_ndarray(next(frames), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, RATE)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def free_port():
    with socket.socket() as x:
        x.bind(("127.0.0.1", 0))
        return x.getsockname()[1]


class RtspServer:
    """A server of another package, in a process that can be killed."""

    def __init__(self, folder):
        write_stream(folder / "a.mp4", 30)
        self.folder, self.port = folder, free_port()
        self.url = f"rtsp://user:secret@127.0.0.1:{self.port}/a.mp4"
        self.start()

    def start(self):
        command = [sys.executable, "-c", RTSP, str(self.folder), str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert b"listening" in self.process.stdout.readline()
        self.reader = threading.Thread(
            target=self.process.stdout.read, daemon=True
        )  # so that it never blocks
        self.reader.start()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()


class HttpServer:
    """Sends a transport stream at the pace of its frames, without saying how long it is."""

    def __init__(self, folder):
        self.data = write_stream(folder / "a.ts", 30).read_bytes()
        self.port = free_port()
        self.url = f"http://user:secret@127.0.0.1:{self.port}/live?token=secret"
        self.start()

    def start(self):
        stopped = self.stopped = threading.Event()
        data, part = self.data, max(188, len(self.data) // (30 * 10))

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "video/mp2t")
                self.end_headers()
                for place in range(0, len(data), part):
                    if stopped.wait(0.1):
                        return
                    self.wfile.write(data[place : place + part])

            def handle(self):
                with contextlib.suppress(OSError):  # the reader is gone
                    super().handle()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = False
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def kill(self):
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.mark.parametrize("kind", [RtspServer, HttpServer], ids=["rtsp", "http"])
def test_a_stream_that_is_killed_and_restarted_is_found_again(small_classifier, tmp_path, kind):
    server, lines = kind(tmp_path), []
    try:
        watcher = Watcher(
            small_classifier,
            server.url,
            windows=[0.5],
            nothing=100.0,
            join=False,
            reconnect=240,
            report=lines.append,
        )
        found = iter(watcher)
        before = [next(found) for _ in range(3)]
        assert watcher.live is True and watcher.counts.reconnected == 0
        server.kill()
        server.start()
        after = []
        while len(after) < 3:
            segment = next(found)
            (after if watcher.counts.reconnected else before).append(segment)
        found.close()
    finally:
        server.kill()
    everything = [*before, *after]
    assert all(0 < x.end - x.start < 0.51 for x in everything)  # windows, none of which spans the gap
    assert all(a.end <= b.start + 1e-9 for a, b in zip(everything, everything[1:], strict=False))
    assert max(b.start - a.end for a, b in zip(everything, everything[1:], strict=False)) > 0.5
    for x in everything:
        assert x.start_time.tzinfo and (x.end_time - x.start_time).total_seconds() == pytest.approx(
            x.end - x.start, abs=1e-5
        )
    assert "lost (" in lines[0] and "connected again after" in lines[-1]
    assert not any("secret" in x or "user" in x for x in lines)
    assert watcher.counts.windows > 6 and watcher.counts.prepared <= watcher.counts.frames


def test_a_stream_that_does_not_come_back_ends_after_its_last_segments(small_classifier, tmp_path):
    server = HttpServer(tmp_path)
    try:
        watcher = Watcher(
            small_classifier, server.url, windows=[0.5], nothing=100.0, join=False, reconnect=0.5
        )
        found = iter(watcher)
        segments = [next(found)]
    finally:
        server.kill()
    with pytest.raises(DataError, match=r"\*\*\*@127.0.0.1.*lost, and not back within 0.5 s") as error:
        segments.extend(found)
    assert "secret" not in str(error.value)
    assert segments[-1].end <= watcher.counts.seconds + 1e-6


def test_a_stream_that_stalls_is_tried_again_even_if_the_time_out_is_longer():
    frame = av.VideoFrame.from_ndarray(np.zeros((4, 4, 3), np.uint8), format="rgb24")
    late = [0.0]

    class Frames:
        problem = "no data for 15 s"

        def of(self, connection):
            yield Held(frame, 0.0, None, time.monotonic())
            late[0] = 15.0

    lines, newest = [], Newest(1.0)
    source = Source.of(f"tcp://127.0.0.1:{free_port()}")
    reader = LiveReader(
        source, object(), Frames(), newest, 0.1, lines.append, lambda: time.monotonic() + late[0]
    )
    while not newest.ended:
        newest.take(1.0)
    reader.stop()
    assert "lost (no data for 15 s)" in lines[0]
    assert re.search(r"not back within 0.1 s \(.*cannot be opened", reader.problem)


def test_a_file_that_is_watched_as_a_live_source_ends(small_classifier, tmp_path):
    write_stream(tmp_path / "a.ts", 2)
    watcher = Watcher(
        small_classifier, tmp_path / "a.ts", windows=[0.5], nothing=100.0, live=True, report=print
    )
    assert [*watcher] and watcher.counts.frames == 48 and watcher.counts.reconnected == 0


def test_a_stream_of_datagrams_is_watched(small_classifier):
    url, stopped = f"udp://127.0.0.1:{free_port()}", threading.Event()

    def send():
        with av.open(f"{url}?pkt_size=1316", "w", format="mpegts") as file:
            stream = file.add_stream("mpeg2video", rate=RATE)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for i, pixels in enumerate(itertools.cycle(numbered_frames(48))):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, RATE)
                file.mux(stream.encode(frame))
                if stopped.wait(1 / RATE / 4):  # four times too fast: the reader looks at seconds of a stream
                    return

    sender = threading.Thread(target=send)
    sender.start()
    try:
        watcher = Watcher(small_classifier, url, windows=[0.5], nothing=100.0, join=False)
        found = iter(watcher)
        segments = [next(found) for _ in range(3)]
        found.close()
    finally:
        stopped.set()
        sender.join()
    assert watcher.live and [x.end > x.start for x in segments] == [True] * 3


def test_a_device_is_a_camera_and_one_that_is_none_is_one_line():
    assert Source.of("/dev/null").kind == "camera"
    with pytest.raises(DataError, match="/dev/null: cannot be opened"):
        connect(Source.of("/dev/null"))


class VirtualCamera:
    """A camera and a clock that moves only when somebody waits or computes."""

    def __init__(self, seconds, rate):
        prepare = Preparer(ClipFormat(frames=4, size=(32, 32)), "camera")
        pixels = np.zeros((32, 32, 3), np.uint8)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        self.frames = [Held(frame, i / rate, prepare, i / rate) for i in range(int(seconds * rate))]
        self.now, self.next = 0.0, 0
        self.ended = False

    def __len__(self):
        return 0

    def take(self, timeout):
        if self.next < len(self.frames):
            self.now = max(self.now, self.frames[self.next].arrival)
        while self.next < len(self.frames) and self.frames[self.next].arrival <= self.now:
            self.newest.add(self.frames[self.next])
            self.next += 1
        self.ended = self.next == len(self.frames)
        return self.newest.take(0)


@pytest.mark.parametrize("windows", [[1.0], [1.0, 2.0]], ids=["one length", "two lengths"])
@pytest.mark.parametrize("slowness", [0.5, 1.2, 3.0, 40.0])
def test_with_a_slow_model_the_lag_does_not_grow(small_classifier, slowness, windows):
    camera = VirtualCamera(120, 20)
    watcher = Watcher(
        small_classifier, "-", windows=windows, nothing=100.0, join=False, clock=lambda: camera.now
    )
    camera.newest = Newest(watcher.grid.seconds(watcher.grid.longest + 2))
    cost = slowness * watcher.grid.hop_seconds / len(windows)  # so many times too slow for all windows

    def passes(views):
        camera.now += cost * len(views)
        return torch.full((len(views), 3), 1 / 3)

    segments = list(watcher.follow(camera, passes))
    counts = watcher.counts
    if slowness <= 3:
        assert counts.lag < 2 * windows[0]
    # Two passes, because the end of the stream may fall into one, a hop and a frame of 0.05 s.
    assert counts.lag <= (2 * slowness + 1.3) * watcher.grid.hop_seconds
    assert (counts.left_out == 0) == (slowness < 1)
    assert (camera.newest.dropped > 0) == (slowness == 40)
    assert all(a.end <= b.start for a, b in zip(segments, segments[1:], strict=False))
    assert segments[-1].end > 100
    assert counts.windows * cost == pytest.approx(120, rel=0.15) or slowness < 1  # the model is never idle


def test_the_newest_frames_are_kept_and_the_others_counted():
    frame = av.VideoFrame.from_ndarray(np.zeros((4, 4, 3), np.uint8), format="rgb24")
    newest = Newest(1.0)
    held = [Held(frame, i / 10, None, i / 10) for i in range(35)]
    for x in held[:5]:
        newest.add(x)
    assert newest.take(0) == held[:5] and newest.dropped == 0 and newest.take(0) == []
    for x in held[5:]:
        newest.add(x)
    kept = newest.take(0)
    assert kept == held[24:] and newest.dropped == 19 and newest.received == 35
    assert [x.follows_gap for x in kept] == [True] + [False] * 10


def test_no_window_spans_dropped_frames(small_classifier):
    watcher = Watcher(small_classifier, "-", windows=[1.0], nothing=100.0, join=False)
    camera = VirtualCamera(10, 20)
    held = [x for x in camera.frames if not 3.1 < x.time < 5.4]
    next(x for x in held if x.time >= 5.4).follows_gap = True
    seen = []

    class Frames:
        ended = False

        def __len__(self):
            return 0

        def take(self, timeout):
            self.ended = len(held) < 2
            return [held.pop(0)]

    def passes(views):
        return torch.full((len(views), 3), 1 / 3)

    add = watcher._add
    watcher._add = lambda first, stop, scores: seen.append((first / 4, stop / 4)) or add(first, stop, scores)
    list(watcher.follow(Frames(), passes))
    assert max(stop for _, stop in seen if stop < 5) == 3.0
    assert min(start for start, stop in seen if stop > 5) == 5.5


def test_sessions_do_not_overlap_if_a_server_sends_its_first_seconds_at_once(small_classifier):
    pixels = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
    prepare = Preparer(ClipFormat(frames=4, size=(32, 32)), "camera")
    held = [[Held(pixels, i / 20, prepare, float(x), x) for i in range(80)] for x in range(3)]

    class Frames:
        ended = False

        def __len__(self):
            return len(held)

        def take(self, timeout):
            self.ended = len(held) == 1
            return held.pop(0)

    watcher = Watcher(small_classifier, "-", windows=[1.0], nothing=100.0, join=False)
    segments = list(watcher.follow(Frames(), lambda views: torch.full((len(views), 3), 1 / 3)))
    assert all(a.end <= b.start for a, b in zip(segments, segments[1:], strict=False))
    assert segments[-1].start > 8


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://u:p@host/a", "rtsp://***@host/a"),
        ("rtsp://u:p@ss/w@host:554/a?key=1", "rtsp://***@host:554/a?***"),
        ("http://host/a?user=u&pwd=p", "http://host/a?***"),
        ("udp://127.0.0.1:5000", "udp://127.0.0.1:5000"),
    ],
)
def test_passwords_are_never_shown(url, shown):
    assert masked(url) == Source(url, "network").shown == shown


def test_a_source_that_cannot_be_opened_is_one_line_without_its_password(small_classifier, tmp_path):
    port = free_port()
    for url in (f"rtsp://u:secret@127.0.0.1:{port}/a", f"http://u:secret@127.0.0.1:{port}/a?b=secret"):
        with pytest.raises(DataError, match="cannot be opened") as error:
            list(videossp.watch(small_classifier, url, windows=[1]))
        assert "secret" not in str(error.value) and "\n" not in str(error.value)
    for name, kind, words in (
        ("ftp://u:secret@host/a", ValueError, r"ftp://\*\*\*@host/a: no protocol 'ftp'"),
        (tmp_path / "none.mp4", DataError, "no such file"),
    ):
        with pytest.raises(kind, match=words):
            list(videossp.watch(small_classifier, name, windows=[1]))
    with pytest.raises(ValueError, match="--window"):
        list(videossp.watch(small_classifier, "-"))


@contextlib.contextmanager
def silent_server(accepted=lambda: None):
    """The URL of a server that accepts a connection, and sends nothing until the context ends."""
    ended = threading.Event()

    def serve(listener):
        with listener.accept()[0]:
            accepted()
            ended.wait(120)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield f"tcp://user:secret@127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


def test_an_interruption_does_not_wait_for_a_source_that_gives_no_data(small_classifier, monkeypatch):
    monkeypatch.setattr("videossp.watching.source.TIMEOUT", 120.0)
    with silent_server(lambda: os.kill(os.getpid(), signal.SIGINT)) as url, pytest.raises(KeyboardInterrupt):
        list(videossp.watch(small_classifier, url, windows=[1]))
    asked = threading.Event()
    with silent_server(asked.set) as url:
        assert [*Watcher(small_classifier, url, windows=[1], stopped=asked.is_set)] == []


def test_a_source_that_gives_no_data_is_an_error_without_its_password(small_classifier, monkeypatch):
    monkeypatch.setattr("videossp.watching.source.TIMEOUT", 0.5)
    with silent_server() as url, pytest.raises(DataError, match="opened: no data for 0.5 s") as error:
        list(videossp.watch(small_classifier, url, windows=[1]))
    assert "secret" not in "".join(traceback.format_exception(error.value))


def test_a_playlist_opens_streams_of_the_network_but_no_local_file(tmp_path):
    secret = write_stream(tmp_path / "secret.ts", 2)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.ts").write_bytes(secret.read_bytes())
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n"
    for name, target in (("good", "a.ts"), ("bad", secret.as_uri()), ("path", str(secret))):
        (tmp_path / "web" / f"{name}.m3u8").write_text(f"{head}{target}\n#EXT-X-ENDLIST\n")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=tmp_path / "web")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            with connect(Source.of(f"{address}/good.m3u8")).container as container:
                assert sum(1 for _ in container.decode(video=0)) == 48
            for name in ("bad", "path"):
                with pytest.raises(DataError, match=r"cannot be opened|no video stream"):
                    connect(Source.of(f"{address}/{name}.m3u8"))
            assert not connect(Source.of(f"{address}/a.ts")).live  # a file on a web server waits
        finally:
            server.shutdown()
    for name in ("good", "bad"):
        with pytest.raises(DataError):
            connect(Source.of(str(tmp_path / "web" / f"{name}.m3u8")))


def test_work_ahead_is_bounded_ends_when_closed_and_passes_errors_on():
    made, closed = [], threading.Event()

    def items():
        try:
            for i in range(100):
                made.append(i)
                yield i
            raise DataError("at the end")
        finally:
            closed.set()

    found = ahead(items(), 4)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    found.close()
    assert closed.wait(120) and len(made) <= 9
    seen = []
    with pytest.raises(DataError, match="at the end"):
        seen.extend(ahead(items(), 4))
    assert seen == [*range(100)]
