"""How far to trust a run: held-out validation, confidence, checks."""
