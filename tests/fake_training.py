"""A training that only counts: writes metrics as a real one does, can be killed at any time, and goes on with what it has saved.

python fake_training.py FOLDER STEPS SECONDS_A_STEP SCORE [fail|hang|nan]

``saved`` holds the steps done. As in a real training, what was logged after the last save comes again when a killed one goes on.
"""

import json
import signal
import sys
import time
from pathlib import Path

folder, steps, pause, score = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
trouble = sys.argv[5] if len(sys.argv) > 5 else ""
saved = folder / "saved"


def log(**figures):
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({name.replace("__", "/"): value for name, value in figures.items()}) + "\n")


signal.signal(signal.SIGTERM, signal.SIG_IGN if trouble == "hang" else lambda *_: sys.exit(143))
done = int(saved.read_text()) if saved.exists() else 0
if trouble == "fail":
    sys.exit("the options do not fit")
while done < steps:
    time.sleep(pause)
    done += 1
    log(step=done, performance__SPS=1.0)
    log(step=done, eval__score=None if trouble == "nan" else score * done)
    (folder / "new").write_text(str(done))
    (folder / "new").replace(saved)
