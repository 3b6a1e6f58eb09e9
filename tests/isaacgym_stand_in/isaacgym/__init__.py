"""A stand-in for NVIDIA's isaacgym: the part of its interface that this project uses, over MuJoCo and raw memory.

It is for tests only, and stricter than the real one where that finds mistakes: unknown attributes and calls do not exist, arguments have to
have the documented types, tensors the documented shapes and data types, and calls the documented order. What it takes from NVIDIA's
documentation and from users' reports: its tensors' layouts (positions, quaternions xyzw, velocities; joint positions and velocities side
by side), that tensors exist after ``prepare_sim``, that memory changes at ``refresh_*`` only, that a setter counts once between two
``simulate`` calls, that body states follow a setter at the next ``simulate`` only, that a process has one simulation, and that it has to be
imported before torch. What it cannot know is how the real importer and PhysX treat the humanoid.
"""

from isaacgym import gymapi as gymapi
