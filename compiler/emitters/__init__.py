"""What a generation is written as: ``database`` (fleet.db) and ``files`` (what each host needs)."""
