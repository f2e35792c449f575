"""Ways to start cells."""
