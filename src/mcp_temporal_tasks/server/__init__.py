"""The server side of MCP tasks."""
