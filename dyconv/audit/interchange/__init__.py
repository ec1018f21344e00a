"""Turns to and from what other annotation programs read and write: RTTM, ELAN, Label Studio.

Times are milliseconds on the clip's clock and come back as they went out. What comes in is checked: sizes, encodings,
names and times; XML with a document type, and with it any entity, is refused.
"""

from __future__ import annotations

from dyconv.audit.interchange.common import Labels, Name

FORMATS = ("rttm", "eaf", "label-studio")

__all__ = ["FORMATS", "Labels", "Name"]
