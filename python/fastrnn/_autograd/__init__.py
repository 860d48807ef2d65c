"""How torch sees a call: eager, compiled, transformed, batched, or counted."""
