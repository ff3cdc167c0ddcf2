"""Memory of processes, shared pages counted once."""

from pathlib import Path


def proportional_mib(pid: int) -> float:
    """PSS of one process; 0 when it has gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)
