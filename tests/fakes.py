"""Tiny deterministic stages that behave like real ones, well or badly, and recipes made of them."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

from dyconv.recipe import Recipe
from dyconv.records import Clip, Drop, DropReason, Key
from dyconv.stages.base import Files, Resources, Stage
from dyconv.time import Span


@dataclass(frozen=True)
class Fetch(Stage):
    """Writes a small media file that says where it is from. What the source's URL says decides its fate."""

    seconds: int = 12
    pause_s: float = 0.0

    name: ClassVar[str] = "fetch"
    gives: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA})

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        time.sleep(self.pause_s)
        if "gone" in clip.source.url:
            yield Drop(clip, DropReason.UNAVAILABLE, "expected a file, found nothing")
            return
        if "broken" in clip.source.url:
            raise RuntimeError(f"cannot read {clip.source.url}")
        path = files.new(clip, Key.MEDIA, ".bin")
        path.write_bytes(clip.source.url.encode() * 20)
        yield files.add(replace(clip, span=Span(Fraction(0), Fraction(self.seconds))), (Key.MEDIA, path))


@dataclass(frozen=True)
class Cut(Stage):
    """Splits into pieces of equal length; drops the piece that holds second `bad_at`."""

    pieces: int = 3
    bad_at: float | None = None

    name: ClassVar[str] = "cut"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO})
    splits: ClassVar[bool] = True

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        data = files.path(clip, Key.MEDIA).read_bytes()
        length = clip.span.duration / self.pieces
        for number in range(self.pieces):
            span = Span(number * length, (number + 1) * length)
            piece = clip.child(span)
            if self.bad_at is not None and span.start <= Fraction(self.bad_at) < span.end:
                yield Drop(piece, DropReason.NO_FACE, "expected a face, found none")
                continue
            path = files.new(piece, Key.VIDEO)
            path.write_bytes(data[number::7])
            yield files.add(piece, (Key.VIDEO, path))


@dataclass(frozen=True)
class Mark(Stage):
    """Writes a file made from VIDEO, and misbehaves on clips whose id contains the given words.

    `raises` fails (with `spark`: only while that file is there); `lethal` kills the worker each time; `fragile` kills it
    only while the file `spark` is there, which it removes first.
    """

    raises: str = "-none-"
    lethal: str = "-none-"
    fragile: str = "-none-"
    spark: str = ""
    pause_s: float = 0.0
    asks_cpus: float = 1.0

    name: ClassVar[str] = "mark"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO, Key.MIX})

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        if self.raises in clip.id and (not self.spark or Path(self.spark).exists()):
            raise ValueError(f"expected something else in {clip.id}")
        if self.lethal in clip.id:
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.fragile in clip.id and Path(self.spark).exists():
            Path(self.spark).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.pause_s)
        path = files.new(clip, Key.MIX)
        path.write_bytes(files.path(clip, Key.VIDEO).read_bytes()[::-1])
        yield files.add(clip, (Key.MIX, path)).measured(marked=1.0)


@dataclass(frozen=True)
class Last(Stage):
    """The last word: drops pieces that start at or after a time."""

    until_s: float = 1e6

    name: ClassVar[str] = "last"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.MIX})
    gives: ClassVar[frozenset[Key]] = frozenset()
    resources: ClassVar[Resources] = Resources(cpus=0.5)

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        if clip.span.start >= Fraction(self.until_s):
            yield Drop(clip, DropReason.NOT_DYADIC, "expected two people, found one")
        else:
            yield clip


@dataclass(frozen=True)
class NoSetup(Stage):
    """A stage whose machine is not fit for it."""

    name: ClassVar[str] = "nosetup"

    def setup(self) -> None:
        raise ImportError("libEGL.so.1: cannot open shared object file")

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        yield clip


_KEPT: list[bytearray] = []  # what a leak leaves


@dataclass(frozen=True)
class Ill(Stage):
    """Has one illness, on clips whose id begins with `ill`: `sleeps`, `spins`, `holds` (a deadlock in native code that holds
    the interpreter's lock), `crashes` (in native code), `swells` (takes memory without end), `leaks`, `naps` (is only slow)."""

    what: str

    name: ClassVar[str] = "ill"

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        if clip.id.startswith("ill"):
            getattr(self, self.what)()
        yield clip

    def sleeps(self) -> None:
        time.sleep(3600)

    def spins(self) -> None:
        while True:
            pass

    def holds(self) -> None:
        library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
        library.pthread_mutex_lock(mutex)
        library.pthread_mutex_lock(mutex)

    def crashes(self) -> None:
        ctypes.string_at(0)

    def swells(self) -> None:
        held = []
        while True:
            held.append(bytearray(os.urandom(1 << 20) * 16))
            time.sleep(0.02)

    def leaks(self) -> None:
        _KEPT.append(bytearray(os.urandom(1 << 20) * 128))

    def naps(self) -> None:
        time.sleep(1.0)


def recipe(
    fetch: Fetch | None = None, cut: Cut | None = None, mark: Mark | None = None, last: Last | None = None, **more: object
) -> Recipe:
    """Four stages, one of which splits; everything may be replaced."""
    stages = (fetch or Fetch(), cut or Cut(), mark or Mark(), last or Last())
    return Recipe(name="fake", about="stages for tests", stages=stages, **more)  # type: ignore[arg-type]


RECIPE = recipe()


def write_manifest(path: Path, names: list[str]) -> Path:
    """A manifest of sources called after their fate: `ok-1`, `gone-1`, `broken-1`; a name with a space is a bad row."""
    rows = [f"{name},http://127.0.0.1/{name.replace(' ', '')},own" for name in names]
    path.write_text("\n".join(["id,url,licence", *rows]) + "\n")
    return path
