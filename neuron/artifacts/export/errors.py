"""How an export fails."""


class ExportError(Exception):
    """A checkpoint that cannot become an artifact; the message says why and what to do."""
