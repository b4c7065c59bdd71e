"""How far a run can be believed: held-out folds, confidence, checks."""
