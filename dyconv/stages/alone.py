"""One person on screen, talking or listening: stands in place of `people` where a source is no conversation.

p0 is the person seen: in each shot whoever is there for longest. Whether two shots show the same one is not asked, since a
descriptor of appearance does not survive a change of camera, and a clip is one shot. p1 is never seen, so that a clip has the
same shape as one of a conversation: `separate` writes p1's voice, silence where p1 is not heard either, and whoever reads
shards needs no case of its own. Where nobody is heard (`Person.heard`; a source without sound, or a voice that is nobody's)
both voices are silence, which says nothing about how p0's lips moved: such clips teach what a face looks like, and nothing
about sound.

Speech is p0's unless lips speak against it, in one of two ways:
- Lips are still while somebody speaks. The hidden Markov model of `people` decodes the face against somebody else, who costs
  `other_cost`; what is somebody else's is a turn of p1 (`partner`: p0 listens), or else of nobody.
- Lips move, and no shift makes sound and lips fit: a dub, or a narrator over somebody talking. One frame does not tell, all
  of the segment does (`min_sync_confidence`); what would be p0's then becomes unsure turns of nobody, and is in no voice.

SPEECH npz is that of `people`. Measures, named as those of `people`:
- `people.abstain_share`: of all speech, that which is nobody's.
- `people.lip_margin`: mean log odds by which lips bear out that p0 says what is p0's; 0 where they tell nothing.
- `people.av_offset_frames`, `people.sync_confidence`: shift of the sound against the lips, and how sure that is.
- `people.others_seen`: share of the segment's frames in which anybody else than p0 is seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from dyconv.arrays import save_arrays
from dyconv.faces import load_faces
from dyconv.media.audio import read_audio
from dyconv.models import registry
from dyconv.models.slots import ActiveSpeaker, Vad
from dyconv.records import PERSONS, Clip, Drop, DropReason, Key, Person, Track, Turn
from dyconv.speech.attribute import Attribution, TurnRules, attribute, seconds_spoken
from dyconv.speech.decode import Decoding, Evidence, TurnModel
from dyconv.speech.turns import activity
from dyconv.stages.base import Files, Resources, Stage
from dyconv.stages.people import as_long_as, undecided
from dyconv.stages.people_faces import Face, Faces, Sync
from dyconv.time import frame_samples


@dataclass(frozen=True)
class Alone(Stage):
    """Attributes:
    max_others_seen: share of the segment's frames in which anybody else may be on screen.
    min_heard_s: seconds of own speech the person must have; 0 takes listeners, and sources without sound.
    partner: whoever speaks while the person's lips are still is p1, heard and never seen; otherwise nobody.
    max_abstain: share of all speech that may be nobody's; 1 takes all.
    min_confidence: probability below which a stretch of speech is left undecided.
    other_cost: log odds by which lips must speak against the person before a voice is taken for somebody else's.
    max_offset_frames: sound may be this many 25 fps frames early or late against the lips; None takes all.
    min_sync_confidence: how sure it must be that some shift makes the person's speech and lips fit, 0 to 1, or it is nobody's;
        None believes all. (With another's sound under 24 clips of people talking, 0.3 found 18; of the 24 as they were, 1.)
    vad, active_speaker: names in the model registry; with no active speaker (empty) all speech is the person's.
    """

    name: ClassVar[str] = "alone"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO, Key.MIX, Key.FACES})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.SPEECH})
    resources: ClassVar[Resources] = Resources(cpus=1.0)

    max_others_seen: float = 0.05
    min_heard_s: float = 1.0
    partner: bool = False
    max_abstain: float = 1.0
    min_confidence: float = 0.8
    other_cost: float = 1.0
    max_offset_frames: float | None = None
    min_sync_confidence: float | None = None
    vad: str = "silero"
    active_speaker: str = "lips_together"

    _vad: ClassVar[Vad]  # set on the instance by setup
    _lips: ClassVar[ActiveSpeaker | None]

    def models(self) -> tuple[str, ...]:
        return tuple(name for name in (self.vad, self.active_speaker) if name)

    def setup(self) -> None:
        object.__setattr__(self, "_vad", registry.load(self.vad))
        object.__setattr__(self, "_lips", registry.load(self.active_speaker) if self.active_speaker else None)

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        sound = Key.CLEAN if Key.CLEAN in clip.assets else Key.MIX
        samples = as_long_as(read_audio(files.path(clip, sound)), frame_samples(clip.frames))
        speech = self._vad.speech(samples)
        watched = Faces(self._lips or _Blind(), load_faces(files.path(clip, Key.FACES)), samples, speech)
        looks = self._lips is not None and self._lips.thumb_px
        tracks = longest_seen(clip.tracks)
        faces = watched.find(tracks, files.path(clip, Key.VIDEO) if looks else None, 0.0)
        face = next((face for face in faces if face.identity == PERSONS[0]), None)
        if face is None:
            yield Drop(clip, DropReason.NO_FACE, "expected one person on screen, found nobody")
            return
        others = [other for other in faces if other is not face]
        beside = float(np.any([other.seen for other in others], axis=0).mean()) if others else 0.0
        clip = clip.measured(people__others_seen=round(beside, 4))
        if beside > self.max_others_seen:
            found = ", ".join(f"{other.identity} for {other.seconds:.1f} s" for other in others)
            yield Drop(clip, DropReason.FACES_NOT_TWO, f"expected one person on screen, found others beside: {found}")
            return
        attribution = attribute(_evidence(face, speech), (), TurnModel(other_cost=self.other_cost))
        sync = watched.sync([face], attribution.decoding.persons)
        yield self._decided(clip, files, face, speech, attribution, sync)

    def _decided(
        self, clip: Clip, files: Files, face: Face, speech: np.ndarray, attribution: Attribution, sync: Sync | None
    ) -> Clip | Drop:
        turns = tuple(self._turns(attribution, sync))
        own, partner = (seconds_spoken(turns, person) for person in PERSONS)
        nobodys = seconds_spoken(turns, None) + seconds_spoken(turns, None, unsure=True)
        clip = clip.measured(
            people__abstain_share=round(nobodys / max(own + partner + nobodys, 1e-6), 4),
            people__lip_margin=round(attribution.margin(), 3),
            people__av_offset_frames=None if sync is None else round(sync.frames, 2),
            people__sync_confidence=None if sync is None else round(sync.confidence, 3),
        )
        if refusal := self._refusal(own, partner, nobodys, sync):
            return Drop(clip, *refusal)
        path = files.new(clip, Key.SPEECH)
        save_arrays(path, {"vad": speech.astype(np.float32), **_chances(attribution.decoding, turns)})
        seen = {track.id for track in face.tracks}
        whom = max((track for track in clip.tracks if track.id in seen), key=_frames)
        return files.add(
            replace(
                clip,
                turns=turns,
                people=(
                    Person(PERSONS[0], whom.identity or whom.id, True, own > 0),
                    Person(PERSONS[1], None, False, partner > 0),
                ),
                tracks=tuple(replace(track, person=PERSONS[0] if track.id in seen else None) for track in clip.tracks),
            ),
            (Key.SPEECH, path),
        )

    def _turns(self, attribution: Attribution, sync: Sync | None) -> Iterator[Turn]:
        """Turns of p0, of p1 where there is a partner, and of nobody."""
        put_over = sync is not None and sync.refusal(None, self.min_sync_confidence) is not None
        for turn in TurnRules(min_confidence=self.min_confidence).turns(attribution):
            if turn.person is not None and put_over:
                yield replace(turn, person=None, unsure=True)
            elif turn.person is None and not turn.unsure and self.partner:
                yield replace(turn, person=PERSONS[1])
            else:
                yield turn

    def _refusal(self, own: float, partner: float, nobodys: float, sync: Sync | None) -> tuple[DropReason, str] | None:
        if sync and (late := sync.refusal(self.max_offset_frames, None)):
            return DropReason.OUT_OF_SYNC, late
        total = own + partner + nobodys
        if nobodys > self.max_abstain * total:
            found = f"found {nobodys:.1f} of {total:.1f} s"
            return DropReason.ATTRIBUTION_UNSURE, f"lips against the voice: expected at most {self.max_abstain:.0%}, {found}"
        if own < self.min_heard_s:
            found = f"found {own:.1f} s of {total:.1f} s of speech"
            return DropReason.NOT_DYADIC, f"expected {self.min_heard_s:g} s said by the person on screen, {found}"
        return None


class _Blind:
    """Stands for no active speaker model: lips tell nothing."""

    thumb_px = 0

    def thumb(self, image: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        return np.zeros((0, 0), np.uint8)

    def score(self, track: object, samples: np.ndarray, speech: np.ndarray) -> np.ndarray:
        return np.zeros(len(speech), np.float32)

    def offset(self, track: object, samples: np.ndarray, speech: np.ndarray) -> None:
        return None


def _chances(decoding: Decoding, turns: Sequence[Turn]) -> dict[str, np.ndarray]:
    """SPEECH's `p0`, `p1` and `unsure`, float32 [T]."""
    own, partner = activity(turns, len(decoding.other)) > 0
    unsure = np.where(partner, 0.0, undecided(decoding, turns))
    p0 = decoding.persons[0] if own.any() else np.zeros(len(own))
    p1 = np.where(partner, decoding.other, 0.0)
    return {name: values.astype(np.float32) for name, values in (("p0", p0), ("p1", p1), ("unsure", unsure))}


def longest_seen(tracks: Sequence[Track]) -> list[Track]:
    """The tracks, with `p0` as the identity of whoever is seen for longest in each shot (the first of equals)."""
    by_shot: dict[int, dict[str, float]] = {}
    for track in tracks:
        seen = by_shot.setdefault(track.shot, {})
        who = track.identity or track.id
        seen[who] = seen.get(who, 0.0) + _frames(track)
    most = {shot: max(seen, key=lambda who: seen[who]) for shot, seen in by_shot.items()}
    return [
        replace(track, identity=PERSONS[0]) if (track.identity or track.id) == most[track.shot] else track for track in tracks
    ]


def _frames(track: Track) -> float:
    """In how many frames the face is found."""
    return track.coverage * (track.end - track.start)


def _evidence(face: Face, speech: np.ndarray) -> Evidence:
    lips = face.lips[None]
    return Evidence(speech, lips, np.zeros_like(lips), face.seen[None], np.zeros(len(speech)))
