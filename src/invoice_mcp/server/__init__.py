"""The MCP server: six tools, forms, and the task of an invoice."""
