"""Lessons for `target_tasnet`: composed overlaps, explained by what is known of both voices (see `Hints`)."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch

from dyconv.models.target_tasnet_hints import columns, hints, known
from dyconv.time import SAMPLES_PER_FRAME
from training.separation.compose import Composer, Overlap
from training.separation.voices import Voice

ENROL_S = (5.0, 24.0)  # of a voice in a lesson
_LEAST = 8000  # samples of a voice that say anything
_ROUNDS = 30  # of explaining: half of what is used later, for twice the lessons


class Lesson(NamedTuple):
    """One excerpt, in half precision.

    Attributes:
        features, odds, pitch: what the network gets, see `Hints`.
        sounds: mix and both voices [3, N], at the mix's unit level.
        both: bool [T], frames where both speak.
    """

    features: np.ndarray
    odds: np.ndarray
    pitch: np.ndarray
    sounds: np.ndarray
    both: np.ndarray


def lesson(item: Overlap) -> Lesson | None:
    """What the network sees of an excerpt, and what it should have said. None where a voice is unknown."""
    mix = torch.from_numpy(item.voices.sum(axis=0) + item.rest)
    level = mix.square().mean().sqrt() + 1e-5
    active = item.activity > 0.5
    alone = active & ~active[::-1]
    solo = np.repeat(alone, SAMPLES_PER_FRAME, axis=1)
    own = [np.concatenate([item.enrolment[person], mix.numpy()[solo[person]]]) for person in range(2)]
    if not all(enrolment.any() for enrolment in item.enrolment) or min(map(len, own)) < _LEAST:
        return None
    with torch.autocast("cpu", torch.bfloat16):
        voices = known(torch.from_numpy(own[0])), known(torch.from_numpy(own[1]))
        told = hints(mix / level, voices, columns(torch.from_numpy(alone.astype(np.float32))), _ROUNDS)
    sounds = torch.cat([mix[None], torch.from_numpy(item.voices)]) / level
    features, odds, pitch, heard = (part.half().numpy() for part in (*told, sounds))
    return Lesson(features, odds, pitch, heard, item.both)


def draw(composer: Composer) -> Lesson:
    with torch.inference_mode():
        while (found := lesson(composer.draw())) is None:
            pass
    return found


def keep_composing(voices: Sequence[Voice], seed: int, out: Any) -> None:
    """A process of its own: lessons as long as whoever began it lives, only while nothing else needs the processor."""
    os.nice(10)
    torch.set_num_threads(1)
    parent = os.getppid()
    out.cancel_join_thread()
    composer = Composer(voices, seed, enrol_s=ENROL_S)
    while os.getppid() == parent:
        with suppress(queue.Full):
            out.put(draw(composer), timeout=30.0)


class Pool:
    """The newest lessons."""

    def __init__(self, voices: Sequence[Voice], seed: int, *, least: int, most: int, composers: int) -> None:
        self.most, self.drawn, self.lessons = most, 0, list[Lesson]()
        context = multiprocessing.get_context("fork")
        self._queue = context.Queue(maxsize=32)
        for index in range(composers):
            context.Process(target=keep_composing, args=(voices, 100 * seed + index, self._queue), daemon=True).start()
        composer = Composer(voices, 100 * seed - 1, enrol_s=ENROL_S)
        while len(self.lessons) < least:
            self._add(draw(composer))
            self.renew()

    def renew(self) -> None:
        """Take in what has been composed meanwhile."""
        try:
            for _ in range(8):
                self._add(self._queue.get(timeout=0.01))  # one lesson takes a moment to come through the pipe
        except queue.Empty:
            return

    def _add(self, item: Lesson) -> None:
        if len(self.lessons) < self.most:
            self.lessons.append(item)
        else:
            self.lessons[self.drawn % self.most] = item
        self.drawn += 1
