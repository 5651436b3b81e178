"""Ports to the ERP and the payment system, and their adapters."""
