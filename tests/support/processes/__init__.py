"""How tests start processes, and commands in them."""
