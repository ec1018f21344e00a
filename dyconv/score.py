"""A build against known truth: what `dyconv score` reports, and how each number is taken from the build's records.

Truth and records share the media's presentation clock: a record's `span.start` plus its own clock. Which of p0 and p1 is
which person of the truth is decided in each segment by the faces (a person is who they look like: a voice given to the
wrong face is an error, even if it is so throughout), and by speech alone where faces decide nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np

from dyconv.errors import StoreError, UsageError
from dyconv.faces import load_faces
from dyconv.ledger import SourceLog, State, read_ledger
from dyconv.media.audio import read_audio
from dyconv.media.video import frame_size
from dyconv.records import PERSONS, Clip, Drop, Key
from dyconv.run_file import read_run
from dyconv.score_metrics import (
    Seen,
    Speech,
    cut_scores,
    face_scores,
    identity_map,
    match,
    overlap_s,
    speaker_scores,
    unattributed_share,
)
from dyconv.score_voices import Voice, places, swaps, voice_scores
from dyconv.speech.turns import activity
from dyconv.stages.scenes import TRANSITIONS
from dyconv.store import Store
from dyconv.time import FPS, Span, frame_at, sample_at, seconds
from dyconv.truth import Truth
from dyconv.work import read_clip, read_done, work_folder

OFF_SCREEN = "(off screen)"
LIPS_OFFSET = "people.av_offset_frames"
NO_CUTS = {"cut_precision": None, "cut_recall": None, "cut_error_s_p95": None}


def score(store: Store, truth: Truth, folder: Path, source: str | None = None) -> dict[str, Any]:
    """Every measure of `dyconv score`; None where the truth has no such part.

    Args:
        store: the build.
        truth: what the media holds.
        folder: where truth's files lie.
        source: id of the source whose media it is; found by the media's file name, or because there is only one.

    Raises:
        UsageError: if the source cannot be told, or a voice of the truth is not there.
    """
    build = Build(store, truth, _source_log(store, truth, source))
    return {
        **(cut_scores(truth.cuts, build.cuts()) if truth.cuts is not None else NO_CUTS),
        **build.faces(),
        **build.speakers(),
        **build.voices(folder),
        "av_offset_s": build.av_offset_s(),
        "av_offset_frames": build.av_offset_frames(),
        "kept_hours": round(float(sum((clip.span.duration for clip in build.kept), Fraction(0)) / 3600), 6),
        "dropped": build.dropped(),
    }


def _source_log(store: Store, truth: Truth, source: str | None) -> SourceLog:
    logs = read_ledger(store)
    if not logs:
        raise UsageError(f"{store} is no output folder of a run: it has no ledger", hint="give the --out of `dyconv run`")
    if source is not None:
        if source not in logs:
            raise UsageError(f"{store} has no source {source!r}", hint=f"it has: {', '.join(sorted(logs)[:8])}")
        return logs[source]
    if len(logs) == 1:
        return next(iter(logs.values()))
    wanted = Path(truth.media).name
    named = [log for log in logs.values() if wanted in (_media_name(store, log), log.id) or log.id == Path(wanted).stem]
    if len(named) != 1:
        raise UsageError(
            f"{store} has {len(logs)} sources, and {len(named)} of them come from a file called {wanted}",
            hint="say which with --source ID",
        )
    return named[0]


def _media_name(store: Store, log: SourceLog) -> str | None:
    clip = next(iter(outcomes(store, log, "download")), None)
    if clip is None:
        return None
    url = (clip.clip if isinstance(clip, Drop) else clip).source.url
    return Path(unquote(urlparse(url).path)).name


def outcomes(store: Store, log: SourceLog, stage: str) -> Iterator[Clip | Drop]:
    """What a stage made of a source's clips, by the clips' start."""
    found: list[Clip | Drop] = []
    for fp in {event.fp for event in log.events if event.stage == stage and event.fp}:
        done = read_done(store, work_folder(stage, fp))
        found += list(done[0]) if done else []
    return iter(sorted(found, key=lambda outcome: (_clip(outcome).span, _clip(outcome).id)))


def _clip(outcome: Clip | Drop) -> Clip:
    return outcome.clip if isinstance(outcome, Drop) else outcome


@dataclass(frozen=True)
class Build:
    """One source of a build, and its truth."""

    store: Store
    truth: Truth
    log: SourceLog

    def passed(self, stage: str) -> list[Clip]:
        return [outcome for outcome in outcomes(self.store, self.log, stage) if isinstance(outcome, Clip)]

    @cached_property
    def kept(self) -> list[Clip]:
        return [read_clip(self.store, event) for event in self.log.kept()]

    def dropped(self) -> dict[str, int]:
        """Clips by the reason they went, failures by the name of their error."""
        final = [event for event in self.log.items().values() if event is not None and event.state is not State.KEPT]
        return dict(sorted(Counter(event.reason or str(event.state) for event in final).items()))

    def cuts(self) -> list[float]:
        """Hard cuts: shot boundaries with no gradual transition on either side, as they are in what was written."""
        written = {clip.id: clip for clip in self.passed("normalize")}
        found: list[float] = []
        before: Clip | None = None
        for outcome in outcomes(self.store, self.log, "scenes"):
            scenes = _clip(outcome)
            if not scenes.shots:  # the whole source was dropped
                continue
            clip = written.get(scenes.id, scenes)
            marked = {int(index) for index in str(clip.measures.get(TRANSITIONS) or "").split(",") if index}
            if before is not None and 0 not in marked and not _ends_in_transition(before) and not self._forced(before, scenes):
                found.append(float(clip.span.start))
            for index in range(1, len(clip.shots)):
                if not {index - 1, index} & marked:
                    found.append(float(clip.span.start + clip.shots[index].start))
            before = scenes
        return found

    def _forced(self, before: Clip, after: Clip) -> bool:
        """Whether two segments are equal parts of one shot that was longer than a segment may be."""
        stages = (read_run(self.store) or {}).get("stages", ())
        longest = next((stage["config"].get("max_segment_s") for stage in stages if stage["name"] == "scenes"), None)
        first, second = before.shots[-1].duration, after.shots[0].duration
        return longest is not None and first == second and 2 * first > seconds(longest)

    @cached_property
    def _media(self) -> Path | None:
        """The source's file as it was downloaded."""
        found = [clip.assets[Key.MEDIA] for clip in self.passed("download") if Key.MEDIA in clip.assets]
        return self.store.local(found[0].path) if found else None

    @cached_property
    def pixel_scale(self) -> float | None:
        """Pixels of VIDEO for one display pixel of the source; None where no picture was written."""
        from dyconv.media.picture import display_size
        from dyconv.media.source import probe

        clips = self.passed("normalize") or self.passed("tracks")
        if not clips:
            return None
        width = frame_size(self.store.local(clips[0].assets[Key.VIDEO].path))[0]
        video = probe(self._media).video if self._media else None
        return width / display_size(video)[0] if video else 1.0

    @cached_property
    def _seen(self) -> dict[str | None, list[Seen]]:
        """Every truth box by segment id; those of no segment with faces under None."""
        segments = [clip for clip in self.passed("tracks") if Key.FACES in clip.assets]
        groups: dict[str | None, list[Seen]] = {None: []}
        shown = {clip.id: self._shown(clip) for clip in segments}
        scale = self.pixel_scale or 1.0
        for face in self.truth.faces:
            for time, *corners in face.boxes:
                box = (corners[0] * scale, corners[1] * scale, corners[2] * scale, corners[3] * scale)
                now = seconds(time)
                segment = next((clip for clip in segments if clip.span.start <= now < clip.span.end), None)
                tracks = shown[segment.id].get(frame_at(now - segment.span.start), {}) if segment else {}
                groups.setdefault(segment.id if segment else None, []).append(Seen(face.person, time, box, tracks))
        return groups

    def _shown(self, clip: Clip) -> dict[int, dict[str, Sequence[float]]]:
        """Box of each identity by frame."""
        arrays = load_faces(self.store.local(clip.assets[Key.FACES].path))
        shown: dict[int, dict[str, Sequence[float]]] = {}
        for track in clip.tracks:
            for frame, box in zip(arrays[track.id].frames, arrays[track.id].boxes, strict=True):
                shown.setdefault(int(frame), {})[track.identity or track.id] = [float(value) for value in box]
        return shown

    def faces(self) -> dict[str, Any]:
        return face_scores(list(self._seen.values()))

    def _people(self, clip: Clip) -> dict[str, str]:
        """p0 and p1 of a segment to people of the truth: by face, else by speech."""
        by_face = identity_map(self._seen.get(clip.id, []))
        out = {person.id: by_face[person.identity] for person in clip.people if person.identity in by_face}
        left = [person for person in PERSONS if person not in out]
        people = [person for person in self.truth.people if person not in out.values()]
        own = {person: [turn for turn in self._turns(clip, {}) if turn.label == person] for person in left}
        true = [[turn for turn in self._spoken if turn.label == person] for person in people]
        common = np.array([[overlap_s(own[person], turns) for turns in true] for person in left])
        return out | {left[row]: people[column] for row, column in match(common)}

    @cached_property
    def _spoken(self) -> list[Speech]:
        people = set(self.truth.people)
        return [Speech(turn.person if turn.person in people else OFF_SCREEN, turn.start, turn.end) for turn in self.truth.turns]

    def _turns(self, clip: Clip, names: dict[str, str]) -> list[Speech]:
        """Attributed turns of a segment on the source's clock."""
        out = []
        for turn in clip.turns:
            if turn.unsure:
                continue
            label = OFF_SCREEN if turn.person is None else names.get(turn.person, turn.person)
            span = turn.span.shift(clip.span.start)
            out.append(Speech(label, float(span.start), float(span.end)))
        return out

    def speakers(self) -> dict[str, Any]:
        """Rates over the segments in which turns were attributed; unattributed speech over all that is known."""
        if not self.truth.turns:
            return {"der": None, "speaker_confusion": None, "abstain_rate": None}
        segments = self.passed("people")
        found = [turn for clip in segments for turn in self._turns(clip, self._people(clip))]
        parts = [clip.span for clip in segments]
        if self.truth.known is not None:
            known = [Span.of(*span) for span in self.truth.known]
            parts = [part for whole in parts for span in known if (part := whole.intersect(span))]
        spans = [(float(part.start), float(part.end)) for part in parts]
        return {**speaker_scores(self._spoken, found, spans), "abstain_rate": unattributed_share(self._spoken, found)}

    def voices(self, folder: Path) -> dict[str, float | int | None]:
        """Measures on the voices of all clips that have them (see `score_voices`)."""
        clips = self.passed("separate")
        names = {clip.id: self._people(clip) for clip in self.passed("people")}
        known = bool(self.truth.voices)
        parts: list[Voice] = []
        swapped: list[int] = []
        for clip in clips:
            own = names.get(clip.parent or "", {})
            parts += self._clip_voices(clip, own, folder)
            if set(own) == set(PERSONS):
                swapped.append(swaps(self._places(clip, own, folder)))
        told = bool(self.truth.turns) and bool(swapped)
        return {**voice_scores(parts, known=known), "speaker_swaps": sum(swapped) if told else None}

    def _clip_voices(self, clip: Clip, names: dict[str, str], folder: Path) -> Iterator[Voice]:
        """Each voice of a clip beside the truth of the same stretch."""
        mix = read_audio(self.store.local(clip.assets[Key.MIX].path))
        known = self.truth.voices
        for person in PERSONS:
            true_person = names.get(person)
            if true_person is None or (known and true_person not in known) or Key.of(person, "voice") not in clip.assets:
                continue
            partners = [other for other in self.truth.people if other != true_person]
            partner = sum((self._true_voice(other, clip, folder) for other in partners), np.zeros(len(mix), np.float32))
            yield Voice(
                person=true_person,
                true=self._true_voice(true_person, clip, folder),
                estimate=read_audio(self.store.local(clip.assets[Key.of(person, "voice")].path)),
                mix=mix,
                partner=partner if known else mix,
                partner_only=(self._heard(partners, clip) & ~self._heard(None, clip, but=partners)).astype(float),
                both=(self._heard(partners, clip) & self._heard([true_person], clip)).astype(float),
            )

    def _places(self, clip: Clip, names: dict[str, str], folder: Path) -> np.ndarray:
        """Signed seconds of evidence that p0 and p1 of a clip are who they should be, in order of time.

        By the voices where the truth has them, else by the turns where one of the two speaks alone.
        """
        people = [names[person] for person in PERSONS]
        if set(people) <= set(self.truth.voices) and Key.P0_VOICE in clip.assets:
            estimates = [read_audio(self.store.local(clip.assets[Key.of(person, "voice")].path)) for person in PERSONS]
            return places(estimates, [self._true_voice(person, clip, folder) for person in people])
        given = activity(clip.turns, clip.frames) > 0
        spoken = np.array([self._heard([person], clip) for person in people])
        alone = (spoken.sum(axis=0) == 1) & (given.sum(axis=0) == 1)
        return np.where((given == spoken).all(axis=0), 1.0, -1.0)[alone] / FPS

    def _true_voice(self, person: str, clip: Clip, folder: Path) -> np.ndarray:
        """The truth's voice float32 [frames * 640] over a clip; its first sample is the media's start."""
        length = sample_at(clip.span.duration)
        if person not in self.truth.voices:
            return np.zeros(length, np.float32)
        path = folder / self.truth.voices[person]
        if not path.is_file():
            raise UsageError(f"the truth names {path}, which is not there")
        whole = self.passed("download")
        begin = sample_at(clip.span.start - (whole[0].span.start if whole else 0))
        try:
            samples = read_audio(path)
        except StoreError as error:
            raise UsageError(error.message, hint="voices of a truth are mono 16 kHz") from error
        out = np.zeros(length, np.float32)
        part = samples[max(begin, 0) : begin + length]
        out[max(-begin, 0) : max(-begin, 0) + len(part)] = part
        return out

    def _heard(self, people: Sequence[str] | None, clip: Clip, but: Sequence[str] = ()) -> np.ndarray:
        """Bool [frames] of a clip: where the truth has a turn of one of these people (None: of anybody `but` those)."""
        middles = float(clip.span.start) + (np.arange(clip.frames) + 0.5) / FPS
        heard = np.zeros(clip.frames, bool)
        for turn in self._spoken:
            if turn.label not in but and (people is None or turn.label in people):
                heard |= (middles >= turn.start) & (middles < turn.end)
        return heard

    def av_offset_frames(self) -> float | None:
        """Sound against lips in 25 fps frames, the source's own offset included, as `people` measured it; the largest.

        Segments that `people` dropped count too: being shifted may be why.
        """
        measured = [_clip(outcome).measures.get(LIPS_OFFSET) for outcome in outcomes(self.store, self.log, "people")]
        found = [value for value in measured if isinstance(value, float)]
        return max(found, key=abs) if found else None

    def av_offset_s(self) -> float | None:
        """The largest offset of a kept clip, measured here; of what was written where nothing was kept, as recorded."""
        from dyconv.score_sync import SyncMeter

        media = self._media
        meter = SyncMeter(media, self.kept[0].source.language) if media and self.kept else None
        found: list[float] = []
        for clip in self.kept or self.passed("normalize"):
            recorded = clip.measures.get("av_offset_s")
            measured = None
            if meter and {Key.VIDEO, Key.MIX} <= clip.assets.keys():
                video, mix = (self.store.local(clip.assets[key].path) for key in (Key.VIDEO, Key.MIX))
                measured = meter.offset_s(clip, video, mix)
            if measured is None and isinstance(recorded, float):
                measured = recorded
            found += [] if measured is None else [measured]
        return max(found, key=abs) if found else None


def _ends_in_transition(clip: Clip) -> bool:
    marked = {int(index) for index in str(clip.measures.get(TRANSITIONS) or "").split(",") if index}
    return len(clip.shots) - 1 in marked
