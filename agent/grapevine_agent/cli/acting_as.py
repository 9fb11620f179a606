"""Commands of root, on the state folder of the service: they act as the service's own user.

What root would write there, a key or a database, the service could not read; and what the service has put there, a
link to somewhere else, root should not follow. So whoever types `sudo grapevine …` is, once the configuration is
known, the user that the folder belongs to.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from grapevine_agent.units import USER


def act_as_service(state_dir: Path, *, whosever: bool = False) -> None:
    """Become the service's user for good, if we are root and the folder is that user's, or `whosever` it is."""
    if os.geteuid() != 0:
        return
    try:
        account = pwd.getpwnam(USER)
        owner = account.pw_uid if whosever else state_dir.stat().st_uid
    except (KeyError, OSError):
        return
    if owner == account.pw_uid != 0:
        os.initgroups(USER, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)


def hint_of_user() -> str:
    """For who is refused a file: as whom the command acts, or that the service's files take sudo."""
    try:
        service = pwd.getpwnam(USER).pw_uid
    except KeyError:
        return ""
    if os.geteuid() == service:
        return f" (this command acts as the user {USER}, whose state folder it uses)"
    return "; what belongs to the service, commands reach with sudo" if os.geteuid() else ""
