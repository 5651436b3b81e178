"""Many scenarios in one process: random ones, and every interleaving of small ones."""
