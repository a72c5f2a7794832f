"""Load on `videossp serve` on this machine: requests per second, latency, the gain of batching, memory.

    python benchmarks/serve.py DEMO [--requests 160] [--keep]
    python benchmarks/serve.py DEMO --soak 2000 [--keep]

DEMO is the folder that `videossp demo --out DEMO` leaves. Its test clips are sent in turn by 1, 4 and 16
clients, which are threads of this process, to servers with 1, 8 and 32 adapters: copies of DEMO/ssp, then of
DEMO/linear. Each request names one adapter, in turn. Clients and server share the cores.

batching: for one adapter and 16 clients, a server with --batch-size 8 and one with --batch-size 1 take turns;
the ratio of their requests per second is that of neighbours in time.

shared: one client sends each clip to four adapters, in one request or in four requests, in turn.

--soak: so many requests are sent one after the other by 4 clients; the memory of the server is read after the
first 200 and at the end. One request in ten is a broken file.

--keep: write the figures to benchmarks/results/serve.json, in place of older ones of the same kind.
"""

import argparse
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from records import RESULTS, read, write

ADAPTERS, CLIENTS, ROUNDS = (1, 8, 32), (1, 4, 16), 3
Row = dict[str, Any]


class Server:
    """A running `videossp serve` with copies of an adapter."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def get(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def memory(self) -> float:
        """Resident memory of the serving process in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s*(\d+)", status)
        return int(found[1]) * 1024 / 1e6 if found else 0.0

    def passes(self) -> tuple[float, float]:
        """Passes and requests in them so far."""
        text = self.get("/metrics")
        count, total = (
            float(re.findall(rf"^videossp_batch_requests_{x} ([\d.]+)", text, re.MULTILINE)[0])
            for x in ("count", "sum")
        )
        return count, total


@contextmanager
def serving(adapter: Path, count: int, *flags: str) -> Iterator[Server]:
    """A server with so many copies of an adapter, which are named a0, a1, ..."""
    with tempfile.TemporaryDirectory() as folder:
        for i in range(count):
            Path(folder, f"a{i}").symlink_to(adapter.absolute())
        names = [f"{folder}/a{i}" for i in range(count)]
        command = [sys.executable, "-m", "videossp", "serve", *names, "--port", "0", "--json"]
        process = subprocess.Popen(
            [*command, "--queue", "64", *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            assert process.stdout is not None
            port = int(json.loads(process.stdout.readline())["url"].rpartition(":")[2])
            yield Server(process, port)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def load(server: Server, clips: Sequence[bytes], names: Sequence[str], clients: int, requests: int) -> Row:
    """Send requests, each as soon as the client has the answer of the one before."""
    seconds: list[float] = []
    statuses: list[int] = []
    todo = iter(range(requests))
    lock = threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        while True:
            with lock:
                number = next(todo, None)
            if number is None:
                return connection.close()
            start = time.perf_counter()
            connection.request(
                "POST", f"/v1/models/{names[number % len(names)]}/predict", clips[number % len(clips)]
            )
            answer = connection.getresponse()
            answer.read()
            with lock:
                seconds.append(time.perf_counter() - start)
                statuses.append(answer.status)

    before, start = server.passes(), time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for x in threads:
        x.start()
    for x in threads:
        x.join()
    wall, after = time.perf_counter() - start, server.passes()
    cuts = statistics.quantiles(seconds, n=100)
    return {
        "adapters": len(names),
        "clients": clients,
        "requests": requests,
        "answered": statuses.count(200),
        "per_second": requests / wall,
        **{f"p{x}_ms": 1000 * cuts[x - 1] for x in (50, 95, 99)},
        "batch": (after[1] - before[1]) / max(1, after[0] - before[0]),
        "memory_mb": server.memory(),
    }


def latencies(demo: Path, clips: Sequence[bytes], requests: int) -> Iterator[Row]:
    """The load by numbers of adapters and clients."""
    for method in ("ssp", "linear"):
        for count in ADAPTERS:
            names = [f"a{i}" for i in range(count)]
            with serving(demo / method, count) as server:
                load(server, clips, names, 4, 32)  # warm
                for clients in CLIENTS:
                    yield {"kind": "load", "method": method, **load(server, clips, names, clients, requests)}


def batching(demo: Path, clips: Sequence[bytes], requests: int) -> Iterator[Row]:
    """Batches of up to 8 requests, and one request at a time, in turn."""
    with serving(demo / "ssp", 1) as many, serving(demo / "ssp", 1, "--batch-size", "1") as one:
        for server in (many, one):
            load(server, clips, ["a0"], 4, 32)
        for _ in range(ROUNDS):
            a, b = (load(x, clips, ["a0"], 16, requests) for x in (many, one))
            yield {
                "kind": "batching",
                "batched": a["per_second"],
                "one_at_a_time": b["per_second"],
                "ratio": a["per_second"] / b["per_second"],
                "batch": a["batch"],
            }


def shared(demo: Path, clips: Sequence[bytes], videos: int = 30) -> Iterator[Row]:
    """Milliseconds for a video and four adapters, in one request and in four requests."""
    names = [f"a{i}" for i in range(4)]
    for method in ("linear", "ssp"):
        with serving(demo / method, 4) as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)

            def post(path: str, clip: bytes, connection: http.client.HTTPConnection = connection) -> None:
                connection.request("POST", path, clip)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200

            spent: dict[str, list[float]] = {"one": [], "four": []}
            for i in range(videos + 3):
                clip = clips[i % len(clips)]
                start = time.perf_counter()
                post(f"/v1/predict?model={'&model='.join(names)}", clip)
                middle = time.perf_counter()
                for name in names:
                    post(f"/v1/models/{name}/predict", clip)
                if i >= 3:
                    spent["one"].append(1000 * (middle - start))
                    spent["four"].append(1000 * (time.perf_counter() - middle))
            connection.close()
            medians = {f"{name}_ms": statistics.median(x) for name, x in spent.items()}
            yield {"kind": "shared", "method": method, **medians}


def soak(demo: Path, clips: Sequence[bytes], requests: int) -> Row:
    """The growth of the server's memory over many requests, some of them broken files."""
    sent = [clips[i % len(clips)] if i % 10 else clips[0][: len(clips[0]) // 2] for i in range(50)]
    with serving(demo / "ssp", 1) as server:
        load(server, sent, ["a0"], 4, 200)
        start = server.memory()
        row = load(server, sent, ["a0"], 4, requests)
        return {"kind": "soak", **row, "growth_mb": server.memory() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--requests", type=int, default=160)
    parser.add_argument("--soak", type=int)
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    clips = [x.read_bytes() for x in sorted((args.demo / "clips").rglob("*.mp4"))[:64]]
    rows: list[Row] = []
    found = (
        [soak(args.demo, clips, args.soak)]
        if args.soak
        else chain(
            batching(args.demo, clips, args.requests),
            shared(args.demo, clips),
            latencies(args.demo, clips, args.requests),
        )
    )
    for row in found:
        rows.append(row)
        print({k: round(x, 2) if isinstance(x, float) else x for k, x in row.items()}, flush=True)
    if args.keep:
        file, kinds = RESULTS / "serve.json", {x["kind"] for x in rows}
        write(file, [*(x for x in read(file) if x["kind"] not in kinds), *rows])


if __name__ == "__main__":
    main()
