"""annotations/schema.json says what the program takes, neither more nor less."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dyconv.audit import checks
from dyconv.audit.decisions import Decision, DecisionError, Fault, Kind
from tests.test_audit_decisions import CLIP, at, turn

jsonschema = pytest.importorskip("jsonschema")
FOLDER = Path(__file__).parent.parent / "annotations"
SCHEMA = json.loads((FOLDER / "schema.json").read_text())
GOOD = [
    at(CLIP, 0, "accept", note="fine"),
    at(CLIP, 1, "reject", reason="bleed"),
    at(CLIP, 2, "swap", what="voices"),
    at(CLIP, 3, "turns", turns=[turn("p0", 0, 1.5), {**turn(None, 2, 3), "unsure": True}]),
    at(CLIP, 4, "mark", what="cut", person=None, at_s=1.25),
    at(CLIP, 5, "takedown", why="she asked"),
    at(CLIP, 6, "undo", decision="0" * 32),
]


def valid(data: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(data))


@pytest.mark.parametrize("decision", GOOD, ids=lambda decision: str(decision.kind))
def test_what_the_program_writes_is_valid(decision: Decision) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(decision.to_json(), SCHEMA)


CHANGES = [("round", 3), ("id", "x"), ("base", ""), ("clip", "../x"), ("reviewer", ""), ("time", "now"), ("kind", "like")]


@pytest.mark.parametrize("decision", GOOD, ids=lambda decision: str(decision.kind))
@pytest.mark.parametrize(("field", "value"), [*CHANGES, ("data", {"x": 1}), ("data", []), ("extra", 1)])
def test_what_the_program_refuses_is_not(decision: Decision, field: str, value: Any) -> None:
    data = {**decision.to_json(), field: value}
    assert not valid(data)
    with pytest.raises(DecisionError):
        Decision.from_json(data)


def test_names_in_the_schema_and_the_text_are_the_programs() -> None:
    text = (FOLDER / "README.md").read_text()
    assert SCHEMA["properties"]["kind"]["enum"] == list(Kind)
    assert SCHEMA["$defs"]["fault"]["enum"] == list(Fault)
    assert SCHEMA["properties"]["reviewer"]["maxLength"] == checks.LONGEST_NAME
    for name in (*Kind, *Fault, *SCHEMA["properties"]):
        assert f"`{name}`" in text
