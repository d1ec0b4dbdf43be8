"""Duplicates: which published files show the same picture. Candidates by vector, confirmed by a perceptual hash."""
