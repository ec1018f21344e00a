"""Bringing a source's media to this machine: licence gate, politeness, error classes, resume, and a first look at the file."""
