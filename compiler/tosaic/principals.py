"""Principals, the network's names for users and canisters, and their textual form.

Source: Internet Computer interface specification, "Textual representation of principals": base32 of a CRC-32 and the
bytes, in groups of five characters.
"""

from __future__ import annotations

import base64
import zlib

from tosaic.errors import TosaicError

ANONYMOUS = b"\x04"
"""The principal of callers who do not identify themselves."""

MOST_BYTES = 29
"""No principal is longer."""

_CHECKSUM_BYTES = 4


def principal_text(principal: bytes) -> str:
    """The textual form of a principal."""
    checked = zlib.crc32(principal).to_bytes(_CHECKSUM_BYTES, "big") + principal
    text = base64.b32encode(checked).decode().lower().rstrip("=")
    return "-".join(text[i : i + 5] for i in range(0, len(text), 5))


def parse_principal(text: str) -> bytes:
    """The principal with this textual form; capitals are taken as small letters.

    Raises:
        TosaicError: there is none, because a character is wrong, missing or too many.
    """
    characters = text.replace("-", "").upper()
    try:
        checked = base64.b32decode(characters + "=" * (-len(characters) % 8))
    except ValueError:
        raise _malformed(text, "it is not base32: letters and the digits 2 to 7") from None
    principal = checked[_CHECKSUM_BYTES:]
    if len(checked) < _CHECKSUM_BYTES or len(principal) > MOST_BYTES:
        raise _malformed(text, f"it must hold {_CHECKSUM_BYTES} to {_CHECKSUM_BYTES + MOST_BYTES} bytes")
    if zlib.crc32(principal) != int.from_bytes(checked[:_CHECKSUM_BYTES], "big"):
        raise _malformed(text, "its checksum is wrong: a character was changed or lost")
    if text.lower() != principal_text(principal):
        raise _malformed(text, f"it is written {principal_text(principal)}")
    return principal


def _malformed(text: str, reason: str) -> TosaicError:
    return TosaicError(f"'{text}' is not a principal: {reason}", "copy it again from where it is shown")
