"""Our figures on CMU's motions, repeated from the original files: each step is a command.

    python scripts/reproduce_cmu.py check DATA/cmu             # are these the files that we used?
    python scripts/reproduce_cmu.py prepare DATA/cmu OUT       # OUT/cmu_train.npz and OUT/cmu_held_out.npz, and how exact they are
    python scripts/reproduce_cmu.py evaluate OUT -c latest.pt  # a policy on both, beside the published figures; without -c, ours
    python scripts/reproduce_cmu.py train OUT                  # the commands that trained ours

DATA/cmu is any folder with the files that sample_data/cmu_manifest.csv names, however they lie in it; it holds their addresses. The
published figures are in sample_data/cmu_results.json. `manifest` makes the manifest, and `--publish` notes figures as published: both are
for the maintainers.
"""

import sys

import tyro

from puffer_phc.command_line import run_main
from puffer_phc.commands import reproduction

COMMANDS = {
    "check": reproduction.check,
    "prepare": reproduction.prepare,
    "evaluate": reproduction.evaluate,
    "train": reproduction.train,
    "manifest": reproduction.make_manifest,
}


def main() -> int:
    """Parse the command line and run its command."""
    return run_main(lambda: tyro.extras.subcommand_cli_from_dict(COMMANDS, description=__doc__))


if __name__ == "__main__":
    sys.exit(main())
