"""Patches (`workflow.patched`): found in source, measured on histories, and when each may be removed."""
