"""Training climate projections from forcings, as on ClimateBench."""
