"""``python -m neuron``."""

from neuron.cli import cli


def main() -> None:
    """Entry point of the console script."""
    cli(prog_name="neuron")


if __name__ == "__main__":
    main()
