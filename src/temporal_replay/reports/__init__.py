"""Reports for people and for machines: `check` for `histories check`, `coverage` for `histories coverage`."""
