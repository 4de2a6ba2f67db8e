"""Whether to split on a given link, from measured rows."""
