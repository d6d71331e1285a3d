"""What stands on loopback: a Valkey or what looks like one, its line, AWS, a site."""
