"""Bulk runs of the command with a real model, killed, on Ray, from an object store: the same rows."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from conftest import write_video
from videossp.classifier import Classifier

pytestmark = pytest.mark.slow  # small cases: test_run_shards.py, test_ray_cluster.py, test_remote.py
DEADLINE = 600


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with 500 clips, list.txt, an adapter, and the rows of one process that was not disturbed."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    (folder / "clips").mkdir()
    for i in range(500):
        frames = rng.integers(0, 255, (1, 8, 8, 3)).repeat(8, 0).repeat(6, 1).repeat(6, 2).astype(np.uint8)
        write_video(folder / "clips" / f"{i:03d}.mp4", frames)
    (folder / "clips" / "123.mp4").write_bytes(b"no video")
    (folder / "list.txt").write_text("".join(f"clips/{i:03d}.mp4\n" for i in range(500)))
    Classifier.create("videomamba_nano", classes=[*"abc"], method="ssp").save(folder / "adapter")
    assert wait(start(folder, "list.txt", "one")) == 3
    return folder


def start(folder, file, out, *flags, **environment):
    """The command in a process of its own: shards of 24, in batches of 8."""
    command = [sys.executable, "-m", "videossp", "predict", "adapter", "--list", file, "--out", out]
    # One thread, so that products add up in one order everywhere.
    settings = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen([*command, "--shard-size", "24", *flags], cwd=folder, env=settings)


def wait(process):
    try:
        return process.wait(DEADLINE)
    finally:
        process.kill()


def rows_of(folder):
    files = sorted(folder.glob("part-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def check_same(rows, expected):
    """The same rows; probabilities within 1e-5, because the batches of an interrupted run are others."""
    assert [x["path"] for x in rows] == [x["path"] for x in expected]
    for row, other in zip(rows, expected, strict=True):
        own, wanted = ({x["class"]: x["probability"] for x in y["top"]} for y in (row, other))
        assert row["error"] == other["error"] and [*own][:1] == [*wanted][:1]
        assert own == pytest.approx(wanted, abs=1e-5)


def test_killed_twenty_times_at_random_every_video_is_there_once(runs):
    draw, kills = random.Random(1), 0
    while True:
        process = start(runs, "list.txt", "killed", "--workers", "1")
        if kills < 20:
            before = len([*(runs / "killed").glob("part-*")])
            deadline = time.monotonic() + DEADLINE
            lucky = draw.random() < 0.7  # most die while they compute, some before
            while lucky and process.poll() is None and time.monotonic() < deadline:
                if len([*(runs / "killed").glob("part-*")]) > before:
                    break
                time.sleep(0.01)
            time.sleep(draw.random() * (0.1 if lucky else 4))
            process.kill()
        code = wait(process)
        if code == 3:
            break
        assert code == -signal.SIGKILL
        kills += 1
    print(f"{kills} kills")
    assert kills >= 10
    check_same(rows_of(runs / "killed"), rows_of(runs / "one"))


def test_three_processes_on_one_folder(runs):
    processes = [start(runs, "list.txt", "three", "--workers", "0") for _ in range(3)]
    assert [wait(x) for x in processes] == [3, 3, 3]
    check_same(rows_of(runs / "three"), rows_of(runs / "one"))


def test_actors_of_ray(runs):
    pytest.importorskip("ray", reason="ray is not installed")
    assert wait(start(runs, "list.txt", "ray", "--ray", "local")) == 3
    check_same(rows_of(runs / "ray"), rows_of(runs / "one"))


def test_an_object_store_gives_the_rows_of_the_files(runs):
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        access = dict(zip(("aws_access_key_id", "aws_secret_access_key"), keys.values(), strict=True))
        client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **access)
        client.create_bucket(Bucket="videos")
        for file in (runs / "clips").iterdir():
            client.upload_file(str(file), "videos", f"clips/{file.name}")
        client.close()
        text = (runs / "list.txt").read_text()
        (runs / "uris.txt").write_text(text.replace("clips/", "s3://videos/clips/"))
        environment = {**keys, "AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "us-east-1"}
        (runs / "temporary").mkdir()
        environment["TMPDIR"] = str(runs / "temporary")
        assert wait(start(runs, "uris.txt", "bucket", "--workers", "2", **environment)) == 3
    finally:
        server.stop()
    assert not [*(runs / "temporary").glob("videossp-*")]
    expected = json.loads(json.dumps(rows_of(runs / "one")).replace("clips/", "s3://videos/clips/"))
    assert rows_of(runs / "bucket") == expected  # to the last digit: the batches are the same
