"""``cortexd model``: what makes artifacts. It needs the extra ``export``, and no other command does."""

from __future__ import annotations

import click

from cortexd.cli.lazy import Lazy, LazyGroup

COMMANDS = {
    "export": Lazy("neuron.artifacts.export.cli:export", "Export a checkpoint into an artifact.", extra="export"),
}


@click.group("model", cls=LazyGroup, lazy=COMMANDS)
def model_group() -> None:
    """Make artifacts from checkpoints."""
