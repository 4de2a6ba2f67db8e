"""Distillation: a lighter network taught by a detector, without labels."""
