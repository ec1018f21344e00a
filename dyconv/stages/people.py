"""Who speaks when, and whether it is a conversation of exactly two.

A segment passes when two people are heard. Evidence is lip motion of every face on screen against the sound, voice
activity, and the likeness of voices learnt from the segment's own sure speech. A hidden Markov model decodes it; where a
face is seen and its lips are still while speech is heard, the speech goes to the partner off screen, or to nobody.
Wrong attribution is worse than none, so whatever stays doubtful becomes an unsure turn that belongs to nobody.

SPEECH npz, all float32 [T], one a 25 fps frame: `vad` probability of speech; `p0` and `p1` probability that this person
speaks (both may be high in overlap); `unsure` probability mass of speech that is given to neither: all of it in unsure and
off-screen turns, elsewhere what the model leaves to "somebody else".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from dyconv.arrays import save_arrays
from dyconv.faces import FaceArrays, load_faces
from dyconv.media.audio import read_audio
from dyconv.models import registry
from dyconv.models.slots import ActiveSpeaker, FaceTrack, Vad
from dyconv.records import PERSONS, Clip, Drop, DropReason, Key, Person, Track, Turn
from dyconv.speech.attribute import SPEECH, Attribution, TurnRules, attribute, seconds_spoken
from dyconv.speech.decode import Decoding, Evidence, TurnModel
from dyconv.speech.turns import activity, speaker_changes
from dyconv.speech.voice import voice_features
from dyconv.stages.base import Files, Resources, Stage
from dyconv.time import FPS, frame_samples

_CANDIDATES = 4  # faces that are decoded at once, by time on screen
_SAME_TIME = 0.02  # share of the segment within which two people are on screen equally long


@dataclass(frozen=True, eq=False)
class Face:
    """One identity on screen: evidence per frame, and where it stands.

    Attributes:
        identity: `Track.identity`, or the track's id where it has none.
        lips: float32 [T] log odds, 0 where unseen.
        seen: bool [T].
        left: mean x of its boxes in pixels.
    """

    identity: str
    lips: np.ndarray
    seen: np.ndarray
    left: float

    @property
    def seconds(self) -> float:
        return float(self.seen.sum()) / FPS


@dataclass(frozen=True)
class People(Stage):
    """Attributes:
    min_seen: how many of the two must be seen somewhere in the segment, 1 or 2.
    min_seen_s: seconds on screen from which an identity counts as seen.
    min_heard_s: seconds of attributed speech from which a person counts as heard.
    min_changes: how often the floor must pass from one to the other: 1 is question and answer, 3 is two rounds.
    max_others: share of all speech that may be by anybody who is not one of the two.
    max_abstain: share of all speech that may be left undecided.
    min_confidence: probability below which a stretch of speech is left undecided.
    min_separation: a partner whose lips are never seen speaking must have a voice that differs from the other's by this
        many standard deviations (d' of held-out speech), or there is only one voice.
    vad, active_speaker: names in the model registry.
    """

    name: ClassVar[str] = "people"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.MIX, Key.FACES})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.SPEECH})
    resources: ClassVar[Resources] = Resources(cpus=1.0)

    min_seen: int = 2
    min_seen_s: float = 1.0
    min_heard_s: float = 1.0
    min_changes: int = 1
    max_others: float = 0.15
    max_abstain: float = 0.35
    min_confidence: float = 0.8
    min_separation: float = 1.5
    vad: str = "silero"
    active_speaker: str = "lip_motion"

    def models(self) -> tuple[str, ...]:
        return (self.vad, self.active_speaker)

    _vad: ClassVar[Vad]  # set on the instance by setup
    _lips: ClassVar[ActiveSpeaker]

    def setup(self) -> None:
        object.__setattr__(self, "_vad", registry.load(self.vad))
        object.__setattr__(self, "_lips", registry.load(self.active_speaker))

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        mix = _as_long_as(read_audio(files.path(clip, Key.MIX)), frame_samples(clip.frames))
        speech = self._vad.speech(mix)
        faces = self._faces(clip, load_faces(files.path(clip, Key.FACES)), mix, speech)
        if len(faces) < self.min_seen:
            found = ", ".join(f"{face.identity} for {face.seconds:.1f} s" for face in faces) or "nobody"
            yield Drop(clip, DropReason.FACES_NOT_TWO, f"expected {self.min_seen} people on screen, found {found}")
            return
        if (heard := float((speech >= SPEECH).sum()) / FPS) < self.min_heard_s:
            yield Drop(clip, DropReason.NOT_DYADIC, f"expected two people heard, found {heard:.1f} s of speech")
            return
        pair, third = self._pair(faces, speech)
        if third:
            yield Drop(clip, DropReason.NOT_DYADIC, third)
            return
        evidence = _evidence(pair, speech, [face for face in faces if face not in pair])
        attribution = attribute(evidence, voice_features(mix, len(speech)), TurnModel())
        turns = TurnRules(min_confidence=self.min_confidence).turns(attribution.decoding)
        refusal = self._refusal(turns, evidence, attribution)
        yield Drop(clip, *refusal) if refusal else self._keep(clip, files, pair, turns, evidence, attribution)

    def _faces(self, clip: Clip, arrays: dict[str, FaceArrays], mix: np.ndarray, speech: np.ndarray) -> list[Face]:
        """Identities seen for long enough, the longest seen first, the leftmost first among equals."""
        frames = len(speech)
        tracks: dict[str, list[Track]] = {}
        for track in clip.tracks:
            tracks.setdefault(track.identity or track.id, []).append(track)
        faces = []
        for identity, own in tracks.items():
            lips, seen, left = np.zeros(frames, np.float32), np.zeros(frames, bool), []
            for track in own:
                part = slice(track.start, min(track.end, frames))
                face = arrays[track.id].between(track.start, part.stop)
                landmarks, present = face.dense(part.stop - track.start)
                samples = mix[frame_samples(track.start) : frame_samples(part.stop)]
                odds = self._lips.score(FaceTrack(landmarks, present), samples, speech[part])
                lips[part] = np.where(present, odds, lips[part])
                seen[part] |= present
                left.append(face.boxes[:, 0])
            if seen.sum() >= self.min_seen_s * FPS:
                faces.append(Face(identity, lips, seen, float(np.concatenate(left).mean())))
        step = max(1.0, _SAME_TIME * frames)
        return sorted(faces, key=lambda face: (-round(face.seen.sum() / step), face.left, face.identity))

    def _pair(self, faces: Sequence[Face], speech: np.ndarray) -> tuple[list[Face], str | None]:
        """The two that talk, in the order of `faces`, a partner who is only heard standing in for one never seen.

        The text says why it is not two, where a third one talks as well.
        """
        nobody = Face("", np.zeros(len(speech), np.float32), np.zeros(len(speech), bool), 0.0)
        if len(faces) < 2:
            return [*faces, *[nobody] * (2 - len(faces))], None
        candidates = list(faces[:_CANDIDATES])
        persons = TurnModel().decode(_evidence(candidates, speech)).persons
        shown = [row * face.seen for row, face in zip(persons, candidates, strict=True)]
        spoken = [float((row >= self.min_confidence).sum()) / FPS for row in shown]
        ranked = sorted(range(len(candidates)), key=lambda index: (-spoken[index], index))
        beyond = sum(spoken[index] for index in ranked[2:])
        if beyond > self.max_others * sum(spoken):
            said = ", ".join(f"{face.identity} {seconds:.1f} s" for face, seconds in zip(candidates, spoken, strict=True))
            return [], f"expected two people talking, found {said}"
        return [candidates[index] for index in sorted(ranked[:2])], None

    def _refusal(self, turns: Sequence[Turn], evidence: Evidence, attribution: Attribution) -> tuple[DropReason, str] | None:
        """Why this is not a conversation of two that can be attributed, or None."""
        heard = [seconds_spoken(turns, person) for person in PERSONS]
        others, unsure = seconds_spoken(turns, None), seconds_spoken(turns, None, unsure=True)
        total = max(sum(heard) + others + unsure, 1e-6)
        if others > self.max_others * total:
            found = f"{others:.1f} of {total:.1f} s of speech by somebody else than the two"
            return DropReason.NOT_DYADIC, f"expected at most {self.max_others:.0%} by others, found {found}"
        if others + unsure > self.max_abstain * total:
            found = f"{others + unsure:.1f} of {total:.1f} s that cannot be given to either"
            return DropReason.ATTRIBUTION_UNSURE, f"expected at most {self.max_abstain:.0%} undecided, found {found}"
        if min(heard) < self.min_heard_s:
            found = " and ".join(f"{seconds:.1f} s" for seconds in heard)
            return DropReason.NOT_DYADIC, f"one voice heard: expected {self.min_heard_s:g} s of each of two, found {found}"
        if (changes := speaker_changes(turns)) < self.min_changes:
            return DropReason.NOT_DYADIC, f"expected the floor to change {self.min_changes} times, found {changes}"
        return self._one_voice(evidence, attribution)

    def _one_voice(self, evidence: Evidence, attribution: Attribution) -> tuple[DropReason, str] | None:
        """Two names for one voice? Lips seen speaking on two faces seen together prove two; otherwise the voices must."""
        spoken = [
            attribution.decoding.speaks(person) & evidence.seen[person] & (evidence.lips[person] > 0) for person in range(2)
        ]
        together = float(evidence.seen.all(axis=0).sum()) / FPS
        if together >= self.min_seen_s and all(own.sum() >= self.min_heard_s * FPS for own in spoken):
            return None
        found = attribution.voices.separation
        if found >= self.min_separation:
            return None
        return (
            DropReason.NOT_DYADIC,
            f"one voice heard: expected two voices {self.min_separation:g} standard deviations apart, found {found:.1f}",
        )

    def _keep(
        self,
        clip: Clip,
        files: Files,
        pair: Sequence[Face],
        turns: Sequence[Turn],
        evidence: Evidence,
        attribution: Attribution,
    ) -> Clip:
        decoding = attribution.decoding
        names = {face.identity: person for face, person in zip(pair, PERSONS, strict=True) if face.seen.any()}
        people = tuple(
            Person(person, face.identity if face.seen.any() else None, bool(face.seen.any()), True)
            for face, person in zip(pair, PERSONS, strict=True)
        )
        path = files.new(clip, Key.SPEECH)
        p0, p1 = decoding.persons
        unsure = _unsure(decoding, turns)
        save_arrays(path, {"vad": evidence.speech.astype(np.float32), "p0": p0, "p1": p1, "unsure": unsure})
        clip = replace(
            clip,
            people=people,
            turns=tuple(turns),
            tracks=tuple(replace(track, person=names.get(track.identity or track.id)) for track in clip.tracks),
        )
        return files.add(_measured(clip, attribution), (Key.SPEECH, path))


def _as_long_as(samples: np.ndarray, wanted: int) -> np.ndarray:
    return np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))


def _evidence(pair: Sequence[Face], speech: np.ndarray, further: Sequence[Face] = ()) -> Evidence:
    """Evidence of the `pair`; `further` faces speak for somebody else."""
    lips = np.stack([face.lips for face in pair])
    others = np.max([np.where(face.seen, face.lips, -np.inf) for face in further], axis=0) if further else -np.inf
    others = np.where(np.isfinite(others), others, 0.0) * np.ones(len(speech))
    return Evidence(speech, lips, np.zeros_like(lips), np.stack([face.seen for face in pair]), others)


def _unsure(decoding: Decoding, turns: Sequence[Turn]) -> np.ndarray:
    unsure = decoding.other.copy()
    for turn in turns:
        if turn.person is None:
            part = slice(turn.span.frames.start, turn.span.frames.stop)
            unsure[part] = 1.0 - decoding.silence[part]
    return unsure.astype(np.float32)


def _measured(clip: Clip, attribution: Attribution) -> Clip:
    """Adds shares of all attributed or undecided speech, and how far apart the two voices are (d')."""
    undecided = seconds_spoken(clip.turns, None) + seconds_spoken(clip.turns, None, unsure=True)
    total = undecided + sum(seconds_spoken(clip.turns, person) for person in PERSONS)
    both = activity(clip.turns, clip.frames).all(axis=0).sum() / FPS
    return clip.measured(
        people__abstain_share=round(undecided / total, 4),
        people__overlap_share=round(float(both) / total, 4),
        people__voice_separation=round(attribution.voices.separation, 3),
    )
