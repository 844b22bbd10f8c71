"""Values of system calls as people and as scripts read them.

Each is shown in two ways at once: as a text in strace's manner, and as what becomes
JSON. Pure functions over numbers and bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

_ESCAPES = {0x22: '\\"', 0x5C: "\\\\", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}
_DELETE = 0x7F


class Shown(NamedTuple):
    """A value.

    Attributes:
        text: As a line of the log has it.
        plain: The same of numbers, strings, lists and dictionaries.
    """

    text: str
    plain: object


NULL = Shown("NULL", None)


def number(value: int) -> Shown:
    """Show a number."""
    return Shown(str(value), value)


def pointer(value: int) -> Shown:
    """Show an address of which nothing else is known."""
    return Shown(hex(value), value) if value else NULL


def word(text: str) -> Shown:
    """Show the name of a constant."""
    return Shown(text, text)


def i32(register: int) -> int:
    """Return the int that a register holds."""
    low = register & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


def u32(register: int) -> int:
    """Return the unsigned int that a register holds."""
    return register & 0xFFFFFFFF


def name(value: int, names: Mapping[int, str]) -> Shown:
    """Show a constant; one without a name as a number."""
    return word(names[value]) if value in names else number(value)


def flags(value: int, names: Mapping[int, str]) -> Shown:
    """Show bits; in JSON they are a list, what has no name a number in it."""
    found: list[object] = []
    for bit, text in names.items():
        if bit and value & bit == bit:
            found.append(text)
            value &= ~bit
    if value:
        found.append(value)
    texts = [hex(one) if isinstance(one, int) else str(one) for one in found]
    return Shown("|".join(texts) or "0", found)


def string(data: bytes, length: int | None = None) -> Shown:
    """Show bytes as C does; where they are but the first of `length`, with dots.

    In JSON each byte is the character of its number.
    """
    dots = "..." if length is not None and length > len(data) else ""
    text = "".join(_character(data, at) for at in range(len(data)))
    return Shown(f'"{text}"{dots}', data.decode("latin-1"))


def _character(data: bytes, at: int) -> str:
    byte = data[at]
    if byte in _ESCAPES:
        return _ESCAPES[byte]
    if 0x20 <= byte < _DELETE:
        return chr(byte)
    # a digit behind it would be read as part of the number
    digit = data[at + 1 : at + 2].isdigit()
    return f"\\{byte:03o}" if digit else f"\\{byte:o}"


def struct(fields: Iterable[tuple[str, Shown]]) -> Shown:
    """Show a struct by its fields."""
    kept = list(fields)
    text = ", ".join(f"{key}={value.text}" for key, value in kept)
    return Shown(f"{{{text}}}", {key: value.plain for key, value in kept})


def array(values: Iterable[Shown], *, is_cut: bool = False) -> Shown:
    """Show an array; is_cut: there are more of them."""
    kept = list(values)
    texts = [one.text for one in kept] + ["..."] * is_cut
    return Shown(f"[{', '.join(texts)}]", [one.plain for one in kept])
