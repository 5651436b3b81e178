"""What an invoice is, and the rules about it: pure, and free of Temporal and MCP."""
