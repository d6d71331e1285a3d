"""One run and the ledger: its claims, settlements, spool, heartbeat and outages."""
