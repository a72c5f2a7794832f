"""`printable`: a text for people on one line, with control characters as escapes."""

import re

# C0 and C1 controls, the separators of lines and paragraphs, the marks that change the direction of text, and
# halves of surrogate pairs, which stand for bytes that are no UTF-8 in names of files, and two code points
# that no XML file may hold.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def printable(text: str) -> str:
    r"""The text with \n, \x1b, \u202e, ... in place of such characters. It can be encoded as UTF-8."""
    return UNPRINTABLE.sub(lambda x: x[0].encode("unicode_escape", "surrogatepass").decode(), text)
