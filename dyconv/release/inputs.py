"""What a person gives to a release: checked, with errors that say what is wrong."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path
from typing import Any

from dyconv.bounds import parse_json
from dyconv.errors import UsageError
from dyconv.release.model import Kind


def read_kind(text: str) -> Kind:
    """Raises UsageError for anything but a kind of release."""
    try:
        return Kind(text)
    except ValueError:
        raise UsageError(f"expected --kind {' or '.join(Kind)}, found {text[:40]!r}") from None


def check_date(text: str | None) -> str | None:
    """Raises UsageError for anything but a day such as 2026-11-21."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise UsageError(f"expected --date as 2026-11-21, found {text[:40]!r}") from None


def read_splits(path: Path) -> dict[str, str]:
    """The split of each source, of a CSV with the columns `source` and `split`.

    Raises:
        UsageError: if it is not that, or names a source twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="a CSV with the columns source,split") from error
    out: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        source, split = (row.get("source") or "").strip(), (row.get("split") or "").strip()
        if not source or not split.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"{path}, line {number}: expected a source and a split, found {dict(row)!r:.120}")
        if out.setdefault(source, split) != split:
            raise UsageError(f"{path}, line {number}: source {source} is in {out[source]} and in {split}")
    if not out:
        raise UsageError(f"{path} names no split", hint="a CSV with the columns source,split and a row for each source")
    return out


def read_rates(path: Path) -> dict[str, Any]:
    """Error rates of an audit, as its report writes them (`dyconv.audit.rates.ErrorRates.to_json`, alone or as `rates`).

    Raises:
        UsageError: if it is something else.
    """
    try:
        data = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}") from error
    rates = data.get("rates", data) if isinstance(data, dict) else None
    kinds = rates.get("kinds") if isinstance(rates, dict) else None
    if not isinstance(kinds, list) or not isinstance(rates, dict):
        raise UsageError(f"{path} holds no error rates", hint="give the JSON of an audit's report (`dyconv audit` tells how)")
    for number, row in enumerate(kinds, 1):
        known = isinstance(row, dict) and isinstance(row.get("kind"), str) and isinstance(row.get("reviewed"), int)
        if not known or not all(isinstance(row.get(name), (int, float, type(None))) for name in ("rate", "low", "high")):
            raise UsageError(f"{path}, kind {number}: expected kind, reviewed, rate, low and high, found {row!r:.120}")
    return rates
