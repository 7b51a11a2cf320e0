"""Set right a table that is there already, as one transaction in which no packet is lost.

A packet that is on its way while a table is replaced may pass the new one before that counts, and
the old one when it counts no more, and so be led nowhere: the new chains' hooks come first. So the
chains stay, their rules are replaced, and elements that are right are not touched.
"""

from __future__ import annotations

import re

from . import plan
from .plan import TABLE, Element
from .plane import Parts

_PLACE = re.compile(
    r"^\t(?:set|map) (\w+) \{\n\t\ttype ([^\n]+)\n(?:\t\telements = \{([^}]*)\}\n)?\t\}$",
    re.MULTILINE,
)
_NOUN = re.compile(r"^\t(?!table\b)(\w+) (\w+) \{$", re.MULTILINE)


def script(listed: str, parts: Parts) -> str:
    """Return the script that makes a table as it was listed what links and the rest want.

    Where it is not of this version's shape, the whole table is replaced.
    """
    places = {name: kind for name, kind, _ in _PLACE.findall(listed)}
    nouns = {name for _, name in _NOUN.findall(listed)}
    if places != plan.PLACES or nouns != places.keys() | set(plan.CHAINS):
        return plan.table(parts)
    flush = "".join(f"flush chain {TABLE} {chain}\n" for chain in plan.CHAINS)
    right = plan.difference(held(listed), plan.elements(parts))
    return f"{flush}table {TABLE} {{\n{plan.RULES}}}\n{right}"


def held(listed: str) -> frozenset[Element]:
    """Return the elements of a table's sets and maps, as nft lists it."""
    found = set()
    for name, _, content in _PLACE.findall(listed):
        for told in content.split(","):
            key, _, value = " ".join(told.split()).partition(" : ")
            if key:
                found.add(Element(name, key, value))
    return frozenset(found)
