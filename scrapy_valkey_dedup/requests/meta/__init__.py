"""What requests carry in their ``meta``: the user's options, and this package's marks."""
