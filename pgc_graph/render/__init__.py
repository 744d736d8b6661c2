"""Numbers become pixels; nothing is computed here that a study should know."""
