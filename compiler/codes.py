"""The stable codes of diagnostics, by phase. ``docs/reference/diagnostics.md`` explains each; a test compares both."""

from __future__ import annotations

# parse
CANNOT_READ = "CX101"
SYNTAX = "CX102"

# validate
UNKNOWN_KEY = "CX201"
MISSING_KEY = "CX202"
WRONG_TYPE = "CX203"
WRONG_VALUE = "CX204"
NOT_YET = "CX205"
CONTRADICTION = "CX206"
SECRET_IN_FILE = "CX207"  # noqa: S105 (a code, not a secret)

# resolve
DUPLICATE = "CX301"
UNKNOWN_REFERENCE = "CX302"
ALIAS_HIDES_MODEL = "CX303"
ADDRESS_TWICE = "CX304"
NO_KEYS = "CX305"
FALLBACK_CIRCLE = "CX306"
NO_ARTIFACT = "CX310"
BAD_MANIFEST = "CX311"
FILE_MISSING = "CX312"
FILE_CHANGED = "CX313"
WRONG_TASK = "CX314"
CONTEXT_TOO_LONG = "CX315"
WRONG_PRECISION = "CX316"
OUT_OF_REACH = "CX317"

# place
NO_DEVICE = "CX401"
TOO_LARGE = "CX402"
PINNED_TOO_LARGE = "CX403"
NO_ROOM_BESIDE_PINNED = "CX404"
SEARCH_GAVE_UP = "CX405"
TOO_FEW_NEURONS = "CX406"
MORE_THAN_REAL = "CX407"
NOT_DISCOVERED = "CX408"
OTHER_KIND = "CX409"

CODES: dict[str, str] = {
    CANNOT_READ: "a file cannot be read",
    SYNTAX: "a file is not TOML",
    UNKNOWN_KEY: "a key that does not exist",
    MISSING_KEY: "a required key is missing",
    WRONG_TYPE: "a value has the wrong type",
    WRONG_VALUE: "a value has the right type, but is out of range or in the wrong form",
    NOT_YET: "a feature that this version does not have yet",
    CONTRADICTION: "two values contradict each other",
    SECRET_IN_FILE: "a secret in a file",
    DUPLICATE: "a name is declared twice",
    UNKNOWN_REFERENCE: "a name refers to nothing",
    ALIAS_HIDES_MODEL: "an alias has the id of a model",
    ADDRESS_TWICE: "two listeners on one address",
    NO_KEYS: "keys are required, and none is declared",
    FALLBACK_CIRCLE: "models fall back to each other in a circle",
    NO_ARTIFACT: "an artifact does not exist",
    BAD_MANIFEST: "an artifact's manifest.json cannot be used",
    FILE_MISSING: "a file of an artifact is missing",
    FILE_CHANGED: "a file of an artifact is not what its manifest says",
    WRONG_TASK: "an artifact is for another task",
    CONTEXT_TOO_LONG: "a context is longer than the artifact's",
    WRONG_PRECISION: "an artifact has another precision",
    OUT_OF_REACH: "neurons on other hosts cannot fetch their artifacts",
    NO_DEVICE: "no device may run a model",
    TOO_LARGE: "a model fits on no device",
    PINNED_TOO_LARGE: "the pinned models do not fit together",
    NO_ROOM_BESIDE_PINNED: "the pinned models leave no room for a model",
    SEARCH_GAVE_UP: "no arrangement was found, and not all were tried",
    TOO_FEW_NEURONS: "more replicas than neurons that hold one",
    MORE_THAN_REAL: "more memory is declared than there is",
    NOT_DISCOVERED: "a device was never discovered",
    OTHER_KIND: "a device is of another kind than declared",
}
