"""Where things are: the tree, and below its target directory everything that is fetched or made."""

import os
from pathlib import Path

CLIENTS = Path(__file__).resolve().parent.parent
TOP = CLIENTS.parent.parent
CACHE = Path(os.environ.get("CLIENTS_CACHE", TOP / "target/clients"))
RESULTS = CACHE / "results"
LOGS = CACHE / "logs"
