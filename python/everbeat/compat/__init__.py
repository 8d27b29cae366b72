"""Timers with the names and manners of other packages, for code that was written for them.

Each module holds the translation and nothing else: the timers are those of everbeat.
"""
