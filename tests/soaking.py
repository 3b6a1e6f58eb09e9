"""A long training, watched from outside: memory, files, threads, processor time per step, overflows.

``python tests/soaking.py MINUTES FOLDER [OPTIONS OF THE TRAINING]`` writes ``soak.tsv`` to FOLDER as it goes, and at the end a verdict.
Processor time per step is compared instead of steps per second, so that a busy machine does not matter.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List

REPOSITORY = Path(__file__).resolve().parent.parent
SECONDS_BETWEEN_ROWS = 20.0
GROWTH = 1.05
"""Memory at the end may be this many times that of the first third: allocators breathe."""


def main() -> int:
    """Train, watch, stop by SIGTERM, judge; exit code 1 where something grew or overflowed."""
    minutes, folder = float(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(REPOSITORY / "scripts" / "train.py"), "--train.data_dir", str(folder / "runs")]
    endless = ["--train.total_timesteps", "1000000000000"]
    with (folder / "output.txt").open("wb") as output:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen([*command, *endless, *sys.argv[3:]], stdout=output, stderr=output, env=environment)
    rows = watch(process, minutes, folder)
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=300)
    found = {"exit_code": code, **verdict(rows), **counts(folder)}
    (folder / "verdict.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found))
    return 0 if code == 143 and found["memory_growth"] < GROWTH and found["files_growth"] == 0 and found["overflows"] == 0 else 1


def watch(process: "subprocess.Popen[bytes]", minutes: float, folder: Path) -> List[Dict[str, float]]:
    """A row of figures now and then until the time is over."""
    rows: List[Dict[str, float]] = []
    end = time.monotonic() + 60.0 * minutes
    while time.monotonic() < end and process.poll() is None:
        time.sleep(SECONDS_BETWEEN_ROWS)
        rows.append(figures(process.pid, folder))
        with (folder / "soak.tsv").open("a", encoding="utf-8") as table:
            table.write("\t".join(f"{value:g}" for value in rows[-1].values()) + "\n")
    return rows


def figures(pid: int, folder: Path) -> Dict[str, float]:
    """Resident megabytes, open files, threads, seconds of processor time, and environment steps of a process on Linux."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    ticks = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    log = [json.loads(line) for path in (folder / "runs").glob("*/metrics.jsonl") for line in path.read_text().splitlines()[-1:]]
    return {
        "seconds": time.monotonic(),
        "resident_mb": int(status["VmRSS"].split()[0]) / 1024.0,
        "files": float(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())),
        "threads": float(status["Threads"]),
        "processor_seconds": sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"),
        "steps": float(log[0]["step"]) if log else 0.0,
    }


def verdict(rows: List[Dict[str, float]]) -> Dict[str, float]:
    """How the last third compares with the second: the first holds the start."""
    third = len(rows) // 3
    early, late = rows[third : 2 * third], rows[2 * third :]
    cost = [
        (part[-1]["processor_seconds"] - part[0]["processor_seconds"]) / max(part[-1]["steps"] - part[0]["steps"], 1.0) * 1e6
        for part in (early, late)
    ]
    return {
        "minutes": (rows[-1]["seconds"] - rows[0]["seconds"]) / 60.0,
        "steps": rows[-1]["steps"],
        "resident_mb": rows[-1]["resident_mb"],
        "memory_growth": max(row["resident_mb"] for row in late) / max(row["resident_mb"] for row in early),
        "files_growth": rows[-1]["files"] - early[0]["files"],
        "processor_us_per_step_early": cost[0],
        "processor_us_per_step_late": cost[1],
    }


def counts(folder: Path) -> Dict[str, float]:
    """What the run itself counted."""
    lines = [json.loads(line) for path in (folder / "runs").glob("*/metrics.jsonl") for line in path.read_text().splitlines()]
    totals = {
        name: sum(line.get(name) or 0.0 for line in lines)
        for name in (
            "environment/diverged",
            "environment/contact_overflows",
            "environment/constraint_overflows",
            "losses/skipped_steps",
        )
    }
    overflows = totals["environment/contact_overflows"] + totals["environment/constraint_overflows"]
    return {"overflows": overflows, "diverged": totals["environment/diverged"], "skipped_steps": totals["losses/skipped_steps"]}


if __name__ == "__main__":
    sys.exit(main())
