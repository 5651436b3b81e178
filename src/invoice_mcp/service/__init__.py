"""Operations on invoices, independent of MCP: submit, report, decide, cancel, list."""
