"""Feeds, which are those of everbeat."""

from everbeat._everbeat import Subscription

__all__ = ["Subscription"]
