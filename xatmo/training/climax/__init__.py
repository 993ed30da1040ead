"""Training ClimaX: any variables, any lead time; see ``train/climax``."""
