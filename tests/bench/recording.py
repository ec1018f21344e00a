"""What a run asks of decoders and models: frames decoded by stage, model calls to be made again without the stages."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from dyconv.models import registry
from dyconv.recipe import Recipe
from tests.bench.cost import Cost

_KEPT = 16  # pictures that a call may look back on


@dataclass(frozen=True)
class Picture:
    """Stands for a decoded picture in a recorded call."""

    video: Path
    index: int


@dataclass(frozen=True)
class Call:
    """A call of a model; `after` is the picture that had been decoded last."""

    model: str
    method: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    after: Picture | None


@dataclass
class Seen:
    """What was seen of a run, by stage."""

    stage: str = ""
    seconds: dict[str, Cost] = field(default_factory=dict)
    decoded: Counter[tuple[str, str]] = field(default_factory=Counter)  # by (stage, file name)
    calls: dict[str, list[Call]] = field(default_factory=dict)
    _pictures: deque[tuple[np.ndarray, Picture]] = field(default_factory=lambda: deque(maxlen=_KEPT))

    @contextmanager
    def timed(self, recipe: Recipe) -> Iterator[None]:
        """Seconds of each stage's `process`."""
        with ExitStack() as stack:
            for kind in {type(stage) for stage in recipe.stages}:
                stack.enter_context(mock.patch.object(kind, "process", self._process(kind.name, kind.process)))
            yield

    def _process(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def process(stage: Any, clip: Any, files: Any) -> Iterator[Any]:
            self.stage = name
            before = time.perf_counter(), time.process_time()
            yield from list(real(stage, clip, files))
            used = self.seconds.get(name, Cost(0.0, 0.0))
            wall, cpu = time.perf_counter() - before[0], time.process_time() - before[1]
            self.seconds[name] = Cost(used.wall + wall, used.cpu + cpu)

        return process

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Count decoded pictures, and keep every call of a model."""
        from dyconv.media import picture, video
        from dyconv.stages import people_faces, tracks

        load, opened, packets, images = registry.load, video.opened_video, picture.packets_of, tracks.rgb_pictures

        @contextmanager
        def opened_video(source: Any) -> Iterator[tuple[Any, Any]]:
            with opened(source) as (container, stream):
                yield _Container(container, self._counter(source)), stream

        def packets_of(container: Any, stream: Any) -> Iterator[Any]:
            for packet in packets(container, stream):
                yield _Packet(packet, self._counter(Path(container.name)))

        def rgb_pictures(path: Path) -> Iterator[np.ndarray]:
            for index, image in enumerate(images(path)):
                self._pictures.append((image, Picture(path, index)))
                yield image

        with (
            mock.patch.object(video, "opened_video", opened_video),
            mock.patch.object(picture, "packets_of", packets_of),
            mock.patch.object(tracks, "rgb_pictures", rgb_pictures),
            mock.patch.object(people_faces, "rgb_pictures", rgb_pictures),
            mock.patch.object(registry, "load", lambda name: _Model(load(name), name, self)),
        ):
            yield

    def _counter(self, source: Any) -> Callable[[], None]:
        key = self.stage, source.name if isinstance(source, Path) else "memory"

        def count() -> None:
            self.decoded[key] += 1

        return count

    def call(self, model: str, method: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        known = {id(image): place for image, place in self._pictures}
        kept = tuple(known.get(id(arg), arg) for arg in args)
        last = self._pictures[-1][1] if any(isinstance(arg, Picture) for arg in kept) else None
        self.calls.setdefault(self.stage, []).append(Call(model, method, kept, options, last))


class _Model:
    """A model whose calls are kept."""

    def __init__(self, model: Any, name: str, seen: Seen) -> None:
        self._model, self._name, self._seen = model, name, seen

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            self._seen.call(self._name, name, args, options)
            return found(*args, **options)

        return call


class _Container:
    """A container that counts what it decodes."""

    def __init__(self, container: Any, count: Callable[[], None]) -> None:
        self._container, self._count = container, count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def decode(self, stream: Any) -> Iterator[Any]:
        for frame in self._container.decode(stream):
            self._count()
            yield frame


class _Packet:
    """A packet that counts what it decodes to."""

    def __init__(self, packet: Any, count: Callable[[], None]) -> None:
        self._packet, self._count = packet, count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._packet, name)

    def decode(self) -> list[Any]:
        frames: list[Any] = self._packet.decode()
        for _ in frames:
            self._count()
        return frames


def replay(calls: Sequence[Call], models: dict[str, Any], pictures: Callable[[Path], Iterator[np.ndarray]]) -> None:
    """Make the calls again, in order, decoding each video once along the way."""
    video: Path | None = None
    images: dict[int, np.ndarray] = {}
    stream: Iterator[np.ndarray] = iter(())
    upto = -1
    for call in calls:
        if call.after is not None:
            if call.after.video != video or call.after.index < upto:
                video, images, stream, upto = call.after.video, {}, pictures(call.after.video), -1
            while upto < call.after.index:
                upto += 1
                images[upto] = next(stream)
                images.pop(upto - _KEPT, None)
        args = [images[arg.index] if isinstance(arg, Picture) else arg for arg in call.args]
        getattr(models[call.model], call.method)(*args, **call.options)
    for _ in stream:  # the stage looked at the rest too
        pass
