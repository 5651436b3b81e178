"""Making a recording fit to be kept: pull, pseudonymize, normalize."""
