"""MCP over stdio and HTTP: what the SDK leaves to its user."""
