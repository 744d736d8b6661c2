"""Graph passes: a model goes in, a new model and an account of the changes come out. No files, no sessions."""
