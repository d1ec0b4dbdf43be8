"""Forgetting photos: what the selectors mean, what has to go in every corner of a store, and the look for what is left.

Everything is told by the store's tombstones (`tables.tombstones`), so whatever an erasure that was killed has left, the
next one removes, whoever starts it.
"""
