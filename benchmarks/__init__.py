"""Benchmarks: ratios and counts, which say the same on every machine."""
