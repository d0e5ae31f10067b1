"""Why an apply did not happen, or did not last."""

from __future__ import annotations


class ApplyError(Exception):
    """For people: says what is wrong and what to do. Unless it says otherwise, the live state is what it was."""


class NotReady(ApplyError):
    """The new generation was live and did not become ready; the message says where things stand now."""
