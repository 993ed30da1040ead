"""The parts of an evaluation: what is drawn, which distances, which tables."""
