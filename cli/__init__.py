"""The `pgc-graph` command line: parse, call one library function, present."""
