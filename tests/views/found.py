"""Sequences of socket calls that once differed in a view: they are run every time."""

from __future__ import annotations

Step = tuple[object, ...]

FOUND: dict[str, list[list[Step]]] = {
    "pair local": [],
    "pair relay": [],
    "pair relay-back": [],
    "life": [],
    "datagrams": [],
}
