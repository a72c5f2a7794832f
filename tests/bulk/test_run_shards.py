"""Shards: every video exactly once, whatever dies; several processes; settings; formats."""

import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

import pytest
from bulk_jobs import length_of, lengths, open_all, rows_of

from videossp.bulk import parts as parts_module
from videossp.bulk import run_shards as module
from videossp.bulk.parts import Claimed
from videossp.bulk.run_shards import Done, run_shards
from videossp.system.files import exclusive_lock

JOBS = Path(__file__).with_name("bulk_jobs.py")
DEADLINE = 300


@pytest.fixture
def names(tmp_path):
    """The names of list.txt."""
    names = [f"{'broken' if i % 10 == 3 else 'clip'}-{i}.mp4" for i in range(53)]
    (tmp_path / "list.txt").write_text("\n".join(names))
    return names


def processes(tmp_path, count, shard_size=5):
    command = [sys.executable, JOBS, tmp_path / "list.txt", tmp_path / "out", str(shard_size)]
    return [subprocess.Popen(command) for _ in range(count)]


def present(tmp_path):
    return len([*(tmp_path / "out").glob("part-*")])


def test_parts_hold_the_rows_of_their_lines_and_a_second_run_computes_nothing(tmp_path, names):
    videos, parts = open_all(tmp_path / "list.txt", tmp_path / "out", 10)
    done = [*run_shards(range(6), videos.shard, parts, lengths)]
    assert done == [Done(i, *(10, 1)) for i in range(5)] + [Done(5, 3, 0)]
    assert rows_of(parts, videos) == [*map(length_of, names)]
    assert [parts.failed(i) for i in range(6)] == [1, 1, 1, 1, 1, 0]
    stamps = [parts.path(i).stat().st_mtime_ns for i in range(6)]
    assert [*run_shards(range(6), videos.shard, parts, pytest.fail)] == []
    assert stamps == [parts.path(i).stat().st_mtime_ns for i in range(6)]
    assert {x.name for x in (tmp_path / "out").iterdir() if x.name.startswith(".part")} == set()


def test_the_shares_of_several_tasks_are_the_whole_list(tmp_path, names):
    videos, parts = open_all(tmp_path / "list.txt", tmp_path / "out", 10)
    written = [[x.shard for x in run_shards(range(i, 6, 4), videos.shard, parts, lengths)] for i in range(4)]
    assert written == [[0, 4], [1, 5], [2], [3]]
    assert rows_of(parts, videos) == [*map(length_of, names)]


def test_shards_are_one_stream_for_the_computation(tmp_path, names):
    videos, parts = open_all(tmp_path / "list.txt", tmp_path / "out", 10)
    streams = []

    def by_eights(stream):
        """Results come a batch of 8 late, over the ends of shards."""
        streams.append([])
        while batch := [*islice(stream, 8)]:
            streams[-1] += batch
            yield from ([length_of(x)] for x in batch)

    assert [x.shard for x in run_shards(range(6), videos.shard, parts, by_eights)] == [*range(6)]
    assert streams == [names] and rows_of(parts, videos) == [*map(length_of, names)]


def test_an_interruption_leaves_whole_parts_and_no_claim(tmp_path, names):
    videos, parts = open_all(tmp_path / "list.txt", tmp_path / "out", 10)

    def interrupted(stream):
        yield from lengths(islice(stream, 25))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        [*run_shards(range(6), videos.shard, parts, interrupted)]
    assert parts.missing(range(6)) == [2, 3, 4, 5]
    with parts.claim(2) as missing:
        assert missing
    [*run_shards(range(6), videos.shard, parts, lengths)]
    assert rows_of(parts, videos) == [*map(length_of, names)]


def test_a_computation_with_too_few_results_is_an_error(tmp_path, names):
    videos, parts = open_all(tmp_path / "list.txt", tmp_path / "out", 10)
    with pytest.raises(RuntimeError, match="shard 1 has 5 results for 10 videos"):
        [*run_shards(range(6), videos.shard, parts, lambda x: lengths(islice(x, 15)))]


def test_a_claim_keeps_others_out_until_it_ends_and_drafts_of_the_dead_are_removed(tmp_path, names):
    _, parts = open_all(tmp_path / "list.txt", tmp_path / "out", 10)
    draft = tmp_path / "out" / ".part-00003.jsonl.12.345"
    draft.touch()
    with parts.claim(3) as missing:
        assert missing and not draft.exists()
        with pytest.raises(Claimed), parts.claim(3):
            pass
        with parts.claim(4) as other:
            assert other
        parts.write(3, [length_of("a")])
    with parts.claim(3) as missing:
        assert not missing
    assert [x.name for x in (tmp_path / "out").glob(".part-00003*")] == []


def test_a_shard_of_another_process_is_awaited_and_taken_over_if_it_dies(tmp_path, names, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.05)
    videos, parts = open_all(tmp_path / "list.txt", tmp_path / "out", 10)
    held, release = threading.Event(), threading.Event()

    def hold():
        """Another process with two shards: it writes one and dies with the other."""
        with parts.claim(1), exclusive_lock(tmp_path / "out" / ".part-00002.jsonl.lock", "claimed"):
            held.set()
            release.wait(DEADLINE)
            parts.write(1, [*map(length_of, videos.shard(1))])

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(DEADLINE)
    order = []
    for done in run_shards(range(6), videos.shard, parts, lengths):
        order.append(done.shard)
        if done.shard == 5:
            assert parts.missing(range(6)) == [1, 2]
            release.set()
    thread.join()
    assert order == [0, 3, 4, 5, 2] and rows_of(parts, videos) == [*map(length_of, names)]


def test_processes_on_one_folder_share_the_shards_though_one_is_killed(tmp_path, names):
    first, second, third = processes(tmp_path, 3, shard_size=2)
    deadline = time.monotonic() + DEADLINE
    while present(tmp_path) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    assert [x.wait(DEADLINE) for x in (second, third)] == [0, 0]
    first.wait()
    videos, parts = open_all(tmp_path / "list.txt", tmp_path / "out", 2)
    assert rows_of(parts, videos) == [*map(length_of, names)]


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_after_kills_every_video_is_there_exactly_once(tmp_path, kills):
    names = [f"{i}.mp4" for i in range(500)]
    (tmp_path / "list.txt").write_text("\n".join(names))
    draw = random.Random(0)
    done = 0
    while True:
        (process,) = processes(tmp_path, 1, shard_size=7)
        if done < kills:
            deadline = time.monotonic() + DEADLINE
            before = present(tmp_path)
            while present(tmp_path) == before and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(0.02 * draw.random())
            process.kill()
        code = process.wait(DEADLINE)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        done += 1
    videos, parts = open_all(tmp_path / "list.txt", tmp_path / "out", 7)
    assert done >= min(kills, 3) and rows_of(parts, videos) == [*map(length_of, names)]


def test_a_folder_refuses_other_settings_a_foreign_part_and_a_file(tmp_path, names):
    file, out = tmp_path / "list.txt", tmp_path / "out"
    open_all(file, out, 10)
    open_all(file, out, 10)
    with pytest.raises(ValueError, match=r'settings \(format: "jsonl", now "parquet"\): give another --out'):
        open_all(file, out, 10, "parquet")
    file.write_text("other.mp4\n")
    with pytest.raises(ValueError, match=r"other settings \(other sha256\)"):
        open_all(file, out, 10)
    (out / "manifest.json").unlink()
    (out / "part-00000.jsonl").touch()
    with pytest.raises(ValueError, match=r"has part-00000.jsonl, but no manifest.json"):
        open_all(file, out, 10)
    with pytest.raises(ValueError, match="is a file"):
        open_all(file, file, 10)
    with pytest.raises(ValueError, match="parent folder does not exist"):
        open_all(file, tmp_path / "no" / "out", 10)
    with pytest.raises(ValueError, match="jsonl or parquet, got 'csv'"):
        open_all(file, tmp_path / "new", 10, "csv")


def test_parquet_parts_hold_the_same_rows(tmp_path, names):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    videos, parts = open_all(tmp_path / "list.txt", tmp_path / "out", 20, "parquet")
    [*run_shards(range(3), videos.shard, parts, lengths)]
    tables = [parquet.read_table(tmp_path / "out" / f"part-0000{i}.parquet") for i in range(3)]
    assert [*chain(*(x.to_pylist() for x in tables))] == [*map(length_of, names)]
    assert [parts.failed(i) for i in range(3)] == [2, 2, 1]


def test_without_locks_shards_are_computed_all_the_same(tmp_path, names, monkeypatch):
    @contextmanager
    def no_locks(lock, refusal):
        raise OSError(38, "Function not implemented")
        yield

    monkeypatch.setattr(parts_module, "exclusive_lock", no_locks)
    videos, parts = open_all(tmp_path / "list.txt", tmp_path / "out", 10)
    [*run_shards(range(6), videos.shard, parts, lengths)]
    assert rows_of(parts, videos) == [*map(length_of, names)]
