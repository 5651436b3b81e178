"""The checker: rules that hold for every run, whatever the scenario did."""
