"""Training of Multiformers: boxes of several fields of which a part is hidden."""
