"""Looks at an output folder from outside: what is made, what is open, what is left unfinished."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

import fsspec

from dyconv.ledger import read_ledger
from dyconv.store import SCRATCH, Store

_NOTES = {"done.json": ("seconds",), "failed.json": ("seconds", "run", "traceback", "attempts")}  # differ between runs


def made(out: str | Path) -> dict[str, str]:
    """sha256 of every file of work/ and shards/, by path; times and names of runs count for nothing."""
    found = {}
    for path, data in _files(str(out), ("work", "shards")):
        name = path.rpartition("/")[2]
        if name in _NOTES:
            note = {key: value for key, value in json.loads(data).items() if key not in _NOTES[name]}
            data = json.dumps(note, sort_keys=True).encode()
        if name != "attempt.json":
            found[path] = hashlib.sha256(data).hexdigest()
    return found


def _files(out: str, folders: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Every file below these folders, read afresh, whatever the kind of storage."""
    fs, root = fsspec.url_to_fs(out, use_listings_cache=False)
    for folder in folders:
        for path in sorted(fs.find(f"{root}/{folder}") if fs.exists(f"{root}/{folder}") else ()):
            yield path.removeprefix(f"{root}/"), fs.cat_file(path)


def difference(found: dict[str, str], wanted: dict[str, str]) -> str:
    """In words, what is different."""
    lacking, more = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    other = sorted(name for name in found.keys() & wanted.keys() if found[name] != wanted[name])
    return f"{len(lacking)} lacking {lacking[:4]}, {len(more)} too many {more[:4]}, {len(other)} differ {other[:4]}"


def open_items(out: str | Path, sources: Iterable[str]) -> list[str]:
    """Sources and clips without a named end."""
    logs = read_ledger(Store(out))
    found = [f"{name}: not in the ledger" for name in sources if name not in logs]
    for name, log in logs.items():
        found += [f"{name}: {item} has no end" for (item, _), event in log.items().items() if event is None]
    return found


def ends(out: str | Path) -> dict[str, tuple[str, str | None, str | None]]:
    """Of each item that came to its end: state, reason and stage."""
    logs = read_ledger(Store(out))
    return {
        item: (str(event.state), event.reason, event.stage)
        for log in logs.values()
        for (item, _), event in log.items().items()
        if event is not None
    }


def unfinished(out: str | Path, tmp: Path) -> list[str]:
    """What is left in scratch folders, and under temporary names in the output folder."""
    found = list(tmp.glob(f"dyconv-{socket.gethostname()}-*"))
    if "://" not in str(out):
        found += [*(Path(out) / SCRATCH).glob("*"), *Path(out).rglob("*.tmp")]
    return sorted(str(path) for path in found)
