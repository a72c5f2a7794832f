"""Properties of FFmpeg's decoders: where decoding can start, and which frames can be skipped."""

import av

# Decoders that give no frame until they have a key frame, and that mark the key frames themselves.
GUARDED = {
    *("h264", "hevc", "mpeg1video", "mpeg2video", "vp8", "vp9", "libdav1d", "av1", "ffv1", "zmbv", "snow"),
    *("gif", "apng"),
}
# Decoders that mark the key frames, but give grey frames until they have one.
UNGUARDED = {"mpeg4", "h263", "flv", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2"}
REORDERING = {"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"}  # of these; see `never_reorders`
# Decoders that can skip frames that no other frame refers to.
SKIPPING = {"h264", "mpeg4", "mpeg2video", "mpeg1video"}
PICTURES = {"cfhd", "png", "webp", "tiff"}  # every frame stands alone, but FFmpeg does not list them so


def is_intra_only(context: "av.CodecContext") -> bool:
    """Whether each frame of the codec is coded alone."""
    return bool(context.codec.intra_only) or context.name in PICTURES


def marks_keys(context: "av.CodecContext") -> bool:
    """Whether the decoder says of each frame whether it is a key frame. Others believe the container."""
    return context.name in GUARDED or context.name in UNGUARDED


def never_reorders(context: "av.CodecContext") -> bool:
    """Whether the frames of the codec are certainly coded in the order in which they are shown."""
    return is_intra_only(context) or (marks_keys(context) and context.name not in REORDERING)


def can_skip_frames(context: "av.CodecContext") -> bool:
    """Whether the decoder can skip the frames that no other frame refers to."""
    name, extra = context.name, context.extradata or b""
    # HEVC marks frames that no frame of the same temporal layer refers to: enough if there is one layer.
    one_layer = name == "hevc" and len(extra) > 22 and extra[0] == 1 and extra[21] >> 3 & 7 == 1
    return one_layer or name in SKIPPING
