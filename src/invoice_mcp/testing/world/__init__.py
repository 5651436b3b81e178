"""The world of a scenario: MCP server, worker, clients, and scripted ports."""
