"""Edge graphs of lower precision: fp16 and INT8."""

PRECISIONS = ("fp16", "int8")

DEFAULT_ERROR = 0.01
"""Of INT8: largest mean squared error of a level that is allowed, by the level's variance."""
