"""Invoices and the rules about them. Pure: no Temporal, no MCP, no I/O."""
