"""The worker side: workflow instances, replay, local cancellations, activity attempts.

It depends on `temporal_simulator.protocol` only, not on the server.
"""
