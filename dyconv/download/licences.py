"""The licence gate: which licences a recipe takes."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

# Any use with attribution, and what needs none. Recipes for research add the NonCommercial patterns by name.
OPEN_LICENCES = ("CC0*", "CC-BY", "CC-BY-[0-9]*", "CC-BY-SA*", "PUBLIC-DOMAIN", "PDDL*", "OWN")


def normal_licence(text: str) -> str:
    """One spelling: `cc by 4.0`, `CC_BY-4.0` and `CC-BY-4.0` are the same."""
    return re.sub(r"[\s_-]+", "-", text.strip()).upper()


def refusal(licence: str | None, accepted: tuple[str, ...]) -> str | None:
    """Why a source with this licence may not be used, or None where it may.

    Args:
        licence: as the manifest states it; None and blank are always refused.
        accepted: shell patterns (`*`, `?`, `[...]`) over the normal spelling.
    """
    if not licence or not licence.strip():
        return "the manifest states no licence for it"
    stated = normal_licence(licence)
    if any(fnmatchcase(stated, normal_licence(pattern)) for pattern in accepted):
        return None
    return f"licence {licence.strip()[:80]!r} is not among those the recipe takes: {', '.join(accepted) or 'none'}"
