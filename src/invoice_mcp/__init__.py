"""invoice-mcp: long-running, human-approved invoice tools for MCP hosts, kept by Temporal."""

from importlib.metadata import version

__version__ = version("invoice-mcp")
