"""A drawn hand, from bones to pixels: numpy and Pillow only, no torch."""
