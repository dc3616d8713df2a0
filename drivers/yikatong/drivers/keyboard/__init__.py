"""A computer's keyboard as the place where a PIN is typed, over a socket of its own."""
