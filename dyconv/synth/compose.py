"""From two people's pictures and voices to a conversation with known truth: what `dyconv synth` does."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dyconv.errors import UsageError
from dyconv.models.registry import load
from dyconv.synth import schedule, sound
from dyconv.synth.footage import ClipFigure, Footage, is_clip, read_footage, reel
from dyconv.synth.layouts import BOTH
from dyconv.synth.motion import animate
from dyconv.synth.puppet import portrait, read_picture
from dyconv.synth.render import SOUNDS, Conversation, Figure, PhotoFigure, Shot, render
from dyconv.time import SAMPLE_RATE
from dyconv.truth import LAYOUTS

PEOPLE = ("a", "b")
OFF_SCREEN = "off-screen"
_PEAK = 0.9
_SHOT_S = (3.0, 7.0)


@dataclass(frozen=True)
class PersonInput:
    """One of the two: a photograph and a recording of one voice, or a video clip of one person who speaks.

    Attributes:
        picture: photograph or clip.
        voice: sound file; for a clip, replaces the clip's own sound and is in time with its picture.
        until: seconds of a clip that are used; None: all, at most two minutes.
    """

    picture: Path
    voice: Path | None = None
    until: float | None = None


@dataclass(frozen=True)
class Options:
    """How the conversation is composed. See `dyconv synth --help`.

    Attributes:
        cuts: wanted times of hard cuts, seconds; moved to the nearest frame.
        shots: what each shot shows, one more than cuts: `two-shot`, `side`, `stacked`, `pip`, `a` or `b`.
        overlap: share of speech time in which both are heard, 0 to 1.
        background: `white`, `pink`, `babble` or a sound file, at `snr_db` below the speech.
        duration: seconds; None: what the shorter of the two voices lasts for.
    """

    layout: str = "two-shot"
    cuts: tuple[float, ...] = ()
    shots: tuple[str, ...] = ()
    overlap: float = 0.1
    off_screen: Path | None = None
    background: str | None = None
    snr_db: float = 20.0
    seed: int = 0
    width: int = 1280
    height: int = 720
    fps: Fraction = Fraction(25)
    duration: float | None = None
    sound: str = "aac"

    def check(self) -> None:
        """Raises UsageError where an option, alone or with others, cannot be."""
        if self.layout not in LAYOUTS:
            raise UsageError(f"no layout {self.layout!r}", hint=f"layouts: {', '.join(LAYOUTS)}")
        if (self.cuts or self.shots) and self.layout != "cuts":
            raise UsageError(f"cut times and shots go with the layout cuts, not with {self.layout}")
        if self.shots and len(self.shots) != len(self.cuts) + 1:
            raise UsageError(f"{len(self.cuts)} cuts make {len(self.cuts) + 1} shots, found {len(self.shots)} shots")
        for view in self.shots:
            if view not in (*BOTH, *PEOPLE):
                raise UsageError(f"no shot {view!r}", hint=f"shots: {', '.join((*BOTH, *PEOPLE))}")
        if any(one == two for one, two in pairwise(self.shots)):
            raise UsageError("two neighbouring shots are the same, so no cut would be seen between them")
        if not 0 <= self.overlap <= 1:
            raise UsageError(f"the overlap is a share from 0 to 1, found {self.overlap}")
        if not -40 <= self.snr_db <= 80:
            raise UsageError(f"the level over noise must be -40 to 80 dB, found {self.snr_db}")
        if self.width % 2 or self.height % 2 or not (64 <= self.width <= 7680 and 64 <= self.height <= 4320):
            raise UsageError(f"the size must be even and from 64 to 7680x4320 pixels, found {self.width}x{self.height}")
        if not 1 <= self.fps <= 120:
            raise UsageError(f"the frame rate must be 1 to 120, found {self.fps}")
        if self.duration is not None and not 1 <= self.duration <= 3600:
            raise UsageError(f"the duration must be 1 to 3600 seconds, found {self.duration}")
        if self.sound not in SOUNDS:
            raise UsageError(f"no sound format {self.sound!r}", hint=f"sound formats: {', '.join(SOUNDS)}")


class Cabinet:
    """The face models, and clips that have been decoded."""

    def __init__(self) -> None:
        self._clips: dict[tuple[PersonInput, Fraction, int], Footage] = {}

    @cached_property
    def models(self) -> tuple[Any, Any]:
        return load("mediapipe_face"), load("mediapipe_mesh")

    def footage(self, given: PersonInput, fps: Fraction, height: int) -> Footage:
        if (given, fps, height) not in self._clips:
            self._clips[given, fps, height] = read_footage(given.picture, fps, height, *self.models, given.until)
        return self._clips[given, fps, height]


def compose(a: PersonInput, b: PersonInput, out: Path, options: Options | None = None) -> Path:
    """Compose a conversation of `a` and `b` into the folder `out`; gives the path of its truth.json.

    Raises:
        UsageError: for input that cannot be used; says which file and why.
        ModelMissing: if the face models are not in the cache.
    """
    options = options or Options()
    return render(arrange(a, b, options), out, sound=options.sound)


def arrange(a: PersonInput, b: PersonInput, options: Options, cabinet: Cabinet | None = None) -> Conversation:
    """The conversation that `compose` draws, for callers that change its sound or draw several of the same people.

    Args:
        cabinet: clips and models that stay loaded from one conversation to the next.

    Raises:
        UsageError, ModelMissing: as `compose`.
    """
    options.check()
    inputs = dict(zip(PEOPLE, (a, b), strict=True))
    cabinet = cabinet or Cabinet()
    clips = {
        person: cabinet.footage(given, options.fps, options.height)
        for person, given in inputs.items()
        if is_clip(given.picture)
    }
    voices, pieces = _voices(inputs, clips, options)
    frames = _frames(pieces, options)
    samples = round(frames / options.fps * SAMPLE_RATE)
    plan = schedule.plan(pieces, samples, options.overlap, options.seed)
    for person in PEOPLE:
        if not any(item.person == person for item in plan):
            raise UsageError(
                f"{samples / SAMPLE_RATE:.1f} s are too short for both to speak", hint="ask for a longer --duration"
            )
    heard = {name: schedule.sound_of(plan, name, voice, samples) for name, voice in voices.items()}
    mix, scale = _mix(heard, plan, options)
    figures: dict[str, Figure] = {}
    for person, given in inputs.items():
        if clip := clips.get(person):
            figures[person] = ClipFigure(clip, reel(plan, person, pieces[person], clip, options.fps, frames))
        else:
            figures[person] = _photo(person, given, heard, frames, options, cabinet)
    return Conversation(
        figures=figures,
        mix=mix,
        voices={person: heard[person] * scale for person in PEOPLE},
        turns=schedule.truth_turns(plan),
        shots=_shots(plan, frames, options),
        layout=options.layout,
        width=options.width,
        height=options.height,
        fps=options.fps,
    )


def _voices(
    inputs: dict[str, PersonInput], clips: dict[str, Footage], options: Options
) -> tuple[dict[str, np.ndarray], dict[str, list[sound.Stretch]]]:
    """Each voice at the common level, and where it speaks; the off-screen voice last."""
    voices, pieces = {}, {}
    for person, given in inputs.items():
        clip = clips.get(person)
        if given.voice is None and clip is None:
            raise UsageError(f"{given.picture} needs a voice: a photograph has none", hint=f"give it with --{person}-voice")
        path = given.voice or given.picture
        samples = sound.read_sound(path, begin=clip.begin if clip and not given.voice else None)
        if clip:
            samples = samples[: round(len(clip.frames) / options.fps * SAMPLE_RATE)]
        pieces[person] = sound.utterances(samples, str(path))
        voices[person] = sound.leveled(samples, pieces[person])
    if options.off_screen:
        samples = sound.read_sound(options.off_screen)
        pieces[OFF_SCREEN] = sound.utterances(samples, str(options.off_screen))
        voices[OFF_SCREEN] = sound.leveled(samples, pieces[OFF_SCREEN])
    return voices, pieces


def _frames(pieces: dict[str, list[sound.Stretch]], options: Options) -> int:
    if options.duration is not None:
        return max(1, round(Fraction(repr(options.duration)) * options.fps))
    shorter = min(sum(map(len, pieces[person])) for person in PEOPLE) / SAMPLE_RATE
    return max(1, int(min(max(2.0 * shorter, 4.0), 600.0) * options.fps))


def _mix(heard: dict[str, np.ndarray], plan: list[schedule.Placed], options: Options) -> tuple[np.ndarray, float]:
    """Everything that is heard, below full scale, and the factor that brought it there."""
    speech = np.sum(list(heard.values()), axis=0)
    mix = speech
    if options.background:
        active = np.zeros(len(speech), bool)
        for item in plan:
            active[item.at : item.end] = True
        under = sound.noise(options.background, len(speech), [heard[person] for person in PEOPLE], options.seed)
        mix = speech + sound.add_noise(speech, active, under, options.snr_db)
    scale = min(1.0, _PEAK / max(float(np.abs(mix).max()), 1e-9))
    return (mix * scale).astype(np.float32), scale


def _photo(
    person: str, given: PersonInput, heard: dict[str, np.ndarray], frames: int, options: Options, cabinet: Cabinet
) -> Figure:
    face = portrait(read_picture(given.picture), *cabinet.models, str(given.picture))
    others = np.sum([voice for name, voice in heard.items() if name != person], axis=0)
    motion = animate(heard[person], others, options.fps, frames, options.seed, PEOPLE.index(person))
    return PhotoFigure(face, motion)


def _shots(plan: list[schedule.Placed], frames: int, options: Options) -> list[Shot]:
    """One shot, or for the layout cuts those that were asked for; what was not said is drawn by the seed."""
    if options.layout != "cuts":
        return [Shot(0, frames, options.layout)]
    rng = np.random.default_rng([options.seed, 3])
    edges = [0, *_cut_frames(frames, rng, options), frames]
    spans = list(pairwise(edges))
    views = list(options.shots)
    if not views:
        for span in spans:
            views.append(_view(views, span, plan, rng, options.fps))
    return [Shot(start, stop, view) for (start, stop), view in zip(spans, views, strict=True)]


def _cut_frames(frames: int, rng: np.random.Generator, options: Options) -> list[int]:
    if options.shots and not options.cuts:
        return []
    if options.cuts:
        found = [round(Fraction(repr(float(cut))) * options.fps) for cut in options.cuts]
        if found != sorted(set(found)) or found[0] < 1 or found[-1] >= frames:
            end = float(frames / options.fps)
            raise UsageError(f"cuts must rise between 0 and {end:.2f} s, at least a frame apart, found {options.cuts}")
        return found
    found, at = [], 0
    while True:
        at += round(rng.uniform(*_SHOT_S) * float(options.fps))
        if at > frames - int(2 * options.fps):
            return found
        found.append(at)


def _view(
    before: list[str], span: tuple[int, int], plan: list[schedule.Placed], rng: np.random.Generator, fps: Fraction
) -> str:
    """Every third shot shows both; a single shot mostly the one who speaks most, one time in four the other.

    Never the same as the shot before: there would be no cut to see.
    """
    if len(before) % 3 == 0:
        return "two-shot"
    begin, end = (int(edge / fps * SAMPLE_RATE) for edge in span)
    talk = {
        person: sum(max(0, min(item.end, end) - max(item.at, begin)) for item in plan if item.person == person)
        for person in PEOPLE
    }
    speaker = max(PEOPLE, key=lambda person: talk[person])
    listener = PEOPLE[1 - PEOPLE.index(speaker)]
    chosen = listener if rng.uniform() < 0.25 else speaker
    return PEOPLE[1 - PEOPLE.index(chosen)] if chosen == before[-1] else chosen
