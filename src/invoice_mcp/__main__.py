"""`python -m invoice_mcp` is `invoice-mcp`."""

from invoice_mcp.cli.main import main

if __name__ == "__main__":
    main()
