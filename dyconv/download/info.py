"""What is kept of a host's description: what a reader of the dataset needs, and nothing that differs from day to day."""

from __future__ import annotations

import math
from typing import Any

# No counts, no dates of fetching, no addresses of media files: those are signed and expire.
_KEPT = ("id", "title", "uploader", "uploader_id", "channel", "channel_id", "language", "duration", "upload_date", "tags")
_FORMAT = ("format_id", "ext", "vcodec", "acodec", "width", "height", "fps", "language", "language_preference")


def describe(info: dict[str, Any]) -> dict[str, Any]:
    """JSON-ready facts from yt-dlp's info of a finished download. Absent ones are left out."""
    extractor = str(info.get("extractor_key") or "").lower()
    kept = {name: _plain(info[name]) for name in _KEPT if info.get(name) not in (None, "", [])}
    if extractor == "generic":
        kept = {name: kept[name] for name in ("title",) if name in kept}  # the rest is made up from the address
    elif info.get("webpage_url"):
        kept["webpage_url"] = str(info["webpage_url"])
    if info.get("license"):
        kept["licence_stated"] = str(info["license"])
    given = info.get("requested_formats")
    chosen = [form for form in given if isinstance(form, dict)] if isinstance(given, list | tuple) else []
    formats = [{name: _plain(form[name]) for name in _FORMAT if form.get(name) is not None} for form in chosen or [info]]
    return {"extractor": extractor, **kept, "formats": formats}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    known = isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))
    return value if known else str(value)
