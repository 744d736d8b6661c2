"""Questions about a model; no answer edits it."""
