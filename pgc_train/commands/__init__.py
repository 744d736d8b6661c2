"""One file a command of `pgc-train`."""
