"""The workflows, their activities, and the worker that runs both."""
