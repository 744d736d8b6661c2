"""The trainer of PGC models: the only part that needs torch."""
