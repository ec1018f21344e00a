"""Audits of a build: what people say of its clips, kept beside the build and never in it."""
