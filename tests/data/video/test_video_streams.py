"""Which stream of which files is read: the one that a player shows, in its first size, and no other file."""

import av
import numpy as np
import pytest

from conftest import copy_packets, join_streams
from videossp import DataError
from videossp.data.video import read_frames, read_video
from videossp.data.video.decode import read_frames_and_notes


def write(path, encoder, count, size=(64, 48), level=90, **how):
    """Grey frames that become brighter."""
    with av.open(str(path), "w", **how) as container:
        stream = container.add_stream(encoder, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = {"mjpeg": "yuvj420p", "png": "rgb24"}.get(encoder, "yuv420p")
        for i in range(count):
            pixels = np.full((size[1], size[0], 3), level + 2 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "first", "second", "default", "shape"),
    [
        ("a.mkv", ("libx264", 5, (32, 24)), ("libx264", 9, (64, 48)), 1, (9, 48, 64, 3)),
        ("a.mkv", ("libx264", 5, (32, 24)), ("libx264", 9, (64, 48)), None, (9, 48, 64, 3)),
        ("a.mp4", ("libx264", 5, (64, 48)), ("libx264", 9, (32, 24)), 1, (9, 24, 32, 3)),
        ("a.mkv", ("mjpeg", 1, (128, 96)), ("libvpx", 9, (64, 48)), 0, (9, 48, 64, 3)),
        ("a.mov", ("png", 1, (128, 96)), ("mpeg4", 9, (64, 48)), None, (9, 48, 64, 3)),
        ("a.mov", ("mjpeg", 9, (64, 48)), ("libx264", 5, (32, 24)), None, (9, 48, 64, 3)),
    ],
    ids=["marked", "larger", "marked and smaller", "still first", "still, unmarked", "motion JPEG"],
)
def test_the_stream_that_players_show_is_read(tmp_path, name, first, second, default, shape):
    paths = [
        write(tmp_path / f"{i}.{'mov' if encoder in ('mjpeg', 'png') else 'mkv'}", encoder, count, size)
        for i, (encoder, count, size) in enumerate((first, second))
    ]
    path = join_streams(tmp_path / name, *paths, default=default)
    frames, notes = read_frames_and_notes(path)
    assert frames.shape == shape
    assert notes["file.streams"].startswith("2 video streams")


@pytest.mark.parametrize(("name", "encoder"), [("a.webm", "libvpx"), ("a.ts", "libx264")])
def test_frames_of_another_size_are_scaled_to_the_first(tmp_path, name, encoder):
    """As a browser's call that is recorded while the network slows down."""
    write(tmp_path / f"1{name}", encoder, 6, (64, 48), level=40)
    write(tmp_path / f"2{name}", encoder, 6, (32, 24), level=120)

    def one_by_one(number, packet):
        packet.pts = packet.dts = round(number / 25 / packet.time_base)
        return packet

    copy_packets([tmp_path / f"1{name}", tmp_path / f"2{name}"], tmp_path / name, one_by_one)
    frames, notes = read_frames_and_notes(tmp_path / name)
    assert frames.shape == (12, 48, 64, 3)
    assert "64 x 48" in notes["file.size-changes"]
    later = read_frames(tmp_path / name, lambda count: [8, 11])
    assert np.array_equal(later, frames[[8, 11]])
    assert abs(int(later[0].mean()) - 124) < 4  # the content of the small frames
    declared = (tmp_path / name).read_bytes()
    if name.endswith(".webm"):  # a header that gives the size of the second part
        declared = declared.replace(b"\xb0\x81\x40\xba\x81\x30", b"\xb0\x81\x20\xba\x81\x18", 1)
        assert declared != (tmp_path / name).read_bytes()
        (tmp_path / "other.webm").write_bytes(declared)
        assert np.array_equal(read_frames(tmp_path / "other.webm", lambda count: [8, 11]), later)
    only_first, notes = read_frames_and_notes(tmp_path / name, lambda count: [0, 3])
    assert np.array_equal(only_first, frames[[0, 3]]) and "file.size-changes" not in notes


def test_a_file_that_changes_after_it_was_opened_is_an_error(tmp_path):
    video = read_video(write(tmp_path / "a.mp4", "libx264", 9))
    assert len(read_frames(video)) == 9
    write(tmp_path / "b.mp4", "libx264", 9, level=150).rename(tmp_path / "a.mp4")
    with pytest.raises(DataError, match="a.mp4: has changed since it was opened; read it again"):
        read_frames(video)
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(DataError, match="a.mp4: has changed since it was opened"):
        read_frames(video)


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile real.mp4\n",
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nreal.mp4\n#EXT-X-ENDLIST\n",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>'
    "<BaseURL>real.mp4</BaseURL></Period></MPD>",
}


@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".txt", ".mpd"])
@pytest.mark.parametrize("playlist", PLAYLISTS)
def test_a_playlist_is_an_error_whatever_its_name(tmp_path, playlist, suffix):
    write(tmp_path / "real.mp4", "libx264", 3)
    (tmp_path / f"a{suffix}").write_text(PLAYLISTS[playlist])
    with pytest.raises(DataError, match=rf"a\{suffix}: (a playlist or script \(|not a readable)"):
        read_video(tmp_path / f"a{suffix}")


def test_an_encrypted_file_is_named_so(tmp_path):
    scheme = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00" * 16, "encryption_kid": "11" * 16}
    write(tmp_path / "a.mp4", "libx264", 5, container_options=scheme)
    with pytest.raises(DataError, match="a.mp4: the video is encrypted; decrypt it first"):
        read_video(tmp_path / "a.mp4")
