"""The checker: rules that hold for every run, whatever was done to it."""
