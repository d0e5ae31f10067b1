"""What may be shown of a value: everything but secrets. When in doubt it is hidden."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "<secret, not copied>"

# A key below which nothing is shown. Numbers stay (max_tokens), unless the name leaves no doubt.
_SUSPECT = re.compile(
    r"key|secret|token|passw|pwd|credential|auth|bearer|cookie|webhook|dsn|salt|signature|connection|private|database_url"
    r"|environment_variables|headers",
    re.IGNORECASE,
)
_CERTAIN = re.compile(r"passw|pwd|secret|api_?-?key|master_key|credential|private|salt", re.IGNORECASE)
# Names of secrets are no secrets.
_NAMES = re.compile(r"_(env|file)$", re.IGNORECASE)
_REFERENCE = re.compile(r"\s*(os\.environ/\w+|\$\{env\.\w+\}|\$\w+|\$\{\w+\})\s*")
_LITERAL = re.compile(r"\b(sk|pk|hf|ghp|gho|xox[a-z]|glpat|AKIA|AIza|eyJ)[-_A-Za-z0-9]{6,}[\w.+/=-]*")
_BEARER = re.compile(r"\b(bearer|basic)\s+\S+", re.IGNORECASE)
_USERINFO = re.compile(r"//[^/\s\"'@]*@")
_QUERY = re.compile(r"([?&][\w.-]*(?:key|secret|token|passw|sig|auth)[\w.-]*=)[^&\s\"']+", re.IGNORECASE)
_FLAG = re.compile(
    r"""(--?[\w-]*(?:key|token|secret|passw|auth|credential)[\w-]*(?:\s*=\s*|\s+))("[^"]*"|'[^']*'|[^\s"']+)""",
    re.IGNORECASE,
)
_VARIABLE = re.compile(
    r"""(\b\w*(?:key|token|secret|passw|pwd|auth|credential|dsn)\w*\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s"']+)""",
    re.IGNORECASE,
)


def suspect(key: str) -> bool:
    """Whether text under a key of this name may be a secret."""
    return _SUSPECT.search(key) is not None and not _NAMES.search(key)


def shown(value: Any, key: str = "", hidden: bool = False) -> Any:
    """``value`` with every secret replaced by a hint; ``key`` is what it stands under."""
    certain = _CERTAIN.search(key) is not None
    hidden = hidden or suspect(key)
    if isinstance(value, dict):
        return {k: shown(v, k, hidden) for k, v in value.items()}
    if isinstance(value, list):
        return [shown(v, key, hidden) for v in value]
    if isinstance(value, str):
        if reference(value) is not None:
            return value
        return HIDDEN if hidden else shown_text(value)
    if certain and not isinstance(value, bool) and value is not None:
        return HIDDEN
    return value


def shown_text(text: str) -> str:
    """Text without what looks like a secret in it: passwords in URLs, options and variables, and known prefixes."""
    text = _USERINFO.sub(f"//{HIDDEN}@", text)
    text = _QUERY.sub(rf"\1{HIDDEN}", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    text = _FLAG.sub(_hide, text)
    text = _VARIABLE.sub(_hide, text)
    return _LITERAL.sub(HIDDEN, text)


def _hide(match: re.Match[str]) -> str:
    value = match[2].strip("\"'")
    harmless = HIDDEN.startswith(value) or _REFERENCE.fullmatch(value) or (value.isdigit() and len(value) < 8)
    return match[0] if harmless else match[1] + HIDDEN


def reference(text: str) -> str | None:
    """The environment variable that a value names: ``os.environ/NAME`` or ``${env.NAME}``; else None."""
    found = re.fullmatch(r"\s*(?:os\.environ/(\w+)|\$\{env\.(\w+)\})\s*", text)
    return (found[1] or found[2]) if found else None
