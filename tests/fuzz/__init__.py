"""Damaged and hostile files against every reader: see docs/safety.md."""
