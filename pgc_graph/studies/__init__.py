"""Models and images go in, numbers come out; nothing is drawn."""
