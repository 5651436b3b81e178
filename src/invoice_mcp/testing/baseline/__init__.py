"""The original sample's workflow, with signals and queries alone, in a world of its own."""
