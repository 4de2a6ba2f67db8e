"""Codecs: one byte format a file, and what they share."""
