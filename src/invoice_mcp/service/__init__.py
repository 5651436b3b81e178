"""What can be done to invoices, free of MCP: submit, ask, decide, cancel, list."""
