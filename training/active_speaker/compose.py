"""Training windows: a face with lips that move or rest, and several sounds that do or do not belong to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dyconv.models.mouth_sync_input import THUMB, mel_bands, standardised
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME
from training.active_speaker.data import Clip, activity, mirrored

SOUNDS = 3  # sounds paired with each face
WIDE = 64


@dataclass
class Window:
    """One face and its sounds, T frames.

    Attributes:
        thumbs: float32 [T, 48, 48]; shapes: float32 [T, 53].
        moving: float32 [T]: lips speak, 0 or 1, nan where nobody knows.
        teacher: float32 [T, 128], nan where there is none.
        bands: float32 [SOUNDS, 4 T, 40].
        speaks: float32 [SOUNDS, T], the label; heard: float32 [SOUNDS, T], anybody is heard.
        matching: float32 [SOUNDS, T]: own voice is heard, in time and alone enough to learn synchrony from.
    """

    thumbs: np.ndarray
    shapes: np.ndarray
    moving: np.ndarray
    teacher: np.ndarray
    bands: np.ndarray
    speaks: np.ndarray
    heard: np.ndarray
    matching: np.ndarray


@dataclass
class Composer:
    """Draws windows of `frames` frames at random.

    Attributes:
        offsets: by clip name, frames by which its sound is late as found so far; it is moved back by as much.
    """

    clips: Sequence[Clip]
    voices: Sequence[np.ndarray]
    noises: Sequence[np.ndarray]
    frames: int
    seed: int
    offsets: dict[str, float]

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        weight = np.array([np.sqrt(clip.frames) * (2.0 if clip.talks else 0.7) for clip in self.clips])
        self._weight = weight / weight.sum()
        self._talking = [clip for clip in self.clips if clip.talks]

    def window(self) -> Window:
        random = self.random
        clip = self.clips[int(random.choice(len(self.clips), p=self._weight))]
        index, real = self._pictures(clip)
        rows = np.clip(index, 0, clip.frames - 1)
        shapes = clip.shapes[rows].copy()
        flip = random.random() < 0.5
        if flip:
            shapes = mirrored(shapes)
        thumbs = self._thumbs(clip.mouth[rows], flip)
        self._hide(thumbs, shapes)
        own, speech = self._own(clip, index, real)
        bands, speaks, heard, matching = [], [], [], []
        for number in range(SOUNDS):
            sound, label, anybody, match = self._sound(clip, own, speech, real, number)
            bands.append(mel_bands(self._degraded(sound), self.frames) + np.float32(random.normal(0, 0.1)))
            speaks.append(label)
            heard.append(anybody)
            matching.append(match)
        moving = speech * real if clip.talks else np.where(real, np.nan if not clip.listens else 0.0, 0.0)
        teacher = np.full((self.frames, 128), np.nan, np.float32)
        if clip.teacher is not None:
            steady = real & (index >= 0) & (index < clip.frames)
            steady &= np.convolve(~real, np.ones(13), "same") < 0.5
            teacher[steady] = clip.teacher[rows[steady]]
        return Window(
            thumbs,
            shapes,
            moving.astype(np.float32),
            teacher,
            np.stack(bands),
            np.stack(speaks).astype(np.float32),
            np.stack(heard).astype(np.float32),
            np.stack(matching).astype(np.float32),
        )

    def _pictures(self, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
        """Frame of the clip shown in each frame, and whether it runs as it was taken (else rest frames are shown)."""
        random, count = self.random, self.frames
        start = int(random.integers(min(0, clip.frames - count), max(1, clip.frames - count + 1)))
        index = start + np.arange(count)
        real = (index >= 0) & (index < clip.frames)
        if random.random() < 0.45:
            length = int(random.integers(15, count + 1))
            at = int(random.integers(0, count - length + 1))
            middle = int(random.choice(clip.quiet))
            swing = int(random.choice([0, 0, 1, 2, 4])) if clip.talks else int(random.integers(0, 12))
            phase = np.abs((np.arange(length) + int(random.integers(100))) % max(1, 2 * swing) - swing) if swing else 0
            index[at : at + length] = np.clip(middle + phase - swing // 2, 0, clip.frames - 1)
            real[at : at + length] = False
        return index, real

    def _thumbs(self, pictures: np.ndarray, flip: bool) -> np.ndarray:
        import cv2

        random = self.random
        angle, scale = np.radians(random.normal(0, 5)), np.exp(random.normal(0, 0.08)) * (-1.0 if flip else 1.0)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([scale, abs(scale)])
        centre = WIDE / 2 - 0.5 + random.normal(0, 1.5, 2)
        matrix = np.concatenate([turn, (centre - turn @ np.full(2, THUMB / 2 - 0.5))[:, None]], axis=1)
        coarse = int(random.integers(14, THUMB)) if random.random() < 0.4 else THUMB
        shake = 0.3 * random.random()
        out = np.empty((len(pictures), THUMB, THUMB), np.float32)
        for row, picture in enumerate(pictures):
            moved = matrix.copy()
            moved[:, 2] += random.normal(0, shake, 2)
            thumb = cv2.warpAffine(
                picture, moved, (THUMB, THUMB), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
            )
            if coarse < THUMB:
                small = cv2.resize(thumb, (coarse, coarse), interpolation=cv2.INTER_AREA)
                thumb = cv2.resize(small, (THUMB, THUMB), interpolation=cv2.INTER_LINEAR)
            out[row] = thumb
        gamma = np.exp(random.normal(0, 0.25))
        out = 255.0 * (out / 255.0) ** gamma * np.exp(random.normal(0, 0.15)) + random.normal(0, 8)
        out += random.normal(0, abs(random.normal(0, 4)) + 0.5, out.shape)
        return standardised(np.clip(out, 0, 255).astype(np.uint8))

    def _hide(self, thumbs: np.ndarray, shapes: np.ndarray) -> None:
        """Take away pictures, shapes, or both for a moment; shake the shapes."""
        random = self.random
        shapes[:, :-2] += random.normal(0, 0.05 * random.random(), shapes[:, :-2].shape)
        shapes[:, :-2] *= np.exp(random.normal(0, 0.15))
        shapes[:, :-2] += random.normal(0, 0.1, (1, shapes.shape[1] - 2))
        choice = random.random()
        if choice < 0.12:
            thumbs[:] = 0
        elif choice < 0.27:
            shapes[:] = 0
        if random.random() < 0.15:
            length = int(random.integers(2, 15))
            at = int(random.integers(0, self.frames - length))
            thumbs[at : at + length] = 0
            shapes[at : at + length] = 0

    def _own(self, clip: Clip, index: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The clip's sound where its pictures run as they were taken, silent elsewhere, and its speech."""
        own, speech = np.zeros((self.frames, SAMPLES_PER_FRAME), np.float32), np.zeros(self.frames, np.float32)
        if len(clip.sound) == 0:
            return own.reshape(-1), speech
        late = round(self.offsets.get(clip.name, 0.0) * SAMPLES_PER_FRAME)
        begins = index * SAMPLES_PER_FRAME + late
        for frame in np.flatnonzero(real & (begins >= 0) & (begins + SAMPLES_PER_FRAME <= len(clip.sound))):
            own[frame] = clip.sound[begins[frame] : begins[frame] + SAMPLES_PER_FRAME]
            speech[frame] = clip.speech[min(clip.frames - 1, int(begins[frame]) // SAMPLES_PER_FRAME)]
        return own.reshape(-1) / 32768.0, speech

    def _sound(
        self, clip: Clip, own: np.ndarray, speech: np.ndarray, real: np.ndarray, number: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """A sound, who is heard in it, and whether the face speaks it."""
        random = self.random
        none = np.zeros(self.frames, np.float32)
        other, others = self._other(clip)
        gate = np.repeat(real, SAMPLES_PER_FRAME)
        if not clip.talks or speech.sum() < 5:
            if len(clip.sound) and random.random() < 0.6:
                return own, none, speech, none
            kind = random.random()
            return (other, none, others, none) if kind < 0.85 else (0.0 * other, none, none, none)
        label = speech * real
        if number == 0:
            if random.random() < 0.5:
                return own, label, speech, label
            return own + np.where(gate, 0, other), label, np.maximum(speech, others * ~real), label
        kind = random.random()
        if kind < 0.2:
            both = own + other * 10 ** (random.uniform(-12, 6) / 20)
            return both, label, np.maximum(speech, others), none
        if kind < 0.7:
            return other, none, others, none
        if kind < 0.8:
            return 0.0 * own, none, none, none
        edge = int(random.integers(10, self.frames - 10))
        first = (np.arange(self.frames) < edge) ^ (random.random() < 0.5)
        mine = np.repeat(first, SAMPLES_PER_FRAME)
        return np.where(mine, own, other), label * first, np.where(first, speech, others), none

    def _other(self, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
        """Somebody else's voice for the whole window, at about the level of clean speech, and where it is heard."""
        random, wanted = self.random, self.frames * SAMPLES_PER_FRAME
        if random.random() < 0.55:
            source = self._talking[int(random.integers(len(self._talking)))]
            while source.name.split("__")[0:2] == clip.name.split("__")[0:2]:
                source = self._talking[int(random.integers(len(self._talking)))]
            voice, first = source.sound, int(random.integers(max(1, source.frames - self.frames + 1)))
            part = voice[first * SAMPLES_PER_FRAME :][:wanted]
        else:
            voice = self.voices[int(random.integers(len(self.voices)))]
            part = voice[int(random.integers(max(1, len(voice) - wanted + 1))) :][:wanted]
        if len(part) < wanted:
            gap = np.zeros(int(random.integers(SAMPLE_RATE // 2)), np.int16)
            again = (
                [self.voices[int(random.integers(len(self.voices)))] for _ in range(3)] if random.random() < 0.5 else [part] * 8
            )
            part = np.concatenate([part, *[piece for voice in again for piece in (gap, voice)]])
            part = np.pad(part, (0, max(0, wanted - len(part))))[:wanted]
        level = 10 ** (random.uniform(-6, 6) / 20)
        loud = float(np.percentile(np.abs(part[::7].astype(np.float32)), 95)) / 32768 + 1e-4
        return part.astype(np.float32) / 32768 * (0.15 / loud * level), activity(part, self.frames)

    def _degraded(self, sound: np.ndarray) -> np.ndarray:
        """The same sound in another room, through another microphone, with something else going on."""
        from scipy.signal import lfilter, resample_poly

        random = self.random
        out = sound
        if random.random() < 0.6:
            out = lfilter([1.0, random.uniform(-0.7, 0.7)], [1.0, random.uniform(-0.5, 0.5)], out)
        if random.random() < 0.15:
            length = int(SAMPLE_RATE * random.uniform(0.05, 0.25))
            tail = random.normal(0, 1, length) * np.exp(-6.0 * np.arange(length) / length) * random.uniform(0.05, 0.25)
            tail[0] = 1.0
            size = 1 << (len(out) + length - 1).bit_length()
            out = np.fft.irfft(np.fft.rfft(out, size) * np.fft.rfft(tail, size), size)[: len(out)]
        loud = float(np.sqrt(np.percentile(out[::5] ** 2, 90))) + 1e-3
        if random.random() < 0.55:
            noise = self._noise(len(out))
            out = out + noise * loud * 10 ** (-random.uniform(-2, 25) / 20)
        out = out + random.normal(0, 1, len(out)) * loud * 10 ** (-random.uniform(20, 60) / 20)
        if random.random() < 0.15:
            out = resample_poly(resample_poly(out, 1, 2), 2, 1)[: len(out)]
        if random.random() < 0.1:
            out = np.clip(out, -1.5 * loud, 1.5 * loud)
        return (out * 10 ** (random.uniform(-20, 3) / 20)).astype(np.float32)

    def _noise(self, length: int) -> np.ndarray:
        """Music, noise or babble of RMS 1."""
        random = self.random
        if random.random() < 0.25:
            noise = np.zeros(length, np.float32)
            for _ in range(4):
                voice = self.voices[int(random.integers(len(self.voices)))]
                noise += np.roll(np.resize(voice.astype(np.float32), length), int(random.integers(length)))
        else:
            source = self.noises[int(random.integers(len(self.noises)))].astype(np.float32)
            source = source[int(random.integers(max(1, len(source) - length + 1))) :]
            noise = np.resize(source, length)
        return noise / (float(np.sqrt((noise**2).mean())) + 1e-3)
