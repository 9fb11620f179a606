"""How commands talk to the running service: a Unix socket in the state folder."""

from grapevine_agent.control.client import call
from grapevine_agent.control.protocol import SOCKET_FILE, NoAnswerError, NoServiceError
from grapevine_agent.control.server import ControlServer, SocketTakenError

__all__ = ["SOCKET_FILE", "ControlServer", "NoAnswerError", "NoServiceError", "SocketTakenError", "call"]
