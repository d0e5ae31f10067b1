"""Why an apply did not happen."""

from __future__ import annotations


class ApplyError(Exception):
    """For people: says what is wrong and what to do. The live state is what it was."""
