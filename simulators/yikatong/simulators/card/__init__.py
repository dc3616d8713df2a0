"""A social security card at APDU level, made from the facts and never from the driver that reads it."""
