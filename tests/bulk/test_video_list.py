"""Lists of videos: their shards, their limits, and what they refuse."""

import hashlib
import os
import tracemalloc

import pytest

from videossp.bulk.video_list import read_list
from videossp.errors import DataError


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "open"])
@pytest.mark.parametrize("size", [1, 3, 7, 8])
def test_shards_are_slices_of_the_lines_and_empty_lines_do_not_count(tmp_path, end, last, size):
    names = [f"clips/{i} a,b.mp4" for i in range(5)] + ["s3://bucket/ä.mp4", "http://x/1.mp4"]
    text = end.join([names[0], "", *names[1:4], "", "", *names[4:]]) + end * last
    file = tmp_path / "list.txt"
    file.write_bytes(text.encode())
    videos = read_list(file, size)
    shards = [videos.shard(i) for i in range(videos.shards)]
    assert shards == [names[i : i + size] for i in range(0, 7, size)]
    assert [videos.size_of(i) for i in range(videos.shards)] == [*map(len, shards)]
    assert videos.videos == 7 and videos.schemes == {"s3", "http"}
    assert videos.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_a_name_that_is_not_utf8_is_that_of_the_file_system(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"a\xff.mp4\n")
    (name,) = read_list(tmp_path / "list.txt", 10).shard(0)
    assert os.fsencode(name) == b"a\xff.mp4"


def test_a_list_is_refused_that_is_empty_missing_or_names_a_video_twice(tmp_path):
    file = tmp_path / "list.txt"
    with pytest.raises(DataError, match=r"list.txt: cannot be read: No such file"):
        read_list(file, 10)
    file.write_text("\n\n")
    with pytest.raises(DataError, match="is empty"):
        read_list(file, 10)
    file.write_text("a.mp4\nb.mp4\nc.mp4\nb.mp4")
    with pytest.raises(DataError, match=r"has b.mp4 twice.*awk"):
        read_list(file, 2)
    with pytest.raises(ValueError, match="shard size must be at least 1"):
        read_list(file, 0)


def test_a_list_that_changes_is_noticed(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("a.mp4\nb.mp4\nc.mp4\n")
    videos = read_list(file, 2)
    file.write_text("a.mp4\n\n\n\n\n\n\n\n\n")
    with pytest.raises(DataError, match="has changed"):
        videos.shard(0)


def test_a_scan_takes_tens_of_bytes_a_line_and_then_almost_nothing(tmp_path):
    file, count = tmp_path / "list.txt", 50_000
    file.write_text("".join(f"folder/of/videos/{i}.mp4\n" for i in range(count)))
    tracemalloc.start()
    videos = read_list(file, 1000)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert videos.shard(49)[-1] == "folder/of/videos/49999.mp4"
    assert peak < 40 * count and kept < 50_000  # the names alone as a list: 4 MB
