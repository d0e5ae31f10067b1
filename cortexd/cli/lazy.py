"""Groups that import a command when it is called, and say in one line what went wrong."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

OURS = ("cortexd", "neuron", "compiler")
# Module -> the extra that brings it; every other one comes with the extra of the command.
EXTRA_OF = {"psycopg": "postgres"}
# Exceptions whose message is meant for users, by qualified name: importing them here would need the extras.
FOR_USERS = frozenset(
    {
        "cortexd.settings.SettingsError",
        "cortexd.controller.run.ControllerError",
        "cortexd.deploy.errors.ApplyError",
        "cortexd.deploy.host.protocol.HostError",
        "cortexd.supervisor.lock.LockedError",
        "cortexd.supervisor.plan.UpError",
    }
)


@dataclass(frozen=True, slots=True)
class Lazy:
    """A command that is not imported yet: ``module:attribute``, its line in the help, and the extra it needs."""

    target: str
    summary: str
    extra: str = "control"


class LazyGroup(click.Group):
    """A group of ``lazy`` commands. Known kinds of errors become one line and exit status 1."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are used."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import it. Raises ClickException naming the extra when one is missing."""
        lazy = self._lazy.get(cmd_name)
        if lazy is None:
            return None
        module, _, attribute = lazy.target.partition(":")
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as e:
            raise _missing(e, f"{ctx.command_path} {cmd_name}", lazy.extra) from e
        if not isinstance(command, click.Command):
            raise TypeError(f"{lazy.target} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in self._lazy.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[click.shell_completion.CompletionItem]:
        """Names of commands, without importing one."""
        names = [name for name in self._lazy if name.startswith(incomplete)]
        items = [click.shell_completion.CompletionItem(name, help=self._lazy[name].summary) for name in names]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what users can cure becomes a line, what they cannot stays a traceback."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as e:  # imported while the command ran
            chosen = ctx.invoked_subcommand or ""
            lazy = self._lazy.get(chosen)
            raise _missing(e, f"{ctx.command_path} {chosen}", lazy.extra if lazy else "control") from e
        except Exception as e:
            line = _for_users(e)
            if line is None:
                raise
            raise click.ClickException(line) from e


def _missing(error: ModuleNotFoundError, command: str, extra: str) -> Exception:
    name = error.name or ""
    top = name.split(".")[0]
    if not top or top in OURS:
        return error  # our own mistake, or a broken installation: the traceback says where
    extra = EXTRA_OF.get(top, extra)
    package = f"cortexd[{extra}]" if extra else "cortexd"
    return click.ClickException(f"`{command}` needs the module {top}: pip install '{package}'")


def _for_users(error: Exception) -> str | None:
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    if kinds & FOR_USERS:
        return str(error)
    if "sqlalchemy.exc.DBAPIError" in kinds:
        text = str(getattr(error, "orig", error)).strip().splitlines()[0]
        hint = (
            "; `cortexd apply` creates and migrates its tables" if "no such" in text or "does not exist" in text else ""
        )
        return f"the database: {text}{hint}"
    if "sqlalchemy.exc.ArgumentError" in kinds or "sqlalchemy.exc.NoSuchModuleError" in kinds:
        return f"the database URL cannot be used: {str(error).splitlines()[0]}"
    return None
