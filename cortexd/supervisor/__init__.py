"""Running a whole fleet in the foreground: ``cortexd up``. No systemd, no database; only processes.

``plan.py`` says which processes a state directory asks for, ``ports.py`` checks that they can listen, ``child.py`` is
one process with its restarts, ``supervise.py`` all of them until a signal, ``ready.py`` what is said once they serve,
``lock.py`` keeps a second one away.
"""

from cortexd.supervisor.lock import LockedError, exclusive
from cortexd.supervisor.plan import UpError
from cortexd.supervisor.supervise import up

__all__ = ["LockedError", "UpError", "exclusive", "up"]
