"""Move a factor on a tensor into the constants around it: towards its producer or into all of its readers."""
