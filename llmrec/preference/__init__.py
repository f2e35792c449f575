"""Preference losses, their rows, and TRL's trainer."""
