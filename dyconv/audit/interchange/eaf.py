"""ELAN's .eaf: one XML file a clip, one tier a speaker, times in milliseconds.

The clip's id and the record the turns were made on are properties in the header, which ELAN keeps. Tiers by other names
than p0, p1, nobody and unsure are passed over unless told who they are, since people keep notes in them.
Format: https://www.mpi.nl/tools/elan/EAF_Annotation_Format_3.0_and_ELAN.pdf
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.parsers import expat

from dyconv.audit.checks import HEX_SHA, clip_id, matching, turns
from dyconv.audit.interchange.common import InterchangeError, Labels, Name, in_ms, name_of, read_bytes, turn_from
from dyconv.store import write_atomic

SUFFIX = ".eaf"
_CLIP, _BASE = "dyconv.clip", "dyconv.base"
_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_DEEPEST = 32


def write(labels: Labels, path: Path, *, media: Mapping[str, Path] | None = None) -> Path:
    """Write the turns of one clip; the same labels give the same bytes.

    Args:
        media: files for ELAN to open, by MIME type (`video/mp4`, `audio/x-wav`).
    """
    schema = {"xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance", "xsi:noNamespaceSchemaLocation": _SCHEMA}
    about = {"AUTHOR": "dyconv", "DATE": "1970-01-01T00:00:00Z", "FORMAT": "3.0", "VERSION": "3.0"}  # the same every time
    root = ET.Element("ANNOTATION_DOCUMENT", {**about, **schema})
    header = ET.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    for kind, file in sorted((media or {}).items()):
        ET.SubElement(header, "MEDIA_DESCRIPTOR", {"MEDIA_URL": file.absolute().as_uri(), "MIME_TYPE": kind})
    for name, value in ((_CLIP, labels.clip), (_BASE, labels.base)):
        if value is not None:
            ET.SubElement(header, "PROPERTY", {"NAME": name}).text = value
    slots = ET.SubElement(root, "TIME_ORDER")
    found = list(labels.turns or ())
    edges = sorted((in_ms(turn[edge]), number, edge) for number, turn in enumerate(found) for edge in ("start_s", "end_s"))
    names = {(number, edge): f"ts{place}" for place, (_, number, edge) in enumerate(edges, 1)}
    for time, number, edge in edges:
        ET.SubElement(slots, "TIME_SLOT", {"TIME_SLOT_ID": names[number, edge], "TIME_VALUE": str(time)})
    for name in Name:
        tier = ET.SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": "turn", "PARTICIPANT": str(name), "TIER_ID": str(name)})
        for number, turn in enumerate(found):
            if name_of(turn) is name:
                refs = {"TIME_SLOT_REF1": names[number, "start_s"], "TIME_SLOT_REF2": names[number, "end_s"]}
                holder = ET.SubElement(tier, "ANNOTATION")
                inside = ET.SubElement(holder, "ALIGNABLE_ANNOTATION", {"ANNOTATION_ID": f"a{number + 1}", **refs})
                ET.SubElement(inside, "ANNOTATION_VALUE").text = str(name)
    turn_type = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "turn", "TIME_ALIGNABLE": "true"}
    ET.SubElement(root, "LINGUISTIC_TYPE", turn_type)
    ET.indent(root, " ")
    write_atomic(path, ET.tostring(root, encoding="UTF-8", xml_declaration=True) + b"\n")
    return path


def read(path: Path, names: Mapping[str, str] | None = None) -> Labels:
    """Read the turns of a file. Without our property in its header, the file's name says which clip it is.

    Args:
        names: what tiers stand for, where they are not called p0, p1, nobody or unsure.

    Raises:
        InterchangeError: if it is no such file, has entities, a time that is not known, or no tier that is ours.
    """
    root = parse(read_bytes(path), str(path))
    if root.tag != "ANNOTATION_DOCUMENT":
        raise InterchangeError(
            f"{path}: expected an ANNOTATION_DOCUMENT, found {root.tag[:40]!r}", hint="is it an .eaf of ELAN?"
        )
    header = root.find("HEADER")
    units = "milliseconds" if header is None else header.get("TIME_UNITS", "milliseconds")
    if units != "milliseconds":
        raise InterchangeError(f"{path}: expected times in milliseconds, found {units[:40]!r}")
    told = {item.get("NAME"): (item.text or "").strip() for item in root.iterfind("HEADER/PROPERTY")}
    clip = clip_id(told.get(_CLIP) or path.stem, f"{path}, clip")
    base = matching(told[_BASE], f"{path}, base", HEX_SHA, "a sha256 in hex") if told.get(_BASE) else None
    times = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iterfind("TIME_ORDER/TIME_SLOT")}
    found: list[dict[str, Any]] = []
    ours = 0
    for tier in root.iterfind("TIER"):
        label = tier.get("TIER_ID", "")
        who = (names or {}).get(label, label)
        if who not in set(Name):
            continue
        ours += 1
        found += [_turn(Name(who), item, times, f"{path}, tier {label}") for item in tier.iterfind("ANNOTATION/*")]
    if not ours:
        tiers = ", ".join(repr(tier.get("TIER_ID", "")[:40]) for tier in root.iterfind("TIER")) or "none"
        raise InterchangeError(f"{path}: no tier is p0 or p1 (tiers: {tiers})", hint="say who is who: --speaker TIER=p0")
    return Labels(clip, tuple(turns(found, str(path))), base)


def _turn(name: Name, item: ET.Element, times: Mapping[str | None, str | None], at: str) -> dict[str, Any]:
    at = f"{at}, annotation {item.get('ANNOTATION_ID', '?')[:40]}"
    edges = [times.get(item.get(ref)) for ref in ("TIME_SLOT_REF1", "TIME_SLOT_REF2")]
    if item.tag != "ALIGNABLE_ANNOTATION" or None in edges:
        raise InterchangeError(
            f"{at}: it has no time of its own", hint="align it in ELAN, or move it to a tier of another name"
        )
    if not all(str(edge).isascii() and str(edge).isdigit() and len(str(edge)) < 12 for edge in edges):
        raise InterchangeError(f"{at}: expected times in milliseconds, found {str(edges)[:60]}")
    return turn_from(name, int(str(edges[0])), int(str(edges[1])))


def parse(data: bytes, at: str) -> ET.Element:
    """XML without a document type (so without entities), and not deeper than ELAN's.

    Raises:
        InterchangeError: if it is not, saying in which line.
    """
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate()
    depth = 0

    def refuse(*_: Any) -> Any:
        raise InterchangeError(f"{at}: XML with a document type or entities is not read", hint="ELAN writes none")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise InterchangeError(f"{at}: XML deeper than {_DEEPEST} elements", hint="is it an .eaf of ELAN?")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.ExternalEntityRefHandler = refuse
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise InterchangeError(f"{at} is not readable as XML: {error}", hint="save it again as UTF-8") from error
