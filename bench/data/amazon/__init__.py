"""Amazon reviews from the files as published to windows."""
