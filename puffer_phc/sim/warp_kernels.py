# type: ignore
# Warp compiles the source of these functions: its own language with its own types, of which Python's checkers know little.
"""The Warp kernels around MuJoCo Warp's own step: placing, measuring, inspecting, freezing and publishing the humanoids.

A few small kernels instead of a page of tensor operations: each is one launch, most of them inside a captured graph, and every one
costs compile time at the cold start. Quaternions are ``vec4 (w, x, y, z)``: Warp's own ``quat`` type is ordered otherwise.
A body's parent is in ``parents``, its place in its parent's frame in ``offsets``; body 0 hangs on the free joint, which owns qpos 0–6
and qvel 0–5 (angular part in the body frame); body b > 0 on a ball joint, which owns qpos 4b + 3 … 4b + 6 and qvel 3b + 3 … 3b + 5.
"""

import warp as wp

from puffer_phc.sim.simulator import MAX_DISTANCE, MAX_SPEED

wp.set_module_options({"enable_backward": False})


@wp.func
def _multiply(a: wp.vec4, b: wp.vec4) -> wp.vec4:
    return wp.vec4(
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
    )


@wp.func
def _rotate(q: wp.vec4, v: wp.vec3) -> wp.vec3:
    axis = wp.vec3(q[1], q[2], q[3])
    t = 2.0 * wp.cross(axis, v)
    return v + q[0] * t + wp.cross(axis, t)


@wp.func
def _rotation_vector(q: wp.vec4) -> wp.vec3:
    """The logarithm of a rotation, of length at most π, as ``rotations.to_rotation_vector``."""
    sign = wp.where(q[0] < 0.0, -1.0, 1.0)
    axis = sign * wp.vec3(q[1], q[2], q[3])
    cosine = sign * q[0]
    sine = wp.length(axis)
    if sine < 1e-6:
        return axis * (2.0 / wp.max(cosine, 0.5))
    return axis * (2.0 * wp.atan2(sine, cosine) / sine)


@wp.func
def _from_rotation_vector(v: wp.vec3) -> wp.vec4:
    """The exponential of a rotation vector, as ``rotations.from_rotation_vector``."""
    angle = wp.length(v)
    scale = 0.5 - angle * angle / 48.0
    if angle > 1e-6:
        scale = wp.sin(0.5 * angle) / angle
    return wp.vec4(wp.cos(0.5 * angle), v[0] * scale, v[1] * scale, v[2] * scale)


@wp.func
def _body_quat(qpos: wp.array2d[float], world: int, body: int) -> wp.vec4:
    """The rotation of a body in its parent's frame, the root's in the world's."""
    start = 4 * body + 3
    q = wp.vec4(qpos[world, start], qpos[world, start + 1], qpos[world, start + 2], qpos[world, start + 3])
    return q / wp.max(wp.length(q), 1e-12)


@wp.func
def _triple(array: wp.array2d[float], world: int, start: int) -> wp.vec3:
    return wp.vec3(array[world, start], array[world, start + 1], array[world, start + 2])


@wp.func
def _write_triple(array: wp.array2d[float], world: int, start: int, value: wp.vec3) -> None:
    array[world, start] = value[0]
    array[world, start + 1] = value[1]
    array[world, start + 2] = value[2]


@wp.func
def _is_sane(value: float, limit: float) -> bool:
    """False for NaN and infinity too, because no comparison with NaN is true."""
    return wp.abs(value) <= limit


@wp.kernel
def place(
    mask: wp.array[bool],
    root_pos: wp.array2d[float],
    root_quat: wp.array2d[float],
    root_lin_vel: wp.array2d[float],
    root_ang_vel: wp.array2d[float],
    dof_pos: wp.array2d[float],
    dof_vel: wp.array2d[float],
    qpos: wp.array2d[float],
    qvel: wp.array2d[float],
    ctrl: wp.array2d[float],
    warm_start: wp.array2d[float],
    torque: wp.array2d[float],
    power: wp.array2d[float],
    diverged: wp.array[bool],
) -> None:
    """Put the rows of ``mask`` into a pose and forget their past. Launched over (N, B)."""
    world, body = wp.tid()
    if not mask[world]:
        return
    if body == 0:
        diverged[world] = False
        q = wp.vec4(root_quat[world, 0], root_quat[world, 1], root_quat[world, 2], root_quat[world, 3])
        q = q / wp.max(wp.length(q), 1e-12)
        _write_triple(qpos, world, 0, _triple(root_pos, world, 0))
        _write_triple(qvel, world, 0, _triple(root_lin_vel, world, 0))
        inverse = wp.vec4(q[0], -q[1], -q[2], -q[3])
        _write_triple(qvel, world, 3, _rotate(inverse, _triple(root_ang_vel, world, 0)))
        _write_triple(warm_start, world, 0, wp.vec3(0.0))
    else:
        dof = 3 * body - 3
        q = _from_rotation_vector(_triple(dof_pos, world, dof))
        _write_triple(qvel, world, dof + 6, _triple(dof_vel, world, dof))
        _write_triple(ctrl, world, dof, wp.vec3(0.0))
        _write_triple(torque, world, dof, wp.vec3(0.0))
        _write_triple(power, world, dof, wp.vec3(0.0))
    for i in range(4):
        qpos[world, 4 * body + 3 + i] = q[i]
    _write_triple(warm_start, world, 3 * body + 3, wp.vec3(0.0))


@wp.kernel
def measure(
    is_first: bool,
    weight: float,
    qpos: wp.array2d[float],
    qvel: wp.array2d[float],
    ctrl: wp.array2d[float],
    stiffness: wp.array[float],
    damping: wp.array[float],
    num_contacts: wp.array[int],
    num_pairs: wp.array[int],
    num_constraints: wp.array[int],
    torque: wp.array2d[float],
    power: wp.array2d[float],
    demand: wp.array[int],
) -> None:
    """The implicit effort of one substep, added to the mean power with ``weight``, and what the step asked of the buffers.

    Launched over (N, B). MuJoCo wraps every component of a ball joint's PD error at ±π, and so does this. ``demand`` holds the contacts
    of this control step, of the run, and the constraint rows of the run, all as maxima.
    """
    world, body = wp.tid()
    if body == 0:
        if world == 0:
            demand[0] = wp.max(demand[0], wp.max(num_contacts[0], num_pairs[0]))
        if num_constraints[world] > demand[2]:
            wp.atomic_max(demand, 2, num_constraints[world])
    else:
        position = _rotation_vector(_body_quat(qpos, world, body))
        for i in range(3):
            dof = 3 * body - 3 + i
            error = ctrl[world, dof] - position[i]
            error -= wp.TAU * wp.round(error / wp.TAU)
            velocity = qvel[world, dof + 6]
            effort = stiffness[dof] * error - damping[dof] * velocity
            torque[world, dof] = effort
            spent = weight * wp.abs(effort * velocity)
            power[world, dof] = wp.where(is_first, spent, power[world, dof] + spent)


@wp.kernel
def inspect(qpos: wp.array2d[float], qvel: wp.array2d[float], is_insane: wp.array[bool]) -> None:
    """Mark the rows that no humanoid can be in: not finite, too far away or too fast. Launched over (N, B)."""
    world, body = wp.tid()
    start = 4 * body + 3
    norm = 0.0
    for i in range(4):
        norm += qpos[world, start + i] * qpos[world, start + i]
    is_sane = _is_sane(norm - 1.0, 0.5)
    for i in range(3):
        is_sane = is_sane and _is_sane(qvel[world, 3 * body + 3 + i], MAX_SPEED)
    if body == 0:
        for i in range(3):
            is_sane = is_sane and _is_sane(qpos[world, i], MAX_DISTANCE) and _is_sane(qvel[world, i], MAX_SPEED)
    if not is_sane:
        is_insane[world] = True


@wp.kernel
def freeze(
    contact_capacity: int,
    lost_contact_bits: int,
    lost_constraint_bits: int,
    placeholder: wp.array[float],
    qpos: wp.array2d[float],
    qvel: wp.array2d[float],
    ctrl: wp.array2d[float],
    warm_start: wp.array2d[float],
    torque: wp.array2d[float],
    power: wp.array2d[float],
    overflow: wp.array[int],
    is_insane: wp.array[bool],
    diverged: wp.array[bool],
    demand: wp.array[int],
    counters: wp.array[int],
) -> None:
    """Hold diverged rows at the ``placeholder`` (nq,) pose at rest, and count what went wrong. Launched over (N, B).

    All worlds share one contact buffer, so that which rows lost contacts is unknown: the lost contacts are counted, at most one a row.
    """
    world, body = wp.tid()
    if is_insane[world] or diverged[world]:
        if body == 0:
            for i in range(3):
                qpos[world, i] = placeholder[i]
            _write_triple(qvel, world, 0, wp.vec3(0.0))
            _write_triple(warm_start, world, 0, wp.vec3(0.0))
        else:
            _write_triple(ctrl, world, 3 * body - 3, wp.vec3(0.0))
            _write_triple(torque, world, 3 * body - 3, wp.vec3(0.0))
            _write_triple(power, world, 3 * body - 3, wp.vec3(0.0))
        for i in range(4):
            qpos[world, 4 * body + 3 + i] = placeholder[4 * body + 3 + i]
        _write_triple(qvel, world, 3 * body + 3, wp.vec3(0.0))
        _write_triple(warm_start, world, 3 * body + 3, wp.vec3(0.0))
    if body == 0:
        if is_insane[world] and not diverged[world]:
            diverged[world] = True
            wp.atomic_add(counters, 0, 1)
        if (overflow[world] & lost_contact_bits) != 0:
            wp.atomic_add(counters, 1, 1)
        if (overflow[world] & lost_constraint_bits) != 0:
            wp.atomic_add(counters, 2, 1)
        overflow[world] = 0
        if world == 0:
            wp.atomic_add(counters, 1, wp.clamp(demand[0] - contact_capacity, 0, qpos.shape[0]))
            demand[1] = wp.max(demand[1], demand[0])
            demand[0] = 0


@wp.kernel
def publish(
    parents: wp.array[int],
    offsets: wp.array[wp.vec3],
    qpos: wp.array2d[float],
    qvel: wp.array2d[float],
    body_pos: wp.array2d[wp.vec3],
    body_quat: wp.array2d[wp.vec4],
    body_lin_vel: wp.array2d[wp.vec3],
    body_ang_vel: wp.array2d[wp.vec3],
    dof_pos: wp.array2d[float],
    dof_vel: wp.array2d[float],
) -> None:
    """Body and joint states from the generalised coordinates. Launched over (N, B).

    Each thread carries its body's motion from the body's own frame up to the world, link by link, so that no thread waits for another
    and MuJoCo's kinematics, com_pos and com_vel, some twenty launches, are not needed.
    """
    world, body = wp.tid()
    pos = wp.vec3(0.0)
    quat = wp.vec4(1.0, 0.0, 0.0, 0.0)
    lin_vel = wp.vec3(0.0)
    ang_vel = wp.vec3(0.0)
    link = body
    while link >= 0:
        q = _body_quat(qpos, world, link)
        spin = _triple(qvel, world, 3 * link + 3)
        offset = offsets[link]
        if link == 0:
            offset = _triple(qpos, world, 0)
        lin_vel = _rotate(q, lin_vel + wp.cross(spin, pos))
        ang_vel = _rotate(q, ang_vel + spin)
        pos = offset + _rotate(q, pos)
        quat = _multiply(q, quat)
        link = parents[link]
    body_pos[world, body] = pos
    body_quat[world, body] = quat / wp.length(quat)
    body_lin_vel[world, body] = lin_vel + _triple(qvel, world, 0)
    body_ang_vel[world, body] = ang_vel
    if body > 0:
        dof = 3 * body - 3
        _write_triple(dof_pos, world, dof, _rotation_vector(_body_quat(qpos, world, body)))
        _write_triple(dof_vel, world, dof, _triple(qvel, world, dof + 6))
