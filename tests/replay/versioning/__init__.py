"""A worked example: one change of a workflow, made in every way there is.

`before` is what runs in production, and is recorded while it waits. The change: the customer is told at once that the
order has come. `unguarded` just does so, and would leave every order that is open stuck. `guarded` does so for orders
to come. When no open order began before, `deprecated` drops the old way; when no open order has the marker either, the
patch may go: `removed`.
"""
