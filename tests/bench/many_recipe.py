"""The same four stages, a hundred clips a source."""

from __future__ import annotations

from tests.bench.scale import PIECES
from tests.fakes import Cut, Fetch, recipe

RECIPE = recipe(fetch=Fetch(seconds=4 * PIECES), cut=Cut(pieces=PIECES))
