"""Videos whose frames show their numbers, and the frames of a decode from the start."""

import av
import numpy as np

from videossp.data.video import read_frames

HEIGHT, WIDTH, BITS, RATE = 48, 80, 8, 25
# Decoders that give grey frames before the first key frame; they are left out.
GREY = {"mpeg4", "h263", "flv", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2"}


def picture(number):
    """A frame that shows its number: a column of each pair is bright."""
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    image[32:, :, 0] = (np.arange(WIDTH) * 2 + 3 * number) % 200
    for bit in range(BITS):
        image[:16, 10 * bit : 10 * bit + 10] = 235 if number >> bit & 1 else 20
        image[16:32, 10 * bit : 10 * bit + 10] = 20 if number >> bit & 1 else 235
    return image


def number_of(image):
    columns = [slice(10 * bit + 3, 10 * bit + 7) for bit in range(BITS)]
    return sum(int(image[4:12, x].mean() > image[20:28, x].mean()) << bit for bit, x in enumerate(columns))


def numbers(path, indices=None):
    return [number_of(x) for x in read_frames(path, indices and (lambda count: indices))]


def write(path, encoder, frames=range(24), options=(), size=(WIDTH, HEIGHT), **how):
    """Encode numbered frames, with a key frame every 6."""
    formats = [x.name for x in av.codec.Codec(encoder, "w").video_formats or ()]
    usual = ("yuv420p", "yuvj420p", "rgb24", "bgr24", "yuv422p", "yuv444p", "rgb555le", "rgb8")
    fitting = [x for x in usual if x in formats or not formats] or formats
    pixels = "rgb24" if encoder == "cinepak" else fitting[0]
    with av.open(str(path), "w", **how) as container:
        stream = container.add_stream(
            encoder, rate=RATE, options={"g": "6", "sc_threshold": "0", **dict(options)}
        )
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        if encoder == "mjpeg":
            stream.codec_context.color_range = 2
        for number in frames:
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24").reformat(*size)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def reference(path):
    """(Frames of a decode from the start up to an error, whether there was no error and no damage)."""
    frames, damaged = [], False
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ValueError("no decoder")
        stream.thread_type, stream.thread_count = "SLICE", 1
        usable, marked = stream.codec_context.name not in GREY, False
        for packet in container.demux(stream):
            marked = marked or packet.is_keyframe
            try:
                decoded = packet.decode()
            except av.FFmpegError:
                if marked:
                    return frames, False
                continue
            for frame in decoded:
                usable = usable or frame.key_frame
                damaged = damaged or frame.is_corrupt
                if usable:
                    frames.append(frame.to_ndarray(format="rgb24"))
    return frames, not damaged
