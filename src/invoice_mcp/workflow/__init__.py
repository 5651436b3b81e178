"""The workflows and their activities, and the worker that runs them."""
