"""A user's cell as a program: traced, derived, and lowered to what the engine interprets."""
