"""Makes recordings of production histories publishable: pull, pseudonymize, normalize."""
