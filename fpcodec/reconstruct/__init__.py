"""Recovery of levels that were not sent."""
