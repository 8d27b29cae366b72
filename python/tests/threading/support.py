"""What the tests of `everbeat.threading` share."""

LONG = 20.0
"""Longer than anything here takes, on a machine that does much else."""
