"""Runs `invoice-mcp` as `python -m invoice_mcp`."""

from invoice_mcp.cli.main import main

if __name__ == "__main__":
    main()
