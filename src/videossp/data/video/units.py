"""The units in packets of H.264 and HEVC: whether a packet is a key frame, or one field of a frame."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

IDR = {"h264": {5}, "hevc": {19, 20}}  # types of the units of a key frame that no later frame looks behind
SLICES, PARAMETERS = {1, 2, 5}, 7  # types of units of H.264
# Profiles of H.264 whose parameters have the chroma format, the bit depths and scaling lists.
HIGH = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}


class Bits:
    """The bits of a unit after its first byte (ITU-T H.264, 7.3 and 9.1); ValueError at their end."""

    def __init__(self, unit: bytes) -> None:
        content = unit[1:].replace(b"\x00\x00\x03", b"\x00\x00")
        self._bits = "".join(f"{byte:08b}" for byte in content)
        self._at = 0

    def number(self, width: int) -> int:
        """An integer of a fixed width."""
        self._at += width
        return int(self._bits[self._at - width : self._at], 2)

    def code(self) -> int:
        """An integer whose leading zeros tell its width (Exp-Golomb)."""
        zeros = self._bits.index("1", self._at) - self._at
        self._at += zeros
        return self.number(zeros + 1) - 1

    def signed(self) -> int:
        """The same for an integer with a sign."""
        code = self.code()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def units_of(context: "av.CodecContext", data: bytes) -> Iterator[bytes]:
    """The units of a packet, each with at least its first 256 bytes."""
    extra = context.extradata or b""
    if extra[:1] == b"\x01":  # the units have their length in front of them (ISO/IEC 14496-15)
        place = 21 if context.name == "hevc" else 4
        width = 1 + (extra[place] & 3) if len(extra) > place else 4
        at = 0
        while at + width < len(data):
            yield data[at + width : at + width + 256]
            at += width + int.from_bytes(data[at : at + width], "big")
    else:  # a start code is in front of each unit
        for start in re.finditer(rb"\x00\x00\x01(?=[\x00-\xff])", data):
            yield data[start.end() : start.end() + 256]


def starts_with_idr(context: "av.CodecContext", data: bytes) -> bool:
    """Whether a packet of H.264 or HEVC is a key frame that no later frame looks behind (IDR).

    False if that cannot be seen without decoding.
    """
    if context.name not in IDR:
        return False
    types = {x[0] >> 1 & 63 if context.name == "hevc" else x[0] & 31 for x in units_of(context, data)}
    return bool(types & IDR[context.name])


def field_flag_place(context: "av.CodecContext", data: bytes) -> int | None:
    """Number of bits in front of the flag in a slice that says that it is of a field, after three codes.

    Args:
        data: the first packet; its parameters, or those of the header, are read.

    Returns:
        None if the video has no fields, or is not H.264.
    """
    if context.name != "h264":
        return None
    extra = context.extradata or b""
    if extra[:1] == b"\x01":
        stored = [extra[8 : 8 + int.from_bytes(extra[6:8], "big")]]
    else:
        stored = list(units_of(context, extra))
    for unit in [*stored, *units_of(context, data)]:
        if unit and unit[0] & 31 == PARAMETERS:
            try:
                if (place := _field_flag_place(Bits(unit))) is not None:
                    return place
            except ValueError:
                continue  # damaged; the decoder tells
    return None


def is_one_field(context: "av.CodecContext", data: bytes, place: int) -> bool:
    """Whether a packet of H.264 holds only one of the two fields of a frame; also True if it is damaged.

    Args:
        place: see `field_flag_place`.
    """
    fields = set()
    try:
        for unit in units_of(context, data):
            if unit[0] & 31 in SLICES:
                bits = Bits(unit[:32])
                for _ in range(3):
                    bits.code()
                bits.number(place)
                if not bits.number(1):
                    return False
                fields.add(bits.number(1))
    except ValueError:
        return True
    return len(fields) == 1


def _field_flag_place(bits: Bits) -> int | None:
    """`field_flag_place`, from the sequence parameters (ITU-T H.264, 7.3.2.1.1)."""
    profile = bits.number(24) >> 16
    bits.code()
    planes = 0
    if profile in HIGH:
        chroma = bits.code()
        if chroma == 3:
            planes = 2 * bits.number(1)  # each slice has the number of its colour plane
        bits.code()
        bits.code()
        bits.number(1)
        if bits.number(1):
            for i in range(12 if chroma == 3 else 8):
                if bits.number(1):
                    _skip_scaling_list(bits, 16 if i < 6 else 64)
    width = bits.code() + 4  # of the number of the frame
    order = bits.code()
    if order == 0:
        bits.code()
    elif order == 1:
        bits.number(1)
        bits.code()
        bits.code()
        for _ in range(bits.code()):
            bits.code()
    bits.code()
    bits.number(1)
    bits.code()
    bits.code()
    return None if bits.number(1) else planes + width


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
