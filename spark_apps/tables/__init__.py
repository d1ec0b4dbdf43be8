"""The store's tables: staged files, the commits that publish them, and the log."""
