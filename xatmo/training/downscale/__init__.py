"""Training of networks that make fields several times finer."""
