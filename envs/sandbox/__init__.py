"""Runs untrusted code: fork-server, isolation layers, limits, interpreters."""
