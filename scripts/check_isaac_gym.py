"""Ask an installed Isaac Gym whether what the backend assumes about it is true; ends with 1 where something is not.

Usage: python scripts/check_isaac_gym.py [--num-envs 16] [--device cuda:0]
"""

import argparse
import sys

from puffer_phc.command_line import run_main, say
from puffer_phc.sim.isaac_loading import load_early


def main() -> int:
    """Print a line for each assumption: whether it holds, the error, its limit, and what it means where it does not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-envs", type=int, default=16, help="humanoids side by side")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:<number>")
    arguments = parser.parse_args()
    load_early()
    return run_main(lambda: check(arguments.num_envs, arguments.device))


def check(num_envs: int, device: str) -> int:
    """0 if every assumption holds, else 1."""
    import torch  # after Isaac Gym

    from puffer_phc.humanoid.mjcf import PhysicsOptions
    from puffer_phc.sim.isaac_check import measures
    from puffer_phc.sim.isaac_gym import IsaacGymSimulator

    name = ("cuda:0" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    simulator = IsaacGymSimulator(num_envs, PhysicsOptions(), torch.device(name))
    found = measures(simulator)
    simulator.close()
    for measure in found:
        said = f"{measure.error:.2g} {measure.unit}".strip()
        verdict = "holds" if measure.holds else f"FAILS: {measure.otherwise}"
        say(f"{measure.assumption}: {verdict} (off by {said}, limit {measure.limit:g})")
    return 0 if all(measure.holds for measure in found) else 1


if __name__ == "__main__":
    sys.exit(main())
