"""Checks whether a machine can do an edge's work, and says what to mend."""

from fpcodec_edge.doctor.check import Check, State
from fpcodec_edge.doctor.machine import Machine, check_machine
from fpcodec_edge.doctor.profile import check_profile
from fpcodec_edge.doctor.server import ServerWanted, check_server

__all__ = [
    "Check",
    "Machine",
    "ServerWanted",
    "State",
    "check_machine",
    "check_profile",
    "check_server",
]
