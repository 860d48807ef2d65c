"""What users hold: modules, and how the modules of a model are exchanged for them."""
