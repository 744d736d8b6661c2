"""Run models: sessions, parity, timing."""
