"""Why a detector says what it says: heat maps of single detections, and what they are worth."""
