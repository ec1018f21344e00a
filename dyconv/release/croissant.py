"""Croissant metadata (MLCommons Croissant 1.0/1.1): the tables as record sets, the shards as a file set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dyconv.release.model import CROISSANT, TABLES
from dyconv.release.tables import CLIP_SCHEMA_ABOUT, SCHEMAS
from dyconv.shards.index import FOLDER
from dyconv.store import sha256_of, write_atomic

_CONFORMS = "http://mlcommons.org/croissant/1.0"
_TYPES = {"string": "sc:Text", "double": "sc:Float", "int64": "sc:Integer", "bool": "sc:Boolean"}


def write_croissant(staging: Path, about: Mapping[str, Any], tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write `croissant.json` for the tables and shards of a staging folder."""
    data = {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": _CONFORMS,
        "name": _name(about["name"]),
        "description": f"Clips of two-person conversations with turns, separate voices and motion latents ({about['kind']}).",
        "version": about["version"],
        "license": _licences(tables["sources"]),
        **({"datePublished": about["date"]} if about["date"] else {}),
        "distribution": [_table_file(staging, name) for name in sorted(tables)] + [_shard_files(staging)],
        "recordSet": [_record_set(staging, name) for name in sorted(tables)],
    }
    write_atomic(staging / CROISSANT, json.dumps(data, indent=2, ensure_ascii=False).encode() + b"\n")


def _context() -> dict[str, Any]:
    """The context that the specification prescribes, as mlcroissant writes it."""
    import mlcroissant

    return dict(mlcroissant.Metadata(name="any", url="https://example.org").to_json()["@context"])


def _name(name: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_ ." else "_" for sign in name)[:255]


def _licences(sources: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({str(row["licence"]) for row in sources})


def _table_file(staging: Path, name: str) -> dict[str, Any]:
    path = f"{TABLES}/{name}.parquet"
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": f"{name}.parquet",
        "contentUrl": path,
        "contentSize": f"{(staging / path).stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": sha256_of(staging / path),
    }


def _shard_files(staging: Path) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": FOLDER,
        "name": FOLDER,
        "description": "WebDataset tars; shards/index.json names each with its sha256 and number of samples",
        "encodingFormat": "application/x-tar",
        "includes": f"{FOLDER}/*.tar",
    }


def _record_set(staging: Path, name: str) -> dict[str, Any]:
    import pyarrow.parquet as pq

    schema = pq.read_schema(staging / TABLES / f"{name}.parquet")
    told = {column: about for column, (_, about) in SCHEMAS.get(name, {}).items()} or CLIP_SCHEMA_ABOUT
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column.name}",
                "name": column.name,
                "description": told.get(column.name, column.name.replace("_", " ")),
                "dataType": _TYPES[str(column.type)],
                "source": {"fileObject": {"@id": f"{TABLES}/{name}.parquet"}, "extract": {"column": column.name}},
            }
            for column in schema
        ],
    }
