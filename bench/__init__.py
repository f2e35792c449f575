"""The protocol: everything that has to be the same for all methods."""
