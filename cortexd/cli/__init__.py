"""The command line of cortexd: one thin file per command, imported only when it is called.

So ``cortexd --help`` works whatever extras are installed, and a missing one is a sentence instead of a traceback.
"""

from __future__ import annotations

import click

from cortexd import __version__
from cortexd.cli.lazy import Lazy, LazyGroup

COMMANDS = {
    "compile": Lazy("cortexd.cli.compile:compile_command", "Check fleet.toml and models.toml and build a generation."),
    "import": Lazy("cortexd.cli.import_:import_command", "Write both files from another gateway's configuration."),
    "discover": Lazy("cortexd.cli.discover:discover_command", "Ask the neurons what they are, and write fleet.lock."),
    "schema": Lazy("cortexd.cli.schema:schema_command", "Print what editors complete the two files from."),
    "plan": Lazy("cortexd.cli.plan:plan_command", "Show what an apply would change, and what that costs."),
    "apply": Lazy("cortexd.cli.apply:apply_command", "Make a compiled generation live."),
    "rollback": Lazy("cortexd.cli.rollback:rollback_command", "Make an earlier generation live again."),
    "history": Lazy("cortexd.cli.history:history_command", "Show what was applied, when and how it went."),
    "drift": Lazy("cortexd.cli.drift:drift_command", "Name every difference between the fleet and what was applied."),
    "up": Lazy("cortexd.cli.up:up_command", "Run every process of a state directory in the foreground."),
    "gateway": Lazy("cortexd.cli.gateway:gateway_command", "Run the gateway: HTTP for clients."),
    "controller": Lazy("cortexd.cli.controller:controller_command", "Run the controller: polls, loads and unloads."),
    "status": Lazy("cortexd.cli.status:status_command", "Show neurons, devices, residents and requests in flight."),
    "usage": Lazy("cortexd.cli.usage:usage_command", "Show what was served, from the ledger."),
    "fit": Lazy("cortexd.cli.fit:fit_command", "Show what models took, beside what was predicted."),
    "acp": Lazy("cortexd.cli.acp:acp_command", "Answer an editor on stdio (Agent Client Protocol).", "acp"),
    "host": Lazy("cortexd.cli.host:host_command", "One step of an apply on this host; apply calls it over ssh.", ""),
    "model": Lazy("cortexd.cli.model:model_group", "Make artifacts from checkpoints, and bring them here."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cortexd")
def cli() -> None:
    """One endpoint for language models on the GPU hosts you already have.

    The way from two files to an answer: compile, apply, up. Each command has its own --help.
    """
