"""Who speaks when, and whether it is a conversation of exactly two.

A segment passes when two people are heard. Evidence is each face's lips against the sound, voice activity, the voices a
diarizer hears (or a source's two channels carry), and the likeness of voices learnt from the segment's own sure speech. A
hidden Markov model decodes it over the whole segment: a voice belongs to the face whose lips fit it, wherever that is seen,
and keeps to it off camera. Where lips and voice contradict each other, or nothing tells, speech is given to nobody: wrong
attribution is worse than none.

SPEECH npz, all float32 [T], one a 25 fps frame: `vad` probability of speech; `p0` and `p1` probability that this person
speaks (both may be high in overlap); `unsure` probability mass of speech that is given to neither: all of it in unsure and
off-screen turns, elsewhere what the model leaves to "somebody else".

Measures:
- `people.abstain_share`, `people.overlap_share`: of all speech, given to nobody, and spoken by both at once.
- `people.voice_separation`: d' between the two voices as attributed.
- `people.lip_margin`: mean log odds by which lips bear out the match of voices and faces, of the less sure person.
- `people.agreement`: share of speech in which lips and voice name the same one, of that in which both name somebody.
- `people.voices`: how many voices the diarizer heard.
- `people.av_offset_frames`: by how many frames the sound is later than the lips, `people.sync_confidence` how sure that is;
  `p0.` and `p1.` in place of `people.` for each person alone, where they talk on screen for long enough.
- `people.channels`: `p0=0,p1=1` or `p0=1,p1=0` where the source's channels carry one person each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from dyconv.arrays import save_arrays
from dyconv.faces import load_faces
from dyconv.media.audio import read_audio, read_channels, write_audio
from dyconv.models import registry
from dyconv.models.slots import ActiveSpeaker, Diarization, Diarizer, Vad
from dyconv.records import PERSONS, Clip, Drop, DropReason, Key, Person, Turn
from dyconv.speech.attribute import SPEECH, Attribution, TurnRules, attribute, seconds_spoken
from dyconv.speech.channels import channel_evidence
from dyconv.speech.decode import Decoding, Evidence, TurnModel
from dyconv.speech.enrol import enrolment
from dyconv.speech.heard import own_voice
from dyconv.speech.turns import activity, speaker_changes
from dyconv.speech.voice import voice_features
from dyconv.stages.base import Files, Resources, Stage
from dyconv.stages.people_faces import Face, Faces, Sync
from dyconv.time import FPS, frame_samples

_CANDIDATES = 4  # faces that are decoded at once, by time on screen
_MORE_VOICES = 2  # than candidates: how many further voices a diarizer may hear
_CHANNEL_WEIGHT = 0.4  # of a frame's log odds by channel: microphones do not err for seconds, as a diarizer does
_OWN_VOICE = 0.6  # how much more often a voice is heard while its owner speaks
_LIPS_TELL = 1.5  # log odds by which lips must fit own speech better than the partner's, to prove a second voice


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
    min_agreement: share of a turn in which lips and voice must name the same one, or it is left undecided.
    min_margin: mean log odds by which lips must bear out whose voice is whose, or the segment is left out.
    min_separation: a partner whose lips are never seen speaking must have a voice that differs from the other's by this
        many standard deviations (d' of held-out speech), or there is only one voice.
    max_offset_frames: sound may be this many 25 fps frames early or late against the lips; None takes all.
    min_sync_confidence: how sure it must be that some shift makes sound and lips fit, 0 to 1; None takes all.
    vad, active_speaker, diarizer: names in the model registry; no diarizer where it is empty.
    """

    name: ClassVar[str] = "people"
    version: ClassVar[int] = 3
    needs: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO, Key.MIX, Key.FACES})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.SPEECH, Key.ENROLMENT})
    optional: ClassVar[frozenset[Key]] = frozenset({Key.ENROLMENT})
    resources: ClassVar[Resources] = Resources(cpus=1.0)

    min_seen: int = 2
    min_seen_s: float = 1.0
    min_heard_s: float = 1.0
    min_changes: int = 1
    max_others: float = 0.15
    max_abstain: float = 0.35
    min_confidence: float = 0.8
    min_agreement: float = 0.25
    min_margin: float = 0.5
    min_separation: float = 1.5
    max_offset_frames: float | None = None
    min_sync_confidence: float | None = None
    vad: str = "silero"
    active_speaker: str = "lips_together"
    diarizer: str = "pyannote_ge2e"

    def models(self) -> tuple[str, ...]:
        return tuple(name for name in (self.vad, self.active_speaker, self.diarizer) if name)

    _vad: ClassVar[Vad]  # set on the instance by setup
    _lips: ClassVar[ActiveSpeaker]
    _diarizer: ClassVar[Diarizer | None]

    def setup(self) -> None:
        object.__setattr__(self, "_vad", registry.load(self.vad))
        object.__setattr__(self, "_lips", registry.load(self.active_speaker))
        object.__setattr__(self, "_diarizer", registry.load(self.diarizer) if self.diarizer else None)

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        sound = Key.CLEAN if Key.CLEAN in clip.assets else Key.MIX
        samples = as_long_as(read_audio(files.path(clip, sound)), frame_samples(clip.frames))
        speech = self._vad.speech(samples)
        watched = Faces(self._lips, load_faces(files.path(clip, Key.FACES)), samples, speech)
        video = files.path(clip, Key.VIDEO) if self._lips.thumb_px else None
        faces = watched.find(clip.tracks, video, self.min_seen_s)
        if len(faces) < self.min_seen:
            found = ", ".join(f"{face.identity} for {face.seconds:.1f} s" for face in faces) or "nobody"
            yield Drop(clip, DropReason.FACES_NOT_TWO, f"expected {self.min_seen} people on screen, found {found}")
            return
        if (spoken := float((speech >= SPEECH).sum()) / FPS) < self.min_heard_s:
            yield Drop(clip, DropReason.NOT_DYADIC, f"expected two people heard, found {spoken:.1f} s of speech")
            return
        channels = _channels(clip, files, len(speech))
        heard = self._heard(samples, len(faces)) if channels is None else Diarization(channels, np.zeros((2, 0), np.float32))
        pair, third = self._pair(faces, speech, heard)
        if third:
            yield Drop(clip, DropReason.NOT_DYADIC, third)
            return
        evidence = _evidence(pair, speech, heard, [face for face in faces if face not in pair])
        model = TurnModel() if channels is None else TurnModel(heard_weight=_CHANNEL_WEIGHT)
        features = [voice_features(samples, len(speech)), *([] if heard.vectors is None else [heard.vectors])]
        attribution = attribute(evidence, features, model)
        sync = watched.sync(pair, attribution.decoding.persons + attribution.decoding.other)
        clip = _synced(clip if channels is None else _mapped(clip, attribution), sync)
        yield self._decided(clip, files, pair, evidence, attribution, sync, samples)

    def _heard(self, samples: np.ndarray, faces: int) -> Diarization:
        """Voices by sound alone."""
        frames = len(samples) // frame_samples(1)
        if self._diarizer is None:
            return Diarization(np.zeros((0, frames), np.float32), np.zeros((0, 0), np.float32))
        most = max(2, min(faces, _CANDIDATES)) + _MORE_VOICES
        return self._diarizer.diarize(samples, max_speakers=most)

    def _pair(self, faces: Sequence[Face], speech: np.ndarray, heard: Diarization) -> tuple[list[Face], str | None]:
        """The two that talk, in the order of `faces`, a partner who is only heard standing in for one never seen.

        The text says why it is not two, where a third one talks as well.
        """
        nobody = Face("", (), np.zeros(len(speech), np.float32), np.zeros(len(speech), bool), 0.0)
        if len(faces) < 2:
            return [*faces, *[nobody] * (2 - len(faces))], None
        candidates = list(faces[:_CANDIDATES])
        if len(candidates) == 2:
            return candidates, None
        persons = attribute(_evidence(candidates, speech, heard), (), TurnModel()).decoding.persons
        shown = [row * face.seen for row, face in zip(persons, candidates, strict=True)]
        spoken = [float((row >= self.min_confidence).sum()) / FPS for row in shown]
        ranked = sorted(range(len(candidates)), key=lambda index: (-spoken[index], index))
        beyond = sum(spoken[index] for index in ranked[2:])
        if beyond > self.max_others * sum(spoken):
            said = ", ".join(f"{face.identity} {seconds:.1f} s" for face, seconds in zip(candidates, spoken, strict=True))
            return [], f"expected two people talking, found {said}"
        return [candidates[index] for index in sorted(ranked[:2])], None

    def _decided(
        self,
        clip: Clip,
        files: Files,
        pair: Sequence[Face],
        evidence: Evidence,
        attribution: Attribution,
        sync: Sync | None,
        samples: np.ndarray,
    ) -> Clip | Drop:
        turns = TurnRules(min_confidence=self.min_confidence, min_agreement=self.min_agreement).turns(attribution)
        clip = _measured(replace(clip, turns=tuple(turns)), attribution, evidence)
        late = sync.refusal(self.max_offset_frames, self.min_sync_confidence) if sync else None
        refusal = (
            (late and (DropReason.OUT_OF_SYNC, late))
            or self._undecided(turns, attribution)
            or self._not_two(turns)
            or self._one_voice(evidence, attribution)
        )
        if refusal:
            return Drop(replace(clip, turns=()), *refusal)
        return _kept(clip, files, pair, evidence, attribution, samples)

    def _undecided(self, turns: Sequence[Turn], attribution: Attribution) -> tuple[DropReason, str] | None:
        """Why speech is not that of two people who can be told, or None."""
        others, unsure = seconds_spoken(turns, None), seconds_spoken(turns, None, unsure=True)
        total = max(sum(seconds_spoken(turns, person) for person in PERSONS) + others + unsure, 1e-6)
        if others > self.max_others * total:
            found = f"{others:.1f} of {total:.1f} s of speech by somebody else than the two"
            return DropReason.NOT_DYADIC, f"expected at most {self.max_others:.0%} by others, found {found}"
        if others + unsure > self.max_abstain * total:
            found = f"{others + unsure:.1f} of {total:.1f} s that cannot be given to either"
            return DropReason.ATTRIBUTION_UNSURE, f"expected at most {self.max_abstain:.0%} undecided, found {found}"
        if (margin := attribution.margin()) < self.min_margin:
            found = f"lips say so with log odds of {margin:+.2f}"
            return DropReason.ATTRIBUTION_UNSURE, f"whose voice is whose: expected {self.min_margin:g} or more, {found}"
        if (found_apart := attribution.voices.separation) < 0:
            found = f"they are {found_apart:+.2f} standard deviations apart"
            return DropReason.ATTRIBUTION_UNSURE, f"expected two voices that differ as attributed, {found}"
        return None

    def _not_two(self, turns: Sequence[Turn]) -> tuple[DropReason, str] | None:
        heard = [seconds_spoken(turns, person) for person in PERSONS]
        if min(heard) < self.min_heard_s:
            found = " and ".join(f"{seconds:.1f} s" for seconds in heard)
            return DropReason.NOT_DYADIC, f"one voice heard: expected {self.min_heard_s:g} s of each of two, found {found}"
        if (changes := speaker_changes(turns)) < self.min_changes:
            return DropReason.NOT_DYADIC, f"expected the floor to change {self.min_changes} times, found {changes}"
        return None

    def _one_voice(self, evidence: Evidence, attribution: Attribution) -> tuple[DropReason, str] | None:
        """Two names for one voice? Lips in turn on two faces seen together prove two, and so do two voices of their own.

        Otherwise the voices, as attributed, must differ.
        """
        together = float(evidence.seen.all(axis=0).sum()) / FPS
        if together >= self.min_seen_s and all(self._in_turn(evidence, attribution, person) for person in range(2)):
            return None
        found = attribution.voices.separation
        if found >= self.min_separation or own_voice(attribution.shares, _OWN_VOICE):
            return None
        return (
            DropReason.NOT_DYADIC,
            f"one voice heard: expected two voices {self.min_separation:g} standard deviations apart, found {found:.1f}",
        )

    def _in_turn(self, evidence: Evidence, attribution: Attribution, person: int) -> bool:
        """Whether this person's lips go with the sound clearly better in their own speech than in the partner's.

        A level of its own would not do: faces that hardly move their lips score low throughout.
        """
        speaks = attribution.decoding.speaks
        own = speaks(person) & evidence.seen[person]
        partner = speaks(1 - person) & ~speaks(person) & evidence.seen[person]
        lips, least = evidence.lips[person], self.min_heard_s * FPS
        if own.sum() < least:
            return False
        if partner.sum() < least:  # who speaks all the time, the partner into it, can but fit throughout
            return float(lips[own].mean()) >= _LIPS_TELL
        return float(lips[own].mean() - lips[partner].mean()) >= _LIPS_TELL


def _channels(clip: Clip, files: Files, frames: int) -> np.ndarray | None:
    """When each of the source's two channels speaks, float32 [2, T]; None where they do not carry one person each."""
    if Key.CHANNELS not in clip.assets:
        return None
    found = channel_evidence(read_channels(files.path(clip, Key.CHANNELS)))
    if not found.separate:
        return None
    return np.pad(found.activity[:, :frames], ((0, 0), (0, max(0, frames - found.activity.shape[1]))))


def _mapped(clip: Clip, attribution: Attribution) -> Clip:
    """Says whose each channel is, where each of the two has one."""
    own = own_voice(attribution.shares)
    return clip if own is None else clip.measured(people__channels=f"p0={own[0]},p1={own[1]}")


def as_long_as(samples: np.ndarray, wanted: int) -> np.ndarray:
    """Samples [N] cut, or padded with silence, to `wanted`."""
    return np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))


def _evidence(pair: Sequence[Face], speech: np.ndarray, heard: Diarization, further: Sequence[Face] = ()) -> Evidence:
    """Evidence of the `pair`; `further` faces speak for somebody else."""
    lips = np.stack([face.lips for face in pair])
    others = np.max([np.where(face.seen, face.lips, -np.inf) for face in further], axis=0) if further else -np.inf
    others = np.where(np.isfinite(others), others, 0.0) * np.ones(len(speech))
    seen = np.stack([face.seen for face in pair])
    return Evidence(speech, lips, np.zeros_like(lips), seen, others, heard.activity, heard.overlap)


def _kept(
    clip: Clip, files: Files, pair: Sequence[Face], evidence: Evidence, attribution: Attribution, samples: np.ndarray
) -> Clip:
    decoding = attribution.decoding
    names = {face.identity: person for face, person in zip(pair, PERSONS, strict=True) if face.seen.any()}
    people = tuple(
        Person(person, face.identity if face.seen.any() else None, bool(face.seen.any()), True)
        for face, person in zip(pair, PERSONS, strict=True)
    )
    clip = replace(
        clip,
        people=people,
        tracks=tuple(replace(track, person=names.get(track.identity or track.id)) for track in clip.tracks),
    )
    speech = files.new(clip, Key.SPEECH)
    p0, p1 = decoding.persons
    unsure = undecided(decoding, clip.turns)
    save_arrays(speech, {"vad": evidence.speech.astype(np.float32), "p0": p0, "p1": p1, "unsure": unsure})
    written = [(Key.SPEECH, speech)]
    voices = enrolment(samples, decoding.alone * activity(clip.turns, clip.frames))
    if voices.shape[1]:
        written.append((Key.ENROLMENT, files.new(clip, Key.ENROLMENT)))
        write_audio(written[-1][1], voices)
    return files.add(clip, *written)


def undecided(decoding: Decoding, turns: Sequence[Turn]) -> np.ndarray:
    """SPEECH's `unsure`, float32 [T], see above."""
    unsure = decoding.other.copy()
    for turn in turns:
        if turn.person is None:
            part = slice(turn.span.frames.start, turn.span.frames.stop)
            unsure[part] = 1.0 - decoding.silence[part]
    return unsure.astype(np.float32)


def _synced(clip: Clip, sync: Sync | None) -> Clip:
    if sync is None:
        return clip
    for who, found in (("people", sync), *zip(PERSONS, sync.by_face, strict=False)):
        if found is not None:
            told = {f"{who}__av_offset_frames": round(found.frames, 2), f"{who}__sync_confidence": round(found.confidence, 3)}
            clip = clip.measured(**told)
    return clip


def _measured(clip: Clip, attribution: Attribution, evidence: Evidence) -> Clip:
    """See the module's measures."""
    undecided = seconds_spoken(clip.turns, None) + seconds_spoken(clip.turns, None, unsure=True)
    total = max(undecided + sum(seconds_spoken(clip.turns, person) for person in PERSONS), 1e-6)
    both = activity(clip.turns, clip.frames).all(axis=0).sum() / FPS
    agreed = [(turn.agreement, float(turn.span.duration)) for turn in clip.turns if turn.agreement is not None]
    agreement = round(float(np.average([share for share, _ in agreed], weights=[s for _, s in agreed])), 4) if agreed else None
    return clip.measured(
        people__abstain_share=round(undecided / total, 4),
        people__overlap_share=round(float(both) / total, 4),
        people__voice_separation=round(attribution.voices.separation, 3),
        people__lip_margin=round(attribution.margin(), 3),
        people__agreement=agreement,
        people__voices=None if evidence.heard is None else float(len(evidence.heard)),
    )
