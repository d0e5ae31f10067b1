"""``cortexd model pull``: artifacts from elsewhere into the store."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cortexd.cli.options import state_dir_option, user_option

if TYPE_CHECKING:
    from cortexd.pull.pull import Pulled, Puller


@click.command("pull")
@click.argument("source")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8", "int4"]),
    help="As the model in models.toml says. A checkpoint is exported in it.  [default: fp32]",
)
@click.option(
    "--models-lock",
    "lock",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("models.lock"),
    show_default=True,
    help="The lock file, beside models.toml.",
)
@user_option
@state_dir_option
@click.option("--update", is_flag=True, help="Take what the source is now, whatever the lock file names.")
@click.option("--json", "as_json", is_flag=True, help="Tell the result as JSON, on standard output.")
def pull_command(source: str, precision: str | None, lock: Path, state_dir: Path, update: bool, as_json: bool) -> None:
    """Bring the artifact of SOURCE into the store of this host.

    SOURCE is hf:ORG/NAME@REVISION, http(s)://HOST/FOLDER or path:DIR. What is there already is not fetched again, and a
    transfer that broke off goes on where it stopped. The lock file gets its SHA-256, so that `cortexd compile` needs no
    network.
    """
    from pydantic_core import PydanticCustomError

    from compiler.schema.models import check_source
    from cortexd.artifacts.fetch import Progress
    from cortexd.artifacts.store import Store
    from cortexd.pull.pull import Puller, PullError

    try:
        check_source(source)
    except PydanticCustomError as e:
        raise click.BadParameter(e.message(), param_hint="SOURCE") from None
    puller = Puller(
        store=Store(state_dir / "artifacts"),
        lock=lock,
        export=_export,
        update=update,
        progress=Progress(),
        stopped=threading.Event(),
        report=lambda step: click.echo(f"{step} …", err=True),
    )
    try:
        pulled = _watched(puller, source, precision)
    except PullError as e:
        raise click.ClickException(str(e)) from None
    _tell(source, pulled, lock, as_json)


def _tell(source: str, pulled: Pulled, lock: Path, as_json: bool) -> None:
    if as_json:
        answer = {
            "source": source,
            "precision": (pulled.locked.precision or None) if pulled.locked else None,
            "manifest_sha256": pulled.folder.name,
            "folder": str(pulled.folder),
            "lock": str(lock) if pulled.locked else None,
        }
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        noted = f"; {lock} names it" if pulled.locked else ""
        click.echo(f"{source} is in {pulled.folder}{noted}")


def _watched(puller: Puller, source: str, precision: str | None) -> Pulled:
    """Pull in a thread, with a bar where somebody looks. Ctrl-C ends it and keeps what came."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    results: list[Pulled] = []
    problems: list[Exception] = []

    def work() -> None:
        try:
            results.append(puller.pull(source, precision))
        except Exception as e:  # noqa: BLE001  (it belongs to the thread that waits)
            problems.append(e)

    thread = threading.Thread(target=work, name="pull", daemon=True)
    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("", total=None, visible=False)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.1)
                progress = puller.progress
                if progress.bytes_total:
                    bars.update(task, total=progress.bytes_total, completed=progress.bytes_done, visible=True)
        except KeyboardInterrupt:
            puller.stopped.set()
            thread.join(5)
            raise click.ClickException("stopped; the same command goes on where this one was") from None
    if problems:
        raise problems[0]
    return results[0]


def _export(checkpoint: Path, out: Path, precision: str) -> None:
    from cortexd.pull.pull import PullError

    try:
        from neuron.artifacts.export.cli import check_extra
        from neuron.artifacts.export.errors import ExportError
        from neuron.artifacts.export.pipeline import export

        check_extra()
    except ModuleNotFoundError as e:
        raise PullError(
            f"this is a checkpoint, and exporting it needs {e.name}; install it with: pip install 'cortexd[export]'"
        ) from None
    try:
        export(checkpoint, out, precision=precision, report=lambda step: click.echo(f"{step} …", err=True))
    except ExportError as e:
        raise PullError(str(e)) from None
