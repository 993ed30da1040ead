"""Training of the network that fills gaps."""
