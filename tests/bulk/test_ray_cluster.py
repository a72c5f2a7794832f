"""Ray on this machine: an actor that is killed, one that dies at every try, one that does not start."""

import os
import signal
from pathlib import Path

import bulk_jobs
import pytest
from bulk_jobs import length_of, open_all, rows_of

from videossp.bulk.ray_cluster import Job, Share, run_on_ray, share_of


@pytest.mark.parametrize(
    ("cpus", "gpus", "device", "workers", "share"),
    [
        (8, 0, "auto", None, Share(8, 1, 0, 0)),
        (8, 0, "auto", 1, Share(4, 2, 0, 1)),
        (0, 0, "auto", None, Share(1, 1, 0, 0)),
        (32, 4, "auto", None, Share(4, 8, 1, 7)),
        (32, 4, "cuda", 2, Share(4, 8, 1, 2)),
        (2, 4, "auto", None, Share(4, 1, 1, 1)),
        (32, 4, "cpu", None, Share(32, 1, 0, 0)),
    ],
)
def test_an_actor_has_a_gpu_or_a_core(cpus, gpus, device, workers, share):
    assert share_of(cpus, gpus, Job(bulk_jobs.start, device, workers)) == share


@pytest.fixture(scope="module")
def cluster():
    """Ray with two processors, started once for the tests of this file, which takes seconds."""
    ray = pytest.importorskip("ray", reason="ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Actors import `bulk_jobs` from here, and the package like this process.
        folders = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))
        handler = signal.getsignal(signal.SIGTERM)
        ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100_000_000)
        yield "local"
        ray.shutdown()
        signal.signal(signal.SIGTERM, handler)  # Ray replaces it, and tests of signals may follow


def names_in(tmp_path, names):
    (tmp_path / "list.txt").write_text("\n".join(names))
    return open_all(tmp_path / "list.txt", tmp_path / "out", 5)


def run(cluster, videos, parts, start):
    return [*run_on_ray(cluster, range(videos.shards), videos.shard, parts, Job(start))]


def test_a_killed_actor_is_started_again_and_every_video_is_there_once(cluster, tmp_path):
    names = [f"{'broken' if i == 3 else 'clip'}-{i}.mp4" for i in range(53)]
    names[27] = str(tmp_path / "killed.mp4")
    videos, parts = names_in(tmp_path, names)
    done = run(cluster, videos, parts, bulk_jobs.start_with_a_crash)
    assert (tmp_path / "killed.mp4").exists()
    assert sorted((x.shard, x.videos, x.failed) for x in done) == [
        (i, 3 if i == 10 else 5, int(i == 0)) for i in range(11)
    ]
    assert rows_of(parts, videos) == [*map(length_of, names)]


@pytest.mark.slow
def test_a_shard_that_kills_its_actor_each_time_is_named_and_the_others_are_written(cluster, tmp_path):
    videos, parts = names_in(tmp_path, [*"abcdefg", "poison", *"hijklmnop"])
    with pytest.raises(RuntimeError, match=r"part-00001.jsonl: .* died 4 times; with --workers 1"):
        run(cluster, videos, parts, bulk_jobs.start_with_poison)
    assert parts.missing(range(4)) == [1]


def test_an_error_of_an_actor_is_that_error(cluster, tmp_path):
    videos, parts = names_in(tmp_path, [*"abcdef"])
    with pytest.raises(FileNotFoundError, match="no model here"):
        run(cluster, videos, parts, bulk_jobs.start_with_an_error)
