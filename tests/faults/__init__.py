"""Faults on purpose: each scenario runs the real thing on small media, breaks something, and checks what was promised."""
