"""Composes conversations whose truth is known."""
