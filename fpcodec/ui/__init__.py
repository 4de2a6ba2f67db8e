"""The live page of ``fpcodec ui``: one picture, three controls, and what they cost and find."""
