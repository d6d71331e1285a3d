"""From an item to its key: which values identify a post, and how they are encoded."""
