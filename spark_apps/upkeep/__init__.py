"""Keeping a store small and quick: merged files, removed leftovers, short logs."""
