"""The launcher of the one-file executable, with small trees in place of the program."""
