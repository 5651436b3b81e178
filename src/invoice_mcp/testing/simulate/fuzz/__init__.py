"""Random scenarios against the model, and their shrinking."""
