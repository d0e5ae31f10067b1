"""What happens on one host. Standard library only: a neuron's host needs no agent but this package, no SQLAlchemy."""
