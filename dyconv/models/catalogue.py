"""The list of models. A line here, a wrapper beside it, and the contract test covers it."""

from __future__ import annotations

from dyconv.models.registry import ModelSpec

MODELS: tuple[ModelSpec, ...] = ()
