"""The Isaac Gym backend on the stand-in: it says the original's settings, equals MuJoCo, trains; and the stand-in refuses mistakes.

The contract that it shares with the other backends is tested in test_simulator_contract.py.
"""

import ast
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from stand_in import environment, use_stand_in
from synthetic_motion import swaying_clip

from puffer_phc import rotations
from puffer_phc.config import EnvConfig
from puffer_phc.env.observations import observation
from puffer_phc.env.rewards import imitation_reward
from puffer_phc.errors import BackendError
from puffer_phc.humanoid.body_state import body_state
from puffer_phc.humanoid.mjcf import STANDING_HEIGHT, PhysicsOptions
from puffer_phc.humanoid.skeleton import EXCLUDED_CONTACTS, dof_damping, dof_stiffness
from puffer_phc.learn.checkpoint import load_checkpoint
from puffer_phc.motion.file import save_motion_file
from puffer_phc.sim.isaac_loading import import_bridge
from puffer_phc.start import asked_backend
from puffer_phc.state import Pose

REPOSITORY = Path(__file__).resolve().parent.parent
N, D, CPU = 3, 69, torch.device("cpu")
ALL = torch.ones(N, dtype=torch.bool)
OPTIONS = PhysicsOptions()


@pytest.fixture
def gymapi():
    return use_stand_in()


@pytest.fixture
def simulator(gymapi):
    simulator = make()
    yield simulator
    simulator.close()


def make(options=OPTIONS, num_envs=N):
    from puffer_phc.sim.isaac_gym import IsaacGymSimulator

    return IsaacGymSimulator(num_envs, options, CPU)


def random_pose(seed, height=1.2):
    generator = torch.Generator().manual_seed(seed)

    def normal(size, scale):
        return scale * torch.randn(N, size, generator=generator)

    root_pos = normal(3, 0.3) + torch.tensor([0.0, 0.0, height])
    return Pose(root_pos, rotations.normalize(normal(4, 1.0)), normal(3, 1.0), normal(3, 1.0), normal(D, 0.3), normal(D, 1.0))


def test_the_scene_is_the_originals(simulator, gymapi):
    """REFERENCE: timing, PhysX, floor, asset, filter, drives, aggregates."""
    sim = gymapi.Gym.live
    params, physx = sim.params, sim.params.physx
    assert (params.dt, params.substeps, params.gravity.tuple()) == (1.0 / 60.0, 2, (0.0, 0.0, -9.81))
    found = {name: getattr(physx, name) for name in physx.__dict__}
    assert found == {
        "bounce_threshold_velocity": 0.2,
        "contact_offset": 0.02,
        "default_buffer_size_multiplier": 10.0,
        "max_depenetration_velocity": 10.0,
        "max_gpu_contact_pairs": 8388608,
        "num_position_iterations": 4,
        "num_subscenes": 0,
        "num_threads": 4,
        "num_velocity_iterations": 0,
        "rest_offset": 0.0,
        "solver_type": 1,
        "use_gpu": False,
    }
    assert (sim.plane.static_friction, sim.plane.dynamic_friction, sim.plane.restitution) == (1.0, 1.0, 0.0)
    assert len(sim.envs) == N and {env.num_per_row for env in sim.envs} == {1}
    for row, actor in enumerate(sim.actors):
        assert (actor.asset.options.angular_damping, actor.asset.options.max_angular_velocity) == (0.01, 100.0)
        assert (actor.asset.options.linear_damping, actor.asset.options.max_linear_velocity) == (0.0, 1000.0)
        assert (actor.group, actor.filter) == (row, 0)
        assert [shape.filter for shape in actor.shapes] != [0] * 24
        assert (actor.dofs["driveMode"] == 1).all() and (actor.dofs["friction"] == 0.0).all()
        np.testing.assert_allclose(actor.dofs["stiffness"], dof_stiffness())
        np.testing.assert_allclose(actor.dofs["damping"], dof_damping())
        np.testing.assert_allclose(actor.dofs["armature"], 0.02)


def test_the_engine_excludes_the_tables_pairs_and_has_the_tables_mass(simulator, gymapi):
    model = gymapi.Gym.live.model
    pairs = {frozenset((model.body(key >> 16).name, model.body(key & 0xFFFF).name)) for key in model.exclude_signature.tolist()}
    assert pairs == {frozenset(pair) for pair in EXCLUDED_CONTACTS}
    assert abs(model.body_mass.sum() - 73.9954) < 1e-4


def test_options_reach_the_engine(gymapi):
    simulator = make(PhysicsOptions(rate=120.0, substeps=4, has_self_collision=False, stiffness_scale=0.5, damping_scale=2.0))
    sim = gymapi.Gym.live
    assert sim.params.dt == 1.0 / 120.0 and simulator.control_dt == 1.0 / 30.0
    assert [shape.filter for shape in sim.actors[0].shapes] == [1] * 24 and sim.actors[0].filter == 1
    np.testing.assert_allclose(sim.actors[0].dofs["stiffness"], 0.5 * dof_stiffness())
    np.testing.assert_allclose(sim.actors[0].dofs["damping"], 2.0 * dof_damping())
    simulator.close()


def test_observation_and_reward_after_set_state_equal_mujocos(simulator):
    pytest.importorskip("mujoco.batch", reason="backend mujoco_cpu needs MuJoCo 3.17 or newer")
    from puffer_phc.sim.mujoco_cpu import MujocoCpuSimulator

    mujoco = MujocoCpuSimulator(N, OPTIONS)
    for seed in range(5):
        pose, reference = random_pose(seed), body_state(random_pose(100 + seed))
        near = body_state(pose._replace(root_pos=pose.root_pos + 0.03, dof_vel=0.9 * pose.dof_vel))
        found = []
        for engine in (simulator, mujoco):
            engine.set_state(ALL, pose)
            seen = [observation(engine.body, _one_frame(frame)) for frame in (reference, near)]
            rewards = [
                imitation_reward(engine.body, frame, engine.dof.power, torch.full((N,), 9), EnvConfig()) for frame in (reference, near)
            ]
            found.append([*seen, *(part for reward in rewards for part in reward)])
        assert found[0][0].shape == (N, 934) and found[0][-2].min() > 1e-3
        for ours, theirs in zip(*found):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    mujoco.close()


def _one_frame(body):
    return type(body)(*(part.unsqueeze(1) for part in body))


def test_a_second_of_motion_equals_mujocos(simulator):
    """The stand-in moves by the same engine: what differs would be the adapter's or the MJCF's."""
    pytest.importorskip("mujoco.batch", reason="backend mujoco_cpu needs MuJoCo 3.17 or newer")
    from puffer_phc.sim.mujoco_cpu import MujocoCpuSimulator

    mujoco = MujocoCpuSimulator(N, OPTIONS)
    pose = random_pose(0, height=1.5)
    for engine in (simulator, mujoco):
        engine.set_state(ALL, pose)
    for step in range(30):
        for engine in (simulator, mujoco):
            engine.step(0.5 * pose.dof_pos)
        if step < 5:
            for ours, theirs in zip((*simulator.body, *simulator.dof), (*mujoco.body, *mujoco.dof)):
                torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=1e-3)
    assert (simulator.body.pos - mujoco.body.pos).norm(dim=-1).max() < 0.05
    assert simulator.body.pos[:, 0, 2].max() < 1.0
    mujoco.close()


def test_states_share_the_engines_memory(simulator, gymapi):
    """A number that appears in the engine's memory is in ``body`` and ``dof`` at once."""
    _root, joints, bodies = gymapi.Gym.live.memory
    bodies[24 + 3, :3] = (1.0, 2.0, 3.0)
    joints[D + 5] = (0.25, -0.5)
    assert simulator.body.pos[1, 3].tolist() == [1.0, 2.0, 3.0]
    assert (simulator.dof.pos[1, 5], simulator.dof.vel[1, 5]) == (0.25, -0.5)


def test_states_outlive_the_engine(simulator):
    simulator.set_state(ALL, random_pose(1))
    before = simulator.body.pos.clone()
    simulator.close()
    assert torch.equal(simulator.body.pos, before)


def test_one_simulation_a_process(simulator):
    with pytest.raises(BackendError, match="close the other"):
        make()
    simulator.close()
    make().close()


def test_a_scene_that_fails_leaves_room_for_another(gymapi, monkeypatch):
    monkeypatch.setattr(gymapi.Gym, "prepare_sim", lambda self, sim: False)
    with pytest.raises(BackendError, match="prepare_sim failed"):
        make()
    monkeypatch.undo()
    make().close()


def test_an_importer_that_names_other_bodies_is_noticed(gymapi, monkeypatch):
    monkeypatch.setattr(gymapi.Gym, "get_asset_dof_names", lambda self, asset: asset.dof_names[::-1])
    with pytest.raises(BackendError, match="the table has L_Hip_x"):
        make()


def test_an_evaluation_borrows_the_simulation_and_puts_it_back(gymapi, tmp_path):
    """Training goes on as after a snapshot, whatever the evaluation did in between."""
    from puffer_phc import build
    from puffer_phc.config import Config, TrainConfig
    from puffer_phc.resolve import resolve

    path = tmp_path / "motions.npz"
    save_motion_file(path, [swaying_clip(count, seed) for seed, count in enumerate((12, 9, 15))])
    options = EnvConfig(backend="isaac_gym", num_envs=2, motion_file=str(path))
    config = resolve(Config(env=options, train=TrainConfig(batch_size=16, device="cpu")), CPU)
    motions = build.load_motions(config, CPU)
    futures = []
    for evaluates in (False, True):
        env = build.make_environment(config, motions)
        evaluator = build.Evaluator(config, motions, trained=env)
        action = torch.full((2, env.env.action_size), 0.1)
        for _ in range(3):
            env.step(action)
        shown = env.observations.clone()
        if evaluates:
            assert len(evaluator(lambda observation, begins: torch.zeros(len(observation), 57)).names) == 3
        else:
            env.env.snapshot()
        torch.testing.assert_close(env.observations, shown, atol=0.0, rtol=0.0)
        env.step(action)
        futures.append(env.observations.clone())
        evaluator.close()
        env.close()
    assert torch.equal(*futures)


def check(simulator):
    from puffer_phc.sim.isaac_check import measures

    return {measure.assumption: measure for measure in measures(simulator)}


def test_the_check_finds_nothing_wrong_here(simulator):
    found = check(simulator)
    assert len(found) == 8 and all(measure.holds for measure in found.values()), found
    assert found["masses are the table's"].error < 1e-5


@pytest.mark.parametrize("wrong", ["angles", "frame", "centers", "origin", "mass", "gains"])
def test_the_check_sees_what_could_be_otherwise(gymapi, monkeypatch, wrong):
    """Simulators that do not do what the backend assumes."""
    read = gymapi.Gym._read_engine

    def altered(self, sim):
        read(self, sim)
        root, dofs, bodies = sim.engine_states
        vectors = dofs.reshape(-1, 3, 2)
        if wrong == "angles":
            vectors[..., 0] *= 1.0 + 0.1 * np.abs(vectors[..., [1, 2, 0], 0])
        if wrong == "frame":
            vectors[..., 1] = vectors[..., [1, 2, 0], 1]
        if wrong == "centers":
            bodies[1:, 7:10] += np.cross(bodies[1:, 10:13], np.full(3, 0.1))
        if wrong == "origin":
            root[1:, 0] += 10.0
            bodies.reshape(N, 24, 13)[1:, :, 0] += 10.0

    monkeypatch.setattr(gymapi.Gym, "_read_engine", altered)
    simulator = make()
    model = gymapi.Gym.live.model
    if wrong == "mass":
        model.body_mass[5] *= 1.1
    if wrong == "gains":
        model.actuator_gainprm[:, 0] *= 0.5
    failed = {name for name, measure in check(simulator).items() if not measure.holds}
    expected = {
        "angles": "joint coordinates are rotation vectors",
        "frame": "joint velocities are in the child's frame",
        "centers": "velocities are of the bodies' origins",
        "origin": "states are counted from each environment's middle",
        "mass": "masses are the table's",
        "gains": "drives reach oblique targets",
    }
    assert expected[wrong] in failed
    simulator.close()


def test_the_check_is_a_command(gymapi, tmp_path):
    done = run(str(REPOSITORY / "scripts" / "check_isaac_gym.py"), "--num-envs", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("holds") == 8


class TestStandIn:
    """What it must refuse for the other tests to mean something."""

    @pytest.fixture
    def gym(self, simulator, gymapi):
        return gymapi.acquire_gym()

    def test_calls_that_do_not_exist(self, gym, gymapi):
        with pytest.raises(AttributeError):
            gym.refresh_dof_state_tensors(gymapi.Gym.live)
        with pytest.raises(AttributeError):
            gymapi.SimParams().subsets = 2
        with pytest.raises(TypeError):
            gymapi.SimParams().substeps = 2.0
        with pytest.raises(TypeError):
            gym.simulate(gymapi.Gym.live, 1)

    def test_order(self, simulator, gym, gymapi):
        sim = gymapi.Gym.live
        with pytest.raises(gymapi.OrderError, match="refresh"):
            gym.refresh_dof_state_tensor(sim)
        with pytest.raises(gymapi.OrderError, match="after prepare_sim"):
            gym.create_env(sim, gymapi.Vec3(), gymapi.Vec3(), 1)
        sim.is_prepared = False
        with pytest.raises(gymapi.OrderError, match="before prepare_sim"):
            gym.acquire_dof_state_tensor(sim)
        sim.is_prepared = True

    def test_a_setter_counts_once(self, simulator, gym, gymapi):
        target = import_bridge().unwrap(torch.zeros(N, D))
        gym.set_dof_position_target_tensor(gymapi.Gym.live, target)
        with pytest.raises(gymapi.OrderError, match="twice"):
            gym.set_dof_position_target_tensor(gymapi.Gym.live, target)

    @pytest.mark.parametrize("wrong", [torch.zeros(N, D, dtype=torch.int32), torch.zeros(N, D - 1), torch.zeros(N * D)])
    def test_tensors(self, simulator, gym, gymapi, wrong):
        with pytest.raises(TypeError, match="needed"):
            gym.set_dof_position_target_tensor(gymapi.Gym.live, import_bridge().unwrap(wrong))

    def test_bodies_are_stale_after_a_setter(self, simulator, gym, gymapi):
        """As in PhysX: without our kinematics the first observation of an episode would be of the one before."""
        sim, bridge = gymapi.Gym.live, import_bridge()
        root = bridge.wrap(gym.acquire_actor_root_state_tensor(sim))
        simulator.step(torch.zeros(N, D))
        simulator.set_state(ALL, random_pose(2, height=9.0))
        ids = torch.arange(N, dtype=torch.int32)
        gym.set_actor_root_state_tensor_indexed(sim, bridge.unwrap(root), bridge.unwrap(ids), N)
        assert simulator.body.pos[:, 0, 2].min() > 5.0
        gym.refresh_actor_root_state_tensor(sim)
        gym.refresh_rigid_body_state_tensor(sim)
        assert root[:, 2].min() > 5.0 > STANDING_HEIGHT + 1.0 > simulator.body.pos[:, 0, 2].max()

    def test_memory_of_a_destroyed_simulation_is_poisoned(self, simulator, gym, gymapi):
        root = import_bridge().wrap(gym.acquire_actor_root_state_tensor(gymapi.Gym.live))
        simulator.close()
        assert root.isnan().all()

    def test_what_it_has_the_real_one_has_too(self, gymapi):
        """By the published type stubs: classes, attributes, calls and their number of arguments."""
        source = _stubs().read_text(encoding="utf-8").replace("def lambda(", "def lambda_(")
        real = {node.name: node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)}
        for name in (
            "SimParams",
            "PhysXParams",
            "PlaneParams",
            "AssetOptions",
            "Tensor",
            "RigidShapeProperties",
            "Transform",
            "Vec3",
            "Quat",
        ):
            known = {item.target.id for item in real[name].body if isinstance(item, ast.AnnAssign)}
            assert set(getattr(sys.modules["isaacgym.types_of_gymapi"], name).defaults()) <= known, name
        calls = {item.name: item.args for item in real["Gym"].body if isinstance(item, ast.FunctionDef)}
        own = [name for name in vars(gymapi.Gym) if not name.startswith("_") and callable(getattr(gymapi.Gym, name))]
        assert len(own) > 25
        for name in own:
            variable = calls[name].vararg is not None
            assert variable or getattr(gymapi.Gym, name).__code__.co_argcount == len(calls[name].args), name


def _stubs():
    try:
        return Path(str(metadata.distribution("isaacgym-stubs").locate_file("isaacgym-stubs/gymapi.pyi")))
    except metadata.PackageNotFoundError:
        return pytest.skip("isaacgym-stubs==1.1rc4 is not installed")


PLANTED = {
    "gym.add_ground(sim, _floor())": "gym.add_grounds(sim, _floor())",
    'gym.prepare_sim(sim), "prepare_sim"': 'gym.prepare_sim(sim, True), "prepare_sim"',
    "params.substeps = ": "params.sub_steps = ",
    "gymapi.DOMAIN_SIM": "gymapi.DOMAIN_WORLD",
    "self._gym.simulate(self._sim)": "self._gym.simulate()",
    "gym.acquire_dof_state_tensor(sim)": "gym.acquire_dof_states_tensor(sim)",
}
"""Mistakes of each kind: a call's name, its number of arguments, an attribute, a constant."""


def test_pyright_finds_no_error_in_the_adapter_and_every_planted_one(tmp_path):
    _stubs()
    pytest.importorskip("pyright", reason="pyright is not installed")
    expected = set()
    for name in ("isaac_scene", "isaac_gym", "isaac_loading"):
        source = (REPOSITORY / "puffer_phc" / "sim" / f"{name}.py").read_text(encoding="utf-8")
        (tmp_path / f"own_{name}.py").write_text(source, encoding="utf-8")
        for right, wrong in PLANTED.items():
            expected |= {(f"planted_{name}.py", number) for number, line in enumerate(source.splitlines()) if right in line}
            source = source.replace(right, wrong)
        (tmp_path / f"planted_{name}.py").write_text(source, encoding="utf-8")
    settings = f'{{"include": ["."], "typeCheckingMode": "basic", "extraPaths": ["{REPOSITORY}", "{REPOSITORY / "gymtorch"}"]}}'
    (tmp_path / "pyrightconfig.json").write_text(settings, encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "-p", str(tmp_path), "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    errors = [item for item in json.loads(done.stdout)["generalDiagnostics"] if item["severity"] == "error"]
    found = {(Path(item["file"]).name, item["range"]["start"]["line"]) for item in errors}
    assert len(expected) == len(PLANTED)
    assert {place for place in found if place[0].startswith("own_")} == set(), errors
    assert expected <= found


def run(*words, folders=(), cwd=None):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, cwd=cwd, env=environment(*folders))


SIMULATE = (
    "import torch; from puffer_phc.sim.isaac_gym import IsaacGymSimulator as S; from puffer_phc.humanoid.mjcf import PhysicsOptions as O"
)
CATCH = """
from puffer_phc.errors import BackendError
try: S(1, O(), torch.device("cpu"))
except BackendError as error: print(error)
"""


def test_torch_before_isaac_gym_is_explained(gymapi):
    said = run("-c", SIMULATE + CATCH).stdout
    assert said.count("\n") == 1 and "before torch" in said and "scripts/train.py" in said


def test_no_isaac_gym_is_explained(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            str(REPOSITORY / "scripts" / "train.py"),
            "--env.backend",
            "isaac_gym",
            "--train.data_dir",
            str(tmp_path / "runs"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**environment(), "PYTHONPATH": str(REPOSITORY)},
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    for word in ("developer.nvidia.com/isaac-gym", "Python 3.8", "pip install -e isaacgym/python"):
        assert word in done.stderr
    assert not (tmp_path / "runs").exists()


def test_an_isaac_gym_for_another_python_is_explained(tmp_path):
    """The real one's binary exists for Python 3.6 to 3.8; elsewhere its import fails with a RuntimeError."""
    broken = tmp_path / "isaacgym"
    broken.mkdir()
    (broken / "__init__.py").write_text("")
    (broken / "gymapi.py").write_text("raise RuntimeError('No gym module found for the active version of Python (3.11)')")
    script = str(REPOSITORY / "scripts" / "train.py")
    done = run(script, "--env.backend", "isaac_gym", "--train.data_dir", str(tmp_path / "runs"), folders=[tmp_path])
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "No gym module found" in done.stderr and "3.8" in done.stderr


def test_who_asks_for_isaac_gym(tmp_path):
    assert asked_backend([]) == "auto"
    assert asked_backend(["--env.backend", "isaac_gym", "--help"]) == "isaac_gym"
    ini = tmp_path / "own.ini"
    ini.write_text("[env]\nbackend = isaac_gym\n")
    assert asked_backend(["--config", str(ini)]) == "isaac_gym"
    assert asked_backend(["--config", str(ini), "--env.backend", "mujoco_cpu"]) == "mujoco_cpu"
    (tmp_path / "config.json").write_text('{"env": {"backend": "isaac_gym"}}')
    assert asked_backend(["--resume", str(tmp_path)]) == "isaac_gym"
    assert asked_backend(["--resume", str(tmp_path / "nowhere")]) is None
    assert asked_backend(["--no-such-option"]) is None


def test_it_trains_evaluates_in_between_and_evaluates_a_checkpoint(gymapi, tmp_path):
    """Two iterations through the real program, in a process where torch comes second; both evaluations on the one simulation."""
    motions = tmp_path / "motions.npz"
    save_motion_file(motions, [swaying_clip(12, seed) for seed in range(3)])
    script = str(REPOSITORY / "scripts" / "train.py")
    common = ["-m", str(motions), "--env.backend", "isaac_gym", "--policy.layer_sizes", "16", "--policy.hidden_size", "16"]
    sizes = ["--env.num_envs", "4", "--train.batch_size", "64", "--train.total_timesteps", "256", "--train.eval_interval", "1"]
    done = run(script, *common, *sizes, "--train.data_dir", "runs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run_dir,) = (tmp_path / "runs").iterdir()
    saved = load_checkpoint(run_dir / "latest.pt")
    assert saved.trainer["iteration"] >= 2
    assert all(tensor.isfinite().all() for tensor in saved.policy.values())
    assert "eval/success_rate_strict" in (run_dir / "metrics.jsonl").read_text()
    done = run(script, "--mode", "eval", "-c", str(run_dir / "latest.pt"), *common, "--eval.num_envs", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (table,) = tmp_path.glob("results_by_motion_*.tsv")
    assert len(table.read_text().splitlines()) == 4
