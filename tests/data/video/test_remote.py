"""Videos that URIs name, from servers on this machine: they are what their files are, and leave nothing."""

import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from conftest import numbered_frames, write_video
from videossp.data.sampling import ClipFormat
from videossp.data.video import remote
from videossp.data.video.remote import check_scheme, local_copy, scheme_of
from videossp.errors import DataError
from videossp.inference.decode_ahead import Reading

CLIP = ClipFormat(frames=4, size=(32, 32))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a video and a broken one; temporary files go beside it."""
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    write_video(tmp_path / "videos" / "a b.mp4", numbered_frames(12))
    (tmp_path / "videos" / "bad.mp4").write_bytes(b"no video")
    return tmp_path / "videos"


@pytest.fixture
def s3(monkeypatch, folder):
    """An S3 server on loopback; its bucket "videos" has the files."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server_of = pytest.importorskip("moto.server", reason="moto is not installed")
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": address,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="videos")
    for file in folder.iterdir():
        client.upload_file(str(file), "videos", f"deep/{file.name}")
    client.close()
    yield
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def http(folder):
    """The address of an HTTP server on loopback for the folder."""
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("s3://b/a.mp4", "s3"),
        ("HTTPS://x/a", "https"),
        ("git+ssh://x", "git+ssh"),
        ("/a/b.mp4", None),
        ("a://b", None),  # a letter is a drive of Windows
        ("C:\\a.mp4", None),
        ("folder/s3://a", None),
    ],
)
def test_what_is_a_uri(name, scheme):
    assert scheme_of(name) == scheme


def test_a_path_and_a_file_uri_are_read_where_they_are(folder):
    path = str(folder / "a b.mp4")
    for name in (path, f"file://{path}"):
        with local_copy(name) as local:
            assert local == path
    with local_copy("nowhere.mp4") as local:
        assert local == "nowhere.mp4"


def check_reading(address, folder, missing):
    """Views of a URI are those of the file; errors name the URI in one line; no temporary file stays."""
    reading = Reading(CLIP)
    with local_copy(f"{address}/a b.mp4") as copy:
        assert copy.endswith(".mp4") and Path(copy).read_bytes() == (folder / "a b.mp4").read_bytes()
        assert copy.startswith(str(folder.parent / "temporary"))
    assert np.array_equal(reading(f"{address}/a b.mp4"), reading(str(folder / "a b.mp4")))
    broken, absent = reading(f"{address}/bad.mp4"), reading(f"{address}/absent.mp4")
    assert broken == reading(str(folder / "bad.mp4")).replace(str(folder), address)
    assert absent.startswith(f"{address}/absent.mp4: cannot be fetched: {missing}") and "\n" not in absent
    assert not [*(folder.parent / "temporary").iterdir()]


def test_videos_of_a_bucket(s3, folder, monkeypatch):
    check_reading("s3://videos/deep", folder, "FileNotFoundError: ")


def test_without_credentials_the_error_says_so(s3, folder, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    reason = Reading(CLIP)("s3://videos/deep/a b.mp4")
    assert reason.startswith("s3://videos/deep/a b.mp4: cannot be fetched: NoCredentialsError: ")


def test_videos_of_a_web_server(http, folder):
    check_reading(http, folder, "FileNotFoundError: ")


def test_a_server_that_is_gone_is_tried_three_times(folder, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    calls = []

    def get_file(self, remote, local, **settings):
        calls.append(remote)
        if len(calls) < allowed:
            raise ConnectionResetError("gone")
        Path(local).write_bytes(b"content")

    monkeypatch.setattr(MemoryFileSystem, "get_file", get_file)
    allowed = 3
    with local_copy("memory://a.mp4") as copy:
        assert Path(copy).read_bytes() == b"content" and len(calls) == 3
    calls.clear()
    allowed = 4
    with (
        pytest.raises(DataError, match="memory://a.mp4: cannot be fetched: ConnectionResetError: gone"),
        local_copy("memory://a.mp4"),
    ):
        pass
    assert len(calls) == 3


def test_a_missing_library_and_an_unknown_scheme_are_refused(monkeypatch):
    check_scheme("file")
    with pytest.raises(ValueError, match="nonsense://: fsspec knows no such file system"):
        check_scheme("nonsense")

    def missing(scheme):
        raise ImportError("Install gcsfs to access GCS")

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    with pytest.raises(ValueError, match=r"s3:// .* not installed: pip install 'videossp\[s3\]'"):
        check_scheme("s3")
    with pytest.raises(ValueError, match="gs:// .* not installed: Install gcsfs"):
        check_scheme("gs")
