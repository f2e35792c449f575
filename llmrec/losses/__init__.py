"""Training losses, one a file."""
