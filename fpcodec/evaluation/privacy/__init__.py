"""What a frame reveals: an attack that turns received pyramids into pictures, and its measure."""
