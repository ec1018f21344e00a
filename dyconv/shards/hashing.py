"""sha256 of bytes on their way, in a thread beside the work that moves them: hashlib leaves the interpreter free meanwhile."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

_AHEAD = 8  # pieces that may wait, so that memory stays bounded
_SMALL = 1 << 15  # bytes that are hashed sooner than handed over


class Digest:
    """One sha256, fed in order. `hexdigest` waits for what was handed over."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread
        self._sum = hashlib.sha256()
        self._waiting: deque[Future[None]] = deque()
        self.size = 0

    def update(self, data: bytes) -> None:
        self.size += len(data)
        while self._waiting and (len(self._waiting) >= _AHEAD or self._waiting[0].done()):
            self._waiting.popleft().result()
        if len(data) < _SMALL and not self._waiting:
            self._sum.update(data)
        else:
            self._waiting.append(self._thread.submit(self._sum.update, data))

    def hexdigest(self) -> str:
        while self._waiting:
            self._waiting.popleft().result()
        return self._sum.hexdigest()


class Hashed:
    """A file to write to or read from, whose bytes are hashed as they pass."""

    def __init__(self, file: BinaryIO, digest: Digest) -> None:
        self._file, self._digest = file, digest

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return self._file.write(data)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data

    def tell(self) -> int:
        return self._file.tell()
