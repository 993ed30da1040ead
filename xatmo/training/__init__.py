"""Training, evaluation and release of models. Needs ``pip install "xatmo[train]"``.

Nothing in the package imports this but the command line.
"""
