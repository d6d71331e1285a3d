"""When requests may claim their pages: how many at once, and which first."""
