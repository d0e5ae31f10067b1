"""The ``neuron`` command."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from neuron import __version__


@click.group()
@click.version_option(__version__, prog_name="neuron")
def cli() -> None:
    """Runs models on this host. Usually started by systemd or `cortexd up`, with the file that the compiler wrote."""


@cli.command()
@click.option("--config", type=click.Path(path_type=Path), required=True, help="The neuron.toml to run.")
@click.option("--listen", metavar="HOST:PORT", help="Instead of the file's `listen`.")
def serve(config: Path, listen: str | None) -> None:
    """Serve until SIGTERM or Ctrl-C. Pinned models are loaded at once, the others when they are asked for."""
    try:
        from neuron.http.server import run
        from neuron.settings import SettingsError, load_settings
    except ModuleNotFoundError as e:
        raise click.ClickException(f"running models needs {e.name}; install cortexd[cpu] or cortexd[cuda]") from None
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = load_settings(config)
        run(settings if listen is None else settings.model_copy(update={"listen": listen}))
    except SettingsError as e:
        raise click.ClickException(str(e)) from None


@cli.command()
@click.option("--config", type=click.Path(path_type=Path), required=True, help="The neuron.toml to read.")
def check(config: Path) -> None:
    """Check a neuron.toml and every artifact that it names, without loading anything."""
    from neuron.artifacts.store import ArtifactError, locate, open_artifact
    from neuron.settings import SettingsError, load_settings

    try:
        settings = load_settings(config)
        for model in settings.models:
            folder = locate(model.artifact, settings.base, settings.artifact_store)
            artifact = open_artifact(folder, model.manifest_sha256)
            click.echo(f"{model.id}: {artifact.manifest.architecture}, context {artifact.manifest.context}, ok")
    except (SettingsError, ArtifactError) as e:
        raise click.ClickException(str(e)) from None
