"""The one door to the server: connections, topologies, credentials, errors that are our own."""
