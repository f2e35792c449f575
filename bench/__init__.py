"""The protocol: whatever has to be the same for every method."""
