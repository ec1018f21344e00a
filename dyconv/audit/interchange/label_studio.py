"""Label Studio: tasks as JSON, one a clip, with turns as regions of its audio, and accept or reject as choices.

Out go tasks to import, with today's turns as predictions, and the labelling interface (`label_config.xml`) that belongs to
them; no verdict is among the predictions, since nobody has judged yet. In comes the project's JSON export. Every annotation
that was not cancelled is one review; a task without any is passed over, unless only predictions are there at all (a file
that went out and comes straight back).
Format: https://labelstud.io/guide/tasks and https://labelstud.io/guide/export
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dyconv.audit.checks import HEX_SHA, DecisionError, Fault, clip_id, matching, strict_json, text, time_text, turns, wrong
from dyconv.audit.interchange.common import InterchangeError, Labels, Name, in_ms, name_of, read_bytes, speaker, turn_from
from dyconv.store import write_atomic

SUFFIX = ".json"
CONFIG_FILE = "label_config.xml"
CONFIG = """<View>
  <Header value="$clip"/>
  <Audio name="audio" value="$audio" zoom="true"/>
  <Labels name="turns" toName="audio">
    <Label value="p0" background="#0072B2"/>
    <Label value="p1" background="#D55E00"/>
    <Label value="nobody" background="#777777"/>
    <Label value="unsure" background="#BBBBBB"/>
  </Labels>
  <Choices name="verdict" toName="audio" choice="single">
    <Choice value="accept"/>
    <Choice value="reject"/>
  </Choices>
  <Choices name="reason" toName="audio" choice="single" visibleWhen="choice-selected" whenTagName="verdict"
           whenChoiceValue="reject">
REASONS
  </Choices>
</View>
""".replace("REASONS", "\n".join(f'    <Choice value="{fault}"/>' for fault in Fault))
_MOST_TASKS = 200_000


def write(labels: Iterable[Labels], path: Path, *, audio: Mapping[str, str] | None = None) -> Path:
    """Write tasks, and the labelling interface beside them; the same labels give the same bytes.

    Args:
        audio: address of each clip's sound as Label Studio will reach it, by clip; else the file's name is put there.
    """
    tasks = [_task(label, (audio or {}).get(label.clip, f"{label.clip}.mix.flac")) for label in labels]
    write_atomic(path, (json.dumps(tasks, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode())
    write_atomic(path.with_name(CONFIG_FILE), CONFIG.encode())
    return path


def _task(labels: Labels, audio: str) -> dict[str, Any]:
    result: list[dict[str, Any]] = []
    for number, turn in enumerate(labels.turns or ()):
        value = {"start": turn["start_s"], "end": turn["end_s"], "channel": 0, "labels": [str(name_of(turn))]}
        result.append({"id": f"t{number}", "from_name": "turns", "to_name": "audio", "type": "labels", "value": value})
    data = {"clip": labels.clip, "base": labels.base, "audio": audio}
    return {"data": data, "predictions": [{"model_version": "dyconv", "result": result}]}


def read(path: Path, names: Mapping[str, str] | None = None) -> list[Labels]:
    """Read an export, by clip and time of review.

    Args:
        names: what labels stand for, where they are not p0, p1, nobody or unsure.

    Raises:
        InterchangeError: if it is no such export; names the task and field.
    """
    tasks = strict_json(read_bytes(path).removeprefix(b"\xef\xbb\xbf"), str(path))
    if not isinstance(tasks, list) or len(tasks) > _MOST_TASKS:
        raise InterchangeError(
            f"{path}: expected a list of tasks, found {str(tasks)[:60]!r}", hint="export the project as JSON"
        )
    untouched = not any(isinstance(task, dict) and task.get("annotations") for task in tasks)
    found: list[Labels] = []
    try:
        for number, task in enumerate(tasks):
            found += _reviews(task, f"{path}, task {number}", names or {}, untouched)
    except InterchangeError:
        raise
    except DecisionError as error:
        raise InterchangeError(error.message, hint=error.hint) from error
    return sorted(found, key=lambda label: (label.clip, label.time or ""))


def _reviews(task: Any, at: str, names: Mapping[str, str], untouched: bool) -> list[Labels]:
    data = _object(_object(task, at).get("data"), f"{at}, data")
    clip = clip_id(data.get("clip"), f"{at}, data.clip")
    base = None if data.get("base") is None else matching(data["base"], f"{at}, data.base", HEX_SHA, "a sha256 in hex")
    found = []
    for field in ("predictions",) if untouched else ("annotations",):
        for number, item in enumerate(_list(task.get(field, []), f"{at}, {field}")):
            place = f"{at}, {field}[{number}]"
            if not _object(item, place).get("was_cancelled"):
                found.append(_review(item, place, clip, base, names))
    return found


def _review(item: Mapping[str, Any], at: str, clip: str, base: str | None, names: Mapping[str, str]) -> Labels:
    spoken: list[dict[str, Any]] = []
    choices: dict[str, str] = {}
    for number, region in enumerate(_list(item.get("result"), f"{at}.result")):
        place = f"{at}.result[{number}]"
        kind, value = _object(region, place).get("type"), _object(region.get("value"), f"{place}.value")
        if kind == "labels":
            spoken.append(_turn(value, place, names))
        elif kind == "choices" and region.get("from_name") in ("verdict", "reason"):
            choices[region["from_name"]] = _only(value.get("choices"), f"{place}.value.choices")
    verdict, reason = choices.get("verdict"), choices.get("reason")
    if verdict not in (None, "accept", "reject"):
        raise wrong(f"{at}, verdict", "accept or reject", verdict)
    if verdict == "reject" and reason not in set(Fault):
        raise wrong(f"{at}, reason", f"one of {', '.join(Fault)}", reason)
    checked = tuple(turns(spoken, at))
    return Labels(clip, checked, base, verdict, reason if verdict == "reject" else None, _who(item, at), _when(item, at))


def _turn(value: Mapping[str, Any], at: str, names: Mapping[str, str]) -> dict[str, Any]:
    times = []
    for edge in ("start", "end"):
        time = value.get(edge)
        if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time < 1e7:
            raise wrong(f"{at}.value.{edge}", "seconds from 0 on", time)
        times.append(in_ms(time))
    name: Name = speaker(_only(value.get("labels"), f"{at}.value.labels"), at, names)
    return turn_from(name, times[0], times[1])


def _who(item: Mapping[str, Any], at: str) -> str | None:
    """Who made an annotation: their address, or "Label Studio user 7"."""
    who = item.get("completed_by")
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    if who is None or isinstance(who, bool):
        return None
    return text(who if isinstance(who, str) else f"Label Studio user {who}", f"{at}.completed_by", 80)


def _when(item: Mapping[str, Any], at: str) -> str | None:
    told = item.get("updated_at") or item.get("created_at")
    if told is None:
        return None
    try:
        moment = datetime.fromisoformat(told)
    except (TypeError, ValueError) as error:
        raise wrong(f"{at}.updated_at", "an ISO time", told) from error
    return time_text(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _only(value: Any, at: str) -> str:
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], str):
        raise wrong(at, "a list of one name", value)
    return value[0]


def _object(value: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong(at, "an object", value)
    return value


def _list(value: Any, at: str) -> list[Any]:
    if not isinstance(value, list):
        raise wrong(at, "a list", value)
    return value
