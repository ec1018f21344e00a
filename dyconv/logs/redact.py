"""Secrets never reach a log: they are taken out of every text before a handler writes it."""

from __future__ import annotations

import os
import re

HIDDEN = "***"

# A parameter of a URL, a header, an assignment or a JSON member that is called like one of these holds a secret.
_NAMES = (
    r"(?:[\w.-]*(?:token|secret|passw(?:or)?d|passwd|credential|signature|api[_-]?key|access[_-]?key(?:[_-]?id)?|private[_-]?key)"
    r"|auth|authorization|pwd|sig|lsig|key|se?ssion(?:id)?|policy|key-pair-id|x-goog-[\w-]+|x-amz-[\w-]+|cookie|hdnea|hdnts)"
)
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # user:password@ and token@ in a URL
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)[^/\s\"'<>?#]*@"), rf"\1{HIDDEN}@"),
    # Authorization: Bearer x, Cookie: a=b; c=d
    (re.compile(r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)([\"']?\s*[:=]\s*[\"']?)[^\r\n\"']+"), rf"\1\2{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/._~-]{8,}=*"), rf"\1 {HIDDEN}"),
    # ?token=x&..., password=x, "api_key": "x"
    (re.compile(rf"(?i)([?&;]{_NAMES})=[^&\s\"'<>#;]*"), rf"\1={HIDDEN}"),
    (
        re.compile(
            r"(?i)((?<![\w?&;-])[\w.-]*(?:token|secret|passw(?:or)?d|passwd|pwd|credential|api[_-]?key|access[_-]?key(?:[_-]?id)?)"
            r"[\"']?\s*[:=]\s*[\"']?)(?!\*\*\*)[^\s\"',;&)}\]]+"
        ),
        rf"\1{HIDDEN}",
    ),
    # by their look: Hugging Face, GitHub, AWS, Google, Slack, OpenAI-like keys, JSON web tokens
    (re.compile(r"\b(?:hf_|gh[pousr]_|github_pat_|xox[abprs]-|sk-)[A-Za-z0-9_-]{10,}"), HIDDEN),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), HIDDEN),
    (re.compile(r"\bAIza[A-Za-z0-9_-]{30,}"), HIDDEN),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"), HIDDEN),
)
_SECRET_VARIABLE = re.compile(r"(?i)(token|secret|passw|credential|api_?key|access_?key|private_?key)")
_SHORTEST = 8  # a shorter value would be found in ordinary words


def redact(text: str, values: tuple[str, ...] = ()) -> str:
    """The text with every secret replaced by `***`.

    Args:
        values: secrets known as such, see `secret_values`.
    """
    for value in values:
        text = text.replace(value, HIDDEN)
    for pattern, instead in _RULES:
        text = pattern.sub(instead, text)
    return text


def secret_values() -> tuple[str, ...]:
    """Values of environment variables that are called like secrets, the longest first."""
    found = {value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name) and len(value) >= _SHORTEST}
    # The path of a token is none, and is wanted in an error about it.
    return tuple(sorted((value for value in found if not value.startswith("/")), key=len, reverse=True))
