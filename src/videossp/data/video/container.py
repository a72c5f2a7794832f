"""Opening a container for decoding: its video stream, its packets, and the meaning of FFmpeg's errors."""

import multiprocessing
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Disposition

from videossp.data.video.limits import max_pixels, too_large
from videossp.errors import DataError, NoVideoError, TruncatedError

# Demuxers that read one file and nothing else. FFmpeg also has demuxers that open other files or network
# addresses: those of `FOLLOWING`.
FORMATS = (
    "mov,matroska,avi,mpegts,mpegtsraw,mpeg,mpegvideo,asf,asf_o,flv,live_flv,kux,ogg,rm,mxf,nut,wtv,dv,gxf,"
    "gif,apng,webp,ivf,obu,av1,h261,h263,h264,hevc,vvc,evc,m4v,vc1,vc1test,avs2,avs3,cavsvideo,dirac,dnxhd,"
    "mjpeg,mjpeg_2000,smjpeg,mpjpeg,yuv4mpegpipe,nsv,nuv,pva,pmp,ty,dhav,lmlm4,roq,rpl,bink,smk,flic,film_cpk,"
    "swf,thp,vivo,vmd,xmv,idcin,siff,wc3movie,4xm,cine,ser,lxf,luodat,ingenient"
)
FOLLOWING = {"concat", "hls", "dash", "sdp", "rtsp", "imf", "webm_dash_manifest", "vobsub", "mlv"}
# Formats that store the presentation time of each frame: they open without decoding anything.
TIMED = {"mov", "matroska", "gif", "image2"}
# Codecs of pictures. A stream of one picture is a cover, if the file has another stream.
STILL_CODECS = {"mjpeg", "png", "bmp", "gif", "tiff", "webp"}
COVER = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
# Types of the first box of an MP4 file whose index may be at the end.
MP4_BOXES = (b"ftyp", b"mdat", b"free", b"skip", b"wide")


@contextmanager
def open_stream(
    path: Path, *, probe: bool = False, formats: str = FORMATS, **options: Any
) -> Iterator[tuple["av.container.InputContainer", "av.VideoStream"]]:
    """Open a container and its video stream, whose decoder allocates no frame above the limit.

    The file is read, and no other: a playlist is an error, whatever its name.

    Args:
        probe: let FFmpeg decode the first frames, to learn what the header leaves out.
        formats: names of the demuxers that may read the file, separated by commas.
        options: further arguments of `av.open`; `format` is the only format that is tried.
    """
    # "file:" keeps FFmpeg from reading a colon in a name as a protocol. The whitelist allows no codec, so
    # opening decodes nothing: the frame size is known before a frame of that size exists, and opening takes
    # a tenth of the time. The list does not bind the stream's decoder.
    name, common = f"file:{path}", {"metadata_errors": "ignore", **options}
    only = {"format_whitelist": options.get("format", formats), "protocol_whitelist": "file"}
    with av.open(name, container_options={"codec_whitelist": "none", **only}, **common) as container:
        stream = video_stream(container, path)
        if not probe and TIMED & set(container.format.name.split(",")):
            yield container, stream
            return
        limit = {"max_pixels": stream.codec_context.options["max_pixels"]}
    with av.open(name, options=limit, container_options=only, **common) as container:
        stream = video_stream(container, path)
        if probe:
            stream.thread_count = 1  # Python gets FFmpeg's log from this thread only
        yield container, stream


def video_streams(container: "av.container.InputContainer") -> list["av.VideoStream"]:
    """The video streams of a file, the one that a player shows first; cover pictures are left out.

    Streams without a decoder are last, and before them streams of pictures, such as an unmarked cover. Of the
    others the one that the file marks as default is first, then the largest.
    """

    def rank(stream: "av.VideoStream") -> tuple[bool, bool, bool, int, int]:
        context, default = stream.codec_context, bool(stream.disposition & Disposition.default)
        if context is None:
            return True, True, not default, 0, stream.index
        still = context.name in STILL_CODECS and stream.frames < 2
        return False, still, not default, -context.width * context.height, stream.index

    return sorted((x for x in container.streams.video if not x.disposition & COVER), key=rank)


def video_stream(container: "av.container.InputContainer", path: Path | str) -> "av.VideoStream":
    """The video stream that a player shows, with its decoder configured."""
    streams = video_streams(container)
    if not streams:
        raise NoVideoError(f"{path}: no video stream (audio only?)")
    stream = streams[0]
    if stream.codec_context is None:
        raise DataError(f"{path}: there is no decoder for its codec")
    limit = max_pixels()
    if stream.width * stream.height > limit:
        raise too_large(path, stream.width, stream.height)
    # The decoder checks sizes that the header does not give. It counts the borders that it adds to a frame.
    bordered = (stream.width + 256) * (stream.height + 256) if stream.width else 0
    # An H.264 stream may not say how far its frames are reordered. A strict decoder then assumes the longest
    # distance; a normal one loses frames until it has seen it.
    strict = {"strict": "strict"} if stream.codec_context.name == "h264" else {}
    stream.codec_context.options = {"max_pixels": str(min(max(limit, bordered), 2**31 - 1)), **strict}
    stream.thread_type = "SLICE"  # frame threads can deadlock when decoding stops early
    # A worker process has one core, and small frames do not pay for threads.
    threaded = multiprocessing.parent_process() is None and stream.width * stream.height >= 640 * 480
    stream.thread_count = 0 if threaded else 1
    return stream


def packets_of(container: "av.container.InputContainer", stream: "av.VideoStream") -> closing[Any]:
    """The packets of a stream. PyAV leaks memory if its generator is left early and not closed."""
    return closing(container.demux(stream))


@contextmanager
def as_data_error(path: Path, problem: str) -> Iterator[None]:
    """Turn an error of FFmpeg into a DataError; FFmpeg's log has details that its error codes lack.

    Args:
        problem: the middle of the message, as "not a readable video".
    """
    level, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as log:
            yield
    except (FFmpegError, OSError) as error:
        text = " ".join(line for _, _, line in log)
        size = re.search(r"Picture size (\d+)x(\d+) (exceeds|is invalid)", text)
        if size and int(size[1]) * int(size[2]) > max_pixels():
            raise too_large(path, int(size[1]), int(size[2])) from error
        if "Format not on whitelist" in text:
            name = next((name for _, name, line in log if "Format not on whitelist" in line), "")
            if name not in FOLLOWING:
                raise NoVideoError(f"{path}: no video stream (its format is {name})") from error
            raise DataError(f"{path}: a playlist or script ({name}); give the video itself") from error
        if "moov atom not found" in text and head_of(path)[4:8] in MP4_BOXES:
            message = f"{path}: truncated: the index (moov atom) at the end is missing"
            raise TruncatedError(message) from error
        raise DataError(f"{path}: {problem}: {reason_of(error)}") from error
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)


def head_of(path: Path) -> bytes:
    """The first 256 bytes of a file, padded with blanks."""
    with path.open("rb") as file:
        return file.read(256).ljust(256)


def reason_of(error: Exception) -> str:
    """The text of an exception without its number and file name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
