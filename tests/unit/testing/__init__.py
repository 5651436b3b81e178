"""The harness itself is tested: a wrong ruler measures nothing."""
