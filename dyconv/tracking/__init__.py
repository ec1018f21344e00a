"""Faces followed through shots, matched across them, and the layout of the picture they are in."""
