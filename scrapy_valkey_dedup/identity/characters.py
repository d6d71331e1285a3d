"""Unicode's tables that an identity rests on, pinned: a key must not change with Python's version.

``unicodedata`` knows the Unicode of its Python only, and Default_Ignorable_Code_Point not at all.
"""

from __future__ import annotations

import re

# fmt: off
_ZEROS = (
    0x0030, 0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6,
    0x0D66, 0x0DE6, 0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80,
    0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0,
    0xFF10, 0x104A0, 0x10D30, 0x10D40, 0x11066, 0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450,
    0x114D0, 0x11650, 0x116C0, 0x116D0, 0x116DA, 0x11730, 0x118E0, 0x11950, 0x11BF0, 0x11C50,
    0x11D50, 0x11DA0, 0x11DE0, 0x11F50, 0x16130, 0x16A60, 0x16AC0, 0x16B50, 0x16D70, 0x1CCF0,
    0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E4F0, 0x1E5F1, 0x1E950,
    0x1FBF0,
)
# fmt: on
DIGITS = {zero + digit: str(digit) for zero in _ZEROS for digit in range(10)}
"""Every decimal digit and its value: category Nd in UnicodeData.txt of Unicode 18.0.

Unicode encodes them in rows of ten, so a row is known by its zero.
"""

INVISIBLE = (
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)
"""Default_Ignorable_Code_Point in DerivedCoreProperties.txt, the same from Unicode 14.0 to 18.0.

Bidi_Control (PropList.txt) is part of it.
"""

_DIGITS = re.compile("[{}]+".format("".join(f"{chr(zero)}-{chr(zero + 9)}" for zero in _ZEROS)))

# The blocks of emoji that others are joined to. No character in them has another normal form.
_EMOJI = "\u2190-\u21ff\u2300-\u2328\u232b-\u23ff\u25a0-\u27bf\u2b00-\u2bff\U0001f300-\U0001faff"
_TAGS = "[\U000e0030-\U000e0039\U000e0061-\U000e007a]+\U000e007f"
_ANY = "".join(f"{chr(first)}-{chr(last)}" for first, last in INVISIBLE)
_INVISIBLE = re.compile(f"[{_ANY}]")
_REMOVED = re.compile(
    f"(\U0001f3f4{_TAGS}"  # the flags of England, Scotland, Wales: alike but for their tags
    f"|(?:(?<=[{_EMOJI}])|(?<=[{_EMOJI}]\ufe0f))\u200d(?=[{_EMOJI}]))"  # a family, a polar bear
    f"|[{_ANY}]"
)


def without_invisible(text: str) -> str:
    """The text without invisible characters, except those that make another emoji."""
    return text if _INVISIBLE.search(text) is None else _REMOVED.sub(r"\1", text)


def decimal_digits(text: str) -> str:
    """The decimal digits of the text, of any script, as 0 to 9."""
    found = "".join(_DIGITS.findall(text))
    return found if found.isascii() else found.translate(DIGITS)
