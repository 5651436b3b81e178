"""The ports to the outside, ERP, payment gateway and ledger, and their adapters."""
