"""Four stages that do next to nothing, one clip a source: what is left is the driver's own work."""

from __future__ import annotations

from tests.fakes import Cut, recipe

RECIPE = recipe(cut=Cut(pieces=1))
