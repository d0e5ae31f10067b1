"""``cortexd model``: making artifacts, which needs the extra ``export``, and bringing them here."""

from __future__ import annotations

import click

from cortexd.cli.lazy import Lazy, LazyGroup

COMMANDS = {
    "pull": Lazy("cortexd.cli.pull:pull_command", "Bring an artifact from the hub or a web server into the store."),
    "export": Lazy("neuron.artifacts.export.cli:export", "Export a checkpoint into an artifact.", extra="export"),
}


@click.group("model", cls=LazyGroup, lazy=COMMANDS)
def model_group() -> None:
    """Make artifacts from checkpoints, and bring them here."""
