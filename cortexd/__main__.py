"""``python -m cortexd`` and the console script."""

from cortexd.cli import cli


def main() -> None:
    """Run the command line; ends the process with its exit status."""
    cli(prog_name="cortexd")


if __name__ == "__main__":
    main()
