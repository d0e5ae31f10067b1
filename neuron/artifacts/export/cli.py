"""``cortexd model export``. Imports nothing heavy until the command runs."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("export")
@click.argument("source")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new folder that the artifact becomes.")
@click.option("--task", type=click.Choice(["chat", "embed"]), help="Default: what the architecture is for.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8", "int4"]),
    default="fp32",
    show_default=True,
    help="Of the weights. This version exports fp32 and refuses the others.",
)
def export(source: str, out: Path, task: str | None, precision: str) -> None:
    """Make an artifact of SOURCE: a checkpoint folder, or a hub id such as Qwen/Qwen3-0.6B.

    The graph is compared with eager transformers, and nothing is published when it differs.
    """
    try:
        check_extra()
    except ModuleNotFoundError as e:
        raise click.ClickException(
            f"exporting needs {e.name}; install it with: pip install 'cortexd[export]'"
        ) from None
    from neuron.artifacts.export import pipeline
    from neuron.artifacts.export.errors import ExportError

    place: str | Path = Path(source) if Path(source).exists() else source
    try:
        manifest = pipeline.export(
            place,
            out,
            task=task,  # type: ignore[arg-type]  # click has checked the choice
            precision=precision,
            report=lambda step: click.echo(f"{step} …", err=True),
        )
    except ExportError as e:
        raise click.ClickException(str(e)) from None
    except OSError as e:
        raise click.ClickException(f"{e.filename or out}: {e.strerror or e}") from None
    size = sum(entry.bytes for entry in manifest.files.values())
    click.echo(
        f"{out}: {manifest.architecture}, {manifest.task}, {size / 1e6:.1f} MB, context {manifest.context}, "
        f"differs from transformers by at most {manifest.export['max_abs_difference']}"
    )


def check_extra() -> None:
    """So that a missing module is named before any work begins. Raises ModuleNotFoundError."""
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import optimum.exporters.onnx  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401
