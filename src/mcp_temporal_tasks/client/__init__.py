"""The client side of MCP tasks."""
