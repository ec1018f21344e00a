"""INFP (arXiv 2412.04037): one portrait animated from the two voices of a conversation. Networks, sampler and agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dyconv.infp.agent import Agent

__all__ = ["Agent"]


def __getattr__(name: str) -> Any:
    """`Agent`, when it is asked for: whoever needs only a config or a mask does not wait for torch."""
    if name == "Agent":
        from dyconv.infp.agent import Agent

        return Agent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
