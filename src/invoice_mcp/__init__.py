"""invoice-mcp: long-running, human-approved invoice payments as MCP tools, on Temporal."""

from importlib.metadata import version

__version__ = version("invoice-mcp")
