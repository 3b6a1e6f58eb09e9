"""The humanoid of ``skeleton`` for Isaac Gym: an MJCF document with three hinges a body, and its collision filter.

Isaac Gym's importer knows no ball joints. It takes three hinges at one body's origin for one spherical joint, whose three coordinates
are then the components of a rotation vector, as everywhere in this project (inferred from PHC's code, which copies rotation vectors
into them; no part of NVIDIA's documentation says so).
"""

from typing import List, Tuple

from puffer_phc.humanoid.mjcf import FRICTION, PhysicsOptions, decimal, decimals, shape_attributes
from puffer_phc.humanoid.skeleton import ARMATURE, BODIES, BODY_NAMES, EXCLUDED_CONTACTS, Body

AXES: Tuple[Tuple[str, str], ...] = (("x", "1 0 0"), ("y", "0 1 0"), ("z", "0 0 1"))
"""Suffix and direction of a body's three hinges, in the order of its degrees of freedom."""

DOF_NAMES: Tuple[str, ...] = tuple(f"{body.name}_{axis}" for body in BODIES[1:] for axis, _ in AXES)
"""Names of the 69 hinges in the order of every per-dof tensor."""

_RANGE, _WIDE_RANGE = 180.0, 720.0
"""Degrees. As in PHC's file; with targets of at most 2.8 rad neither ever binds."""

_WIDE = ("Shoulder", "Elbow")

_GEAR = 500.0
"""N·m of the motors in PHC's file, which the importer is known to accept. Nothing drives them: the drives are set through the API."""


def build_hinge_mjcf(options: PhysicsOptions) -> str:
    """The MJCF document that Isaac Gym imports: the 24 bodies, 69 hinges with the gains as passive stiffness and damping, 69 motors.

    Everything is written where it applies: no default classes, no floor (``add_ground`` makes one), no contact section (the filter is
    set on the shapes). The integrator's settings mean nothing to PhysX and are left out.
    """
    lines = [
        '<mujoco model="humanoid">',
        '  <compiler angle="degree"/>',
        "  <worldbody>",
        *_body(BODIES[0], "    ", options),
        "  </worldbody>",
        "  <actuator>",
        *(f'    <motor name="{name}" joint="{name}" gear="{decimal(_GEAR)}"/>' for name in DOF_NAMES),
        "  </actuator>",
        "</mujoco>",
    ]
    return "\n".join(lines) + "\n"


def collision_filters(has_self_collision: bool) -> Tuple[int, ...]:
    """A bit mask for the shape of each body, in body order: two shapes collide only if no bit is set in both.

    One bit for each of ``EXCLUDED_CONTACTS``, set in its two bodies; without self-collision one bit in all of them. PhysX leaves out
    parents with their children by itself.
    """
    if not has_self_collision:
        return (1,) * len(BODIES)
    return tuple(sum(1 << bit for bit, pair in enumerate(EXCLUDED_CONTACTS) if name in pair) for name in BODY_NAMES)


def _body(body: Body, indent: str, options: PhysicsOptions) -> List[str]:
    """The body's element with its descendants in MJCF order."""
    if body.parent is None:
        lines = [f'{indent}<body name="{body.name}" pos="0 0 0">', f'{indent}  <freejoint name="{body.name}"/>']
    else:
        lines = [f'{indent}<body name="{body.name}" pos="{decimals(body.offset)}">']
        lines += [f"{indent}  {hinge}" for hinge in _hinges(body, options)]
    lines.append(f'{indent}  <geom name="{body.name}" {shape_attributes(body.shape)} density="{decimal(body.density)}" {FRICTION}/>')
    for child in BODIES:
        if child.parent == body.name:
            lines += _body(child, indent + "  ", options)
    return [*lines, f"{indent}</body>"]


def _hinges(body: Body, options: PhysicsOptions) -> List[str]:
    limit = decimal(_WIDE_RANGE if body.name.endswith(_WIDE) else _RANGE)
    gains = (
        f'stiffness="{decimal(body.stiffness * options.stiffness_scale)}" damping="{decimal(body.damping * options.damping_scale)}" '
        f'armature="{decimal(ARMATURE)}"'
    )
    return [
        f'<joint name="{body.name}_{axis}" type="hinge" pos="0 0 0" axis="{direction}" limited="true" range="-{limit} {limit}" {gains}/>'
        for axis, direction in AXES
    ]
