"""Give live TCP connections away, and be given others.

A RoutingApplication runs on the stack that owns a DVIPA, accepts clients, and moves each one's connection to the target that
it is for. A TargetApplication is offered connections, with the application state that the router sends along. Both speak with
the agent of their own host. baton.aio has the same calls for asyncio; docs/applications.md says how it all fits together.
"""

from ._baton import (
    Application,
    Closed,
    Connection,
    Error,
    Heard,
    InDoubt,
    NoAgent,
    Offer,
    Refused,
    RoutingApplication,
    TargetApplication,
    TargetView,
)

__all__ = [
    "Application",
    "Closed",
    "Connection",
    "Error",
    "Heard",
    "InDoubt",
    "NoAgent",
    "Offer",
    "Refused",
    "RoutingApplication",
    "TargetApplication",
    "TargetView",
]
