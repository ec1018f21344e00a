"""Releases of a build: splits that leak nobody, tables, a card, checksums, and a way back."""
