"""Tests of the simulator, with workflows that know nothing of invoices."""
