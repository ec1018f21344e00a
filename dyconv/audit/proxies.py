"""Small copies of videos and drawn data, made ahead of the reviewer in a cache outside the build.

Names are hashes of what the copies were made of, so nothing old is ever shown, and several audits share one cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from dyconv import __version__
from dyconv.audit.library import Library
from dyconv.audit.picture import VERSION, drawn, shown_pictures
from dyconv.errors import DyconvError
from dyconv.media.video import VideoWriter, frame_count, frame_size, read_frames
from dyconv.records import Key
from dyconv.report.view import UNREADABLE
from dyconv.store import scratch_prefix, write_atomic
from dyconv.time import FPS

MOST_BYTES = 8 << 30  # of the cache, when an audit starts
HEIGHT = 360  # of a small copy, pixels
_CRF = 26
_LOG = logging.getLogger(__name__)
PICTURES = (Key.VIDEO, Key.P0_FACE, Key.P1_FACE)


def cache_folder() -> Path:
    """Where small copies lie: below DYCONV_CACHE, by default `~/.cache/dyconv`."""
    return Path(os.environ.get("DYCONV_CACHE") or Path.home() / ".cache" / "dyconv").absolute() / "audit"


def prune(folder: Path, most: int) -> None:
    """Delete the copies that were read longest ago, until at most `most` bytes are left."""
    found = [(entry.stat(), entry) for entry in folder.glob("*/*") if entry.is_file()]
    total = sum(stat.st_size for stat, _ in found)
    for stat, entry in sorted(found, key=lambda item: max(item[0].st_atime, item[0].st_mtime)):
        if total <= most:
            return
        entry.unlink(missing_ok=True)
        total -= stat.st_size


class Proxies:
    """Small copies of the clips of a library. One thread of its own makes them; `hurry` puts a clip first."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._waiting: deque[str] = deque()
        self._done: set[str] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._drawing = threading.Lock()

    def start(self, order: Iterable[str]) -> None:
        """Make room, then begin to make copies of these clips, in this order."""
        self.library.cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        prune(self.library.cache, MOST_BYTES)
        self._waiting.extend(order)
        self._thread = threading.Thread(target=self._work, name="audit-proxies", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the frame that is being written; what is unfinished is deleted."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(30)

    def hurry(self, *clips: str) -> None:
        """Make these next, the first one first."""
        with self._changed:
            self._waiting.extendleft(reversed([clip for clip in clips if clip not in self._done]))
            self._changed.notify_all()

    def small(self, clip: str, key: Key) -> Path | None:
        """The small copy of a video, if it is made by now."""
        target = self._target(clip, key)
        return target if target is not None and target.is_file() else None

    def drawn(self, clip: str) -> bytes:
        """`dyconv.audit.picture.drawn` of a clip as JSON; made now where it was not made before."""
        path = self._drawn_path(clip)
        if path.is_file():
            return path.read_bytes()
        with self._drawing:  # two readers at once would only get in each other's way
            if path.is_file():
                return path.read_bytes()
            data = json.dumps(drawn(self.library.view(clip)), separators=(",", ":"), allow_nan=False).encode()
            try:
                write_atomic(path, data)
            except OSError as error:  # a full disk costs the next reader a second, and nobody more
                _LOG.warning("%s: %s", path, error.strerror)
        return data

    def forget(self, clip: str) -> None:
        """Delete what the cache has of a clip and of no other: somebody in it did not consent."""
        self._drawn_path(clip).unlink(missing_ok=True)
        others = (record for name, record in self.library.clips.items() if name != clip)
        shared = {ref.sha256 for record in others for ref in record.assets.values()}
        for ref in self.library.clips[clip].assets.values():
            if ref.sha256 in shared:
                continue
            for path in (self.library.cache / ref.sha256[:2]).glob(f"{ref.sha256}.*"):
                path.unlink(missing_ok=True)

    def _drawn_path(self, clip: str) -> Path:
        record = json.dumps([VERSION, __version__, self.library.clips[clip].to_json()], sort_keys=True)
        name = hashlib.sha256(record.encode()).hexdigest()
        return self.library.cache / name[:2] / f"{name}.json"

    def _target(self, clip: str, key: Key) -> Path | None:
        ref = self.library.clips[clip].assets.get(key)
        return None if ref is None else self.library.cache / ref.sha256[:2] / f"{ref.sha256}.{HEIGHT}.mp4"

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                clip = self._waiting.popleft()
                if clip in self._done:
                    continue
                self._done.add(clip)
            try:
                self.drawn(clip)
                for key in shown_pictures(self.library.view(clip)):
                    self._make(clip, key)
            except (DyconvError, *UNREADABLE) as error:
                _LOG.warning("no small copy of %s: %s", clip, str(error).splitlines()[0][:200])

    def _make(self, clip: str, key: Key) -> None:
        target, source = self._target(clip, key), self.library.path(clip, key)
        if target is None or source is None or target.is_file():
            return
        width, height = frame_size(source)
        tall = min(HEIGHT, height) // 2 * 2
        size = (max(2, 2 * round(width * tall / height / 2)), tall)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{scratch_prefix()}{target.name}.mp4")
        try:
            with VideoWriter(part, *size, crf=_CRF, keyframes=range(0, frame_count(source), FPS)) as writer:
                for frame in read_frames(source, size=size):
                    if self._stopped:
                        return
                    writer.write(frame)
            os.replace(part, target)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
