"""The humanoid of ``skeleton`` as an MJCF document with ball joints and affine PD actuators."""

from dataclasses import dataclass
from typing import Iterable, List

from puffer_phc.humanoid.skeleton import ARMATURE, BODIES, EXCLUDED_CONTACTS, GRAVITY, Body, Box, Capsule, Shape

STANDING_HEIGHT = 0.9367
"""m, of the pelvis over the floor when the lowest foot of the zero pose touches it."""

CONTACT = 'solref="0.015 1" solimp="0.9 0.99 0.003" margin="0"'
"""Time constant 15 ms: the stiffest that two substeps at 60 Hz hold. A margin would float the body above the floor."""

FRICTION = 'friction="1 0.05 0.05"'
"""Sliding friction of PHC's shapes and floor; torsion and rolling play no part at condim 3."""

_LEFT, _RIGHT, _TRUNK = "left", "right", "trunk"
_COLORS = {_LEFT: "0.36 0.62 0.78 1", _RIGHT: "0.86 0.52 0.36 1", _TRUNK: "0.82 0.80 0.74 1"}


@dataclass(frozen=True)
class PhysicsOptions:
    """How the physics engine integrates the humanoid; the defaults are argued for in docs/results.md."""

    rate: float = 60.0
    """Physics steps per second."""
    substeps: int = 2
    """Physics steps per control step; rate / substeps is the control rate."""
    integrator: str = "discrete"
    """MuJoCo's name of the integrator: discrete, implicitfast, implicit or Euler."""
    iterations: int = 5
    """Newton iterations at most."""
    ls_iterations: int = 20
    """Line-search steps per iteration at most."""
    cone: str = "pyramidal"
    """Friction cone: pyramidal or elliptic."""
    has_self_collision: bool = True
    """Whether bodies collide with each other; parents, children and ``EXCLUDED_CONTACTS`` never do."""
    stiffness_scale: float = 1.0
    """Factor on every kp."""
    damping_scale: float = 1.0
    """Factor on every kd."""

    @property
    def control_dt(self) -> float:
        """Seconds of one control step."""
        return self.substeps / self.rate


def build_mjcf(options: PhysicsOptions) -> str:
    """The MJCF document: a floor, the humanoid, its excluded contacts and its 69 actuators in the order of the degrees of freedom.

    Each body but the root hangs on one ball joint of its own name. Three actuators act on it, along x, y and z of the child's frame:
    MuJoCo measures their length as the components of the joint's rotation vector and their velocity as those of its relative
    angular velocity, so τ = kp·(θ* − θ) − kd·ω is an affine actuator with control θ*. There are no joint limits, passive springs or
    force ranges: a saturated force range would lose the implicit damping, so ``sim.pd`` clamps the targets instead.
    """
    lines = [
        '<mujoco model="humanoid">',
        '  <compiler angle="radian" autolimits="true"/>',
        *_option(options),
        *_VISUALS,
        *_default_classes(options),
        "  <worldbody>",
        *_SCENE,
        *_body(BODIES[0], "    "),
        "  </worldbody>",
        "  <contact>",
        *(f'    <exclude body1="{first}" body2="{second}"/>' for first, second in EXCLUDED_CONTACTS),
        "  </contact>",
        "  <actuator>",
        *(line for body in BODIES[1:] for line in _actuators(body, options)),
        "  </actuator>",
        "</mujoco>",
    ]
    return "\n".join(lines) + "\n"


_VISUALS = (
    "  <visual>",
    '    <global offwidth="1920" offheight="1080" azimuth="130" elevation="-15"/>',
    '    <headlight ambient="0.35 0.35 0.35" diffuse="0.35 0.35 0.35" specular="0.1 0.1 0.1"/>',
    '    <quality shadowsize="4096"/>',
    '    <map znear="0.01" zfar="60"/>',
    '    <rgba haze="0.75 0.82 0.88 1"/>',
    "  </visual>",
    '  <statistic center="0 0 0.9" extent="2.2"/>',
    "  <asset>",
    '    <texture name="sky" type="skybox" builtin="gradient" rgb1="0.75 0.82 0.88" rgb2="0.40 0.54 0.68" width="256" height="1536"/>',
    '    <texture name="floor" type="2d" builtin="checker" mark="edge" rgb1="0.55 0.58 0.60" rgb2="0.49 0.52 0.54" markrgb="0.68 0.70 0.72"'
    ' width="256" height="256"/>',
    '    <material name="floor" texture="floor" texrepeat="1 1" texuniform="true" reflectance="0.08"/>',
    *(f'    <material name="{name}" rgba="{rgba}" specular="0.3" shininess="0.4"/>' for name, rgba in _COLORS.items()),
    "  </asset>",
)

_SCENE = (
    '    <light name="sun" type="directional" pos="0 0 6" dir="0.3 0.4 -1" diffuse="0.55 0.55 0.52" castshadow="true"/>',
    f'    <geom name="floor" type="plane" size="0 0 0.5" condim="3" {FRICTION} contype="0" conaffinity="1" material="floor"/>',
)


def decimal(value: float) -> str:
    """The shortest decimal text that reads back as ``value``."""
    text = repr(float(value))
    return text[:-2] if text.endswith(".0") else text


def decimals(values: Iterable[float]) -> str:
    """The same for several, with spaces between."""
    return " ".join(decimal(value) for value in values)


def _option(options: PhysicsOptions) -> List[str]:
    return [
        f'  <option timestep="{decimal(1.0 / options.rate)}" integrator="{options.integrator}" solver="Newton" cone="{options.cone}"'
        f' iterations="{options.iterations}" ls_iterations="{options.ls_iterations}" impratio="1" gravity="0 0 -{GRAVITY}"/>'
    ]


def _default_classes(options: PhysicsOptions) -> List[str]:
    """Settings shared by all; with an affinity of zero the bodies meet only the floor, whose affinity is one."""
    affinity = 1 if options.has_self_collision else 0
    return [
        "  <default>",
        f'    <joint armature="{decimal(ARMATURE)}" damping="0" stiffness="0" frictionloss="0" limited="false"/>',
        f"    <geom {CONTACT}/>",
        '    <general biastype="affine" ctrllimited="false" forcelimited="false"/>',
        '    <default class="body">',
        f'      <geom condim="1" {FRICTION} contype="1" conaffinity="{affinity}"/>',
        "    </default>",
        "  </default>",
    ]


def _body(body: Body, indent: str) -> List[str]:
    """The body's element with its descendants in MJCF order."""
    if body.parent is None:
        lines = [
            f'{indent}<body name="{body.name}" pos="0 0 {decimal(STANDING_HEIGHT)}" childclass="body">',
            f'{indent}  <freejoint name="{body.name}"/>',
            f'{indent}  <camera name="front" mode="trackcom" pos="3.2 0 0.6" xyaxes="0 1 0 -0.15 0 1"/>',
            f'{indent}  <camera name="side" mode="trackcom" pos="0 -3.2 0.6" xyaxes="1 0 0 0 0.15 1"/>',
        ]
    else:
        lines = [
            f'{indent}<body name="{body.name}" pos="{decimals(body.offset)}">',
            f'{indent}  <joint name="{body.name}" type="ball"/>',
        ]
    shape, density = shape_attributes(body.shape), decimal(body.density)
    lines.append(f'{indent}  <geom name="{body.name}" {shape} density="{density}" material="{_material(body.name)}"/>')
    for child in BODIES:
        if child.parent == body.name:
            lines += _body(child, indent + "  ")
    return [*lines, f"{indent}</body>"]


def shape_attributes(shape: Shape) -> str:
    """The attributes of a ``geom`` of this shape."""
    if isinstance(shape, Box):
        return f'type="box" pos="{decimals(shape.center)}" size="{decimals(shape.half_extents)}"'
    if isinstance(shape, Capsule):
        return f'type="capsule" fromto="{decimals((*shape.start, *shape.end))}" size="{decimal(shape.radius)}"'
    return f'type="sphere" pos="{decimals(shape.center)}" size="{decimal(shape.radius)}"'


def _material(name: str) -> str:
    return {"L_": _LEFT, "R_": _RIGHT}.get(name[:2], _TRUNK)


def _actuators(body: Body, options: PhysicsOptions) -> List[str]:
    """The drives about x, y and z: force = kp·control − kp·length − kd·velocity."""
    kp = decimal(body.stiffness * options.stiffness_scale)
    minus_kp, minus_kd = decimal(-body.stiffness * options.stiffness_scale), decimal(-body.damping * options.damping_scale)
    return [
        f'    <general name="{body.name}_{axis}" joint="{body.name}" gear="{gear} 0 0 0" gainprm="{kp}" biasprm="0 {minus_kp} {minus_kd}"/>'
        for axis, gear in (("x", "1 0 0"), ("y", "0 1 0"), ("z", "0 0 1"))
    ]
