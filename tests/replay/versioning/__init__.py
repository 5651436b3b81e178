"""A worked example of versioning: one workflow change, made in every possible way.

`before` runs in production, and is recorded while it waits. The change: the customer is notified as soon as the order
arrives. `unguarded` just makes the change, and would leave every open order stuck. `guarded` applies it to new orders
only. When no open order started before the patch, `deprecated` drops the old branch. When no open order has the marker
either, the patch may be removed: `removed`.
"""
