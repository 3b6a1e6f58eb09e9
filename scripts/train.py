"""Train, evaluate, watch or tune a policy: ``python scripts/train.py --mode train|eval|play|sweep``; ``--help`` lists every option."""

import sys

from puffer_phc.start import main

if __name__ == "__main__":
    sys.exit(main())
