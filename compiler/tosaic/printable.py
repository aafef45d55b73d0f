"""Names of others on a terminal: what they hold is shown, never obeyed."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with escapes for what prints nothing, such as characters that steer a terminal; lines stay lines."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
