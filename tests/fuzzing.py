"""Malformed input for every parser: mutated files, kept where they reach lines that none reached before.

``python tests/fuzzing.py COUNT [PARSER …] [--seed N]`` feeds each parser COUNT inputs and prints a line of JSON each. An input counts as a
failure where it raises anything but an error of ours, takes longer than ``LIMIT_SECONDS`` of the processor, wants more than
``LIMIT_BYTES`` of memory, writes, starts or reaches anything. The same count and seed give the same inputs. Failing inputs are kept in the
folder ``fuzz-failures`` where one stands.
"""

import argparse
import io
import json
import pickle
import random
import signal
import string
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
import torch
from mocap_files import amc_frame, amc_text, asf_text, bvh_text

from puffer_phc.config import Config
from puffer_phc.errors import PhcError
from puffer_phc.learn.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from puffer_phc.motion.amass import read_capture
from puffer_phc.motion.amass_selection import read_occlusions
from puffer_phc.motion.asf import read_asf
from puffer_phc.motion.asf_amc import load_amc
from puffer_phc.motion.bvh import load_bvh
from puffer_phc.motion.convert import read_index
from puffer_phc.motion.deepmimic import import_deepmimic
from puffer_phc.motion.file import Clip, load_motion_file, save_motion_file
from puffer_phc.motion.joint_map import MIXAMO, read_joint_map
from puffer_phc.options import parse_options

LIMIT_SECONDS = 5.0
"""Of the processor: beside other work the clock says nothing about an input."""
LIMIT_WAITING_SECONDS = 120.0
"""Of the clock, for what waits and works not."""
LIMIT_BYTES = 3 << 30
NUMBERS = [
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "23",
    "24",
    "25",
    "1e9",
    "1e308",
    "1e999",
    "-1e999",
    "nan",
    "inf",
    "1e-320",
    "0x10",
    "1_0",
    "999999999999",
    "-2147483649",
    "18446744073709551616",
]
NUMBERS += ["9" * 5000, "1e", ".", "-", "١", "\x00", " " * 300, "\n" * 300, "[" * 2000, "{" * 2000]
FORBIDDEN = ("os.system", "subprocess", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "socket.connect", "os.remove", "os.rename")
FORBIDDEN += ("os.mkdir", "os.chmod", "os.symlink", "os.link", "shutil", "pty", "ctypes.dlopen", "webbrowser")


class Parser(NamedTuple):
    """One way into the program."""

    suffix: str
    seeds: List[bytes]
    """Good inputs."""
    words: List[bytes]
    """What its inputs are made of."""
    read: Callable[[Path], Any]


class MisbehavedError(Exception):
    """An input did what none may do."""


def parsers(folder: Path) -> Dict[str, Parser]:
    """All parsers with good inputs."""
    (folder / "good.asf").write_text(asf_text())
    (folder / "good.bvh").write_text(_bvh())
    turns = [amc_frame(number, lfemur=(10.0 * number, 0.0, -20.0)) for number in range(1, 4)]
    saved = {name: _saved(folder, name) for name in ("motion.npz", "model.pt")}
    numbers = [word.encode() for word in NUMBERS]
    asf = b":units :root :bonedata :hierarchy begin end name direction length axis dof rx order orientation root lfemur head".split()
    bvh = b"HIERARCHY ROOT JOINT End Site { } OFFSET CHANNELS 3 6 Xrotation Yposition MOTION Frames: Frame Time: Hips Spine".split()
    ini = b"[env] [train] [policy] num_envs = auto True seed gamma batch_size layer_sizes ; # [DEFAULT] : motion_file % ${x}".split()
    flags = b"--mode --env.num_envs --train.seed -m -c --resume --config eval play auto = --policy.layer_sizes --help --debug".split()
    maps = b'"joints" "turns" "metres" "rest_frame" "skip_frames" "offsets" "name" "Hips" "Pelvis" [ ] { } , : null true'.split()
    indices = b'file fps skeleton , " ../../../x index.csv "" likely_scene_or_object'.split()
    zipped = [b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"\x93NUMPY", b"'shape': (1000000000000,)", b"'descr': '|O'", b"\xff" * 8]
    pickled = [
        b"c",
        b"R",
        b"(",
        b")",
        b"t",
        b"b",
        b"}",
        b"u",
        b"s",
        b"cos\nsystem\n",
        b"cbuiltins\nbytearray\n",
        b"\x8a\x05\xff\xff\xff\xff\x7f",
    ]
    return {
        "motion": Parser(".npz", [saved["motion.npz"]], zipped + numbers, load_motion_file),
        "legacy": Parser(".pkl", _legacy(), pickled + numbers, load_motion_file),
        "deepmimic": Parser(
            ".txt",
            [_deepmimic(wrap) for wrap in ("wrap", "none")],
            [*b'"Frames" "Loop" [ ] { } , : null'.split(), *numbers],
            import_deepmimic,
        ),
        "bvh": Parser(".bvh", [_bvh().encode()], bvh + numbers, load_bvh),
        "joint_map": Parser(".json", [_joint_map()], numbers + maps, lambda path: load_bvh(folder / "good.bvh", read_joint_map(path))),
        "index": Parser(".csv", [b"clip,file,skeleton,fps,likely_scene_or_object\n1,a.amc,a.asf,120,yes\n"], numbers + indices, read_index),
        "occlusions": Parser(".pkl", [_occlusions()], pickled + numbers, read_occlusions),
        "asf": Parser(".asf", [asf_text().encode()], asf + numbers, read_asf),
        "amc": Parser(".amc", [amc_text(turns).encode()], asf + numbers, lambda path: load_amc(path, folder / "good.asf")),
        "amass": Parser(".npz", [_amass()], zipped + numbers, read_capture),
        "checkpoint": Parser(".pt", [saved["model.pt"]], zipped + pickled + numbers, load_checkpoint),
        "ini": Parser(".ini", [_ini()], ini + numbers, lambda path: parse_options(["--config", str(path)])),
        "command_line": Parser(".arg", [b"--mode\ntrain\n--env.num_envs\n4\n--train.seed=3\n-m\nx.npz"], flags + numbers, _command_line),
    }


def _saved(folder: Path, name: str) -> bytes:
    if name == "motion.npz":
        quats = np.tile(np.float32([1, 0, 0, 0]), (5, 24, 1))
        save_motion_file(
            folder / name, [Clip(f"clip {i}", np.zeros((5, 3), np.float32), quats, 30.0, "source", "licence") for i in range(2)]
        )
    else:
        policy = {"a.weight": torch.zeros(3, 2), "b": torch.ones(2, dtype=torch.float64)}
        trainer = {"iteration": 3, "ranks": [{"random": torch.zeros(8, dtype=torch.uint8)}]}
        save_checkpoint(folder / name, Checkpoint({"env": {"num_envs": 4}}, policy, 3, 2, trainer, {"python": "3"}))
    return (folder / name).read_bytes()


def _legacy() -> List[bytes]:
    quats = np.tile([0.0, 0.0, 0.0, 1.0], (4, 24, 1))
    motions = {"walk": {"root_trans_offset": np.zeros((4, 3)), "pose_quat_global": quats, "fps": 30}}
    tensors = {"walk": {"root_trans_offset": torch.zeros(4, 3), "pose_quat_global": quats, "fps": 30}}
    stream = io.BytesIO()
    import joblib

    joblib.dump(motions, stream, compress=("zlib", 1))
    return [pickle.dumps(motions, protocol=2), pickle.dumps(motions, protocol=4), pickle.dumps(tensors, protocol=2), stream.getvalue()]


def _deepmimic(loop: str) -> bytes:
    pose = [0.0, 0.9, 0.0, 1.0, 0.0, 0.0, 0.0]
    for angles in (4, 4, 4, 1, 4, 4, 1, 4, 1, 4, 4, 1):
        pose += [1.0, 0.0, 0.0, 0.0] if angles == 4 else [0.1]
    return json.dumps({"Loop": loop, "Frames": [[0.1, *pose] for _ in range(4)]}).encode()


def _bvh() -> str:
    return bvh_text([((0.0, 95.0, 0.0), {"Spine": (5.0 * i, 0.0, 0.0)}) for i in range(3)])


def _joint_map() -> bytes:
    fields = {"joints": MIXAMO.joints, "turns": MIXAMO.turns, "metres": 0.01, "rest_frame": 0, "skip_frames": 1}
    return json.dumps({"name": "mine", **fields, "offsets": {"Neck": ["Spine1", 1.5]}}).encode()


def _occlusions() -> bytes:
    entries = {"0-KIT_3_a_poses": {"issue": "sitting", "idxes": [12, 13]}, "0-KIT_3_b_poses": {"issue": "stairs"}}
    return pickle.dumps({**entries, "0-KIT_3_c_poses": {"issue": "airborne", "idxes": np.arange(20, 30)}}, protocol=2)


def _amass() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, mocap_framerate=60.0, trans=np.zeros((6, 3)), poses=np.zeros((6, 156)), gender="male")
    return stream.getvalue()


def _ini() -> bytes:
    lines = "[base]", "env_name = x", "[env]", "num_envs = 4", "kp_scale = 1.5", "mirror_motions = True", "[policy]", "layer_sizes = 16 8"
    return "\n".join((*lines, "[train]", "seed = 3", "")).encode()


def _command_line(path: Path) -> Config:
    words = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    return parse_options([word for word in words if "\x00" not in word and word not in ("-h", "--help")])  # neither can come as an argument


def mutated(content: bytes, others: Sequence[bytes], words: Sequence[bytes], draw: random.Random) -> bytes:
    """``content`` with a few faults; now and then inside an archive that is otherwise whole."""
    if content[:2] == b"PK" and draw.random() < 0.7:
        found = _in_archive(content, words, draw)
        if found is not None:
            return found
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        content = _fault(content, others, words, draw)
    return content[: 1 << 20]


def _fault(content: bytes, others: Sequence[bytes], words: Sequence[bytes], draw: random.Random) -> bytes:
    start = draw.randrange(len(content) + 1)
    end = min(len(content), start + draw.choice((1, 1, 2, 4, 8, 64, 1024)))
    kind = draw.randrange(9)
    if kind == 0 and content:
        place = draw.randrange(len(content))
        return content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :]
    if kind == 1:
        return content[:start] + bytes(draw.randrange(256) for _ in range(end - start)) + content[end:]
    if kind == 2:
        return content[:start] + content[end:]
    if kind == 3:
        return content[:end] + content[start:end] * draw.choice((1, 2, 50)) + content[end:]
    if kind == 4:
        return content[:start]
    if kind == 5:
        other = draw.choice(others)
        place = draw.randrange(len(other) + 1)
        return content[:start] + other[place:]
    if kind == 6:
        return _other_word(content, words, draw)
    if kind == 7:
        return (
            content[:start]
            + struct.pack(draw.choice(("<I", "<Q", ">I")), draw.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 20)))
            + content[end:]
        )
    return content[:start] + draw.choice(words) + content[start:]


def _other_word(content: bytes, words: Sequence[bytes], draw: random.Random) -> bytes:
    """Another word in the place of one."""
    letters = (string.ascii_letters + string.digits + ".-+_").encode()
    start = draw.randrange(len(content) + 1)
    while start > 0 and content[start - 1] in letters:
        start -= 1
    end = start
    while end < len(content) and content[end] in letters:
        end += 1
    return content[:start] + draw.choice(words) + content[end:]


def _in_archive(content: bytes, words: Sequence[bytes], draw: random.Random) -> Optional[bytes]:
    """A zip archive with a fault in one of its members, and checksums that are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # it is damaged already
        return None
    if not members:
        return None
    chosen = draw.choice(sorted(members))
    members[chosen] = _fault(members[chosen], list(members.values()), words, draw)
    if draw.random() < 0.1:
        members.pop(draw.choice(sorted(members)))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, member in members.items():
            archive.writestr(zipfile.ZipInfo(name), member, archive.compression)  # without the time of day
    return stream.getvalue()


class Watch:
    """Looks at what a parser does: which of our lines it reaches, what it asks of the system, and for how long."""

    def __init__(self) -> None:
        self.is_on = False
        self.seen: Set[Tuple[str, int]] = set()
        self.new = 0
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGPROF, self._late)
        signal.signal(signal.SIGALRM, self._waiting)

    def _audit(self, event: str, arguments: Tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if writes or event.startswith(FORBIDDEN):
            raise MisbehavedError(f"{event} {arguments!r}"[:200])

    def _late(self, *_: Any) -> None:
        raise MisbehavedError(f"longer than {LIMIT_SECONDS} s of the processor")

    def _waiting(self, *_: Any) -> None:
        raise MisbehavedError(f"longer than {LIMIT_WAITING_SECONDS} s")

    def _trace(self, frame: Any, _event: str, _argument: Any) -> Any:
        return self._line if "puffer_phc" in frame.f_code.co_filename else None

    def _line(self, frame: Any, event: str, _argument: Any) -> Any:
        place = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and place not in self.seen:
            self.seen.add(place)
            self.new += 1
        return self._line

    def run(self, read: Callable[[Path], Any], path: Path) -> None:
        """Read ``path``; errors of ours are fine."""
        self.new = 0
        signal.setitimer(signal.ITIMER_PROF, LIMIT_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, LIMIT_WAITING_SECONDS)
        sys.settrace(self._trace)
        self.is_on = True
        try:
            read(path)
        except PhcError:
            pass
        finally:
            self.is_on = False
            sys.settrace(None)
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            signal.setitimer(signal.ITIMER_REAL, 0.0)


def limit_memory() -> None:
    """Refuse this process more than ``LIMIT_BYTES`` on top of what it has."""
    import resource

    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if Path("/proc/self/statm").exists() else 0
    if has:
        resource.setrlimit(resource.RLIMIT_AS, (has + LIMIT_BYTES, resource.RLIM_INFINITY))


def fuzz(name: str, parser: Parser, count: int, folder: Path, watch: Watch, seed: int) -> Dict[str, Any]:
    """Feed ``count`` inputs to a parser; the same each time for a ``seed``, whatever was fed to others before."""
    watch.seen.clear()
    draw = random.Random(f"{name} {seed}")
    corpus = list(parser.seeds)
    path = folder / f"input{parser.suffix}"
    failures: Dict[str, int] = {}
    started, slowest = time.monotonic(), 0.0
    for number in range(count):
        content = corpus[number] if number < len(parser.seeds) else mutated(draw.choice(corpus), corpus, parser.words, draw)
        path.write_bytes(content)
        begin = time.process_time()
        try:
            watch.run(parser.read, path)
        except BaseException as error:  # whatever it is, it is what is looked for
            if isinstance(error, KeyboardInterrupt):
                raise
            place = traceback.extract_tb(error.__traceback__)[-1]
            own = [entry for entry in traceback.extract_tb(error.__traceback__) if "puffer_phc" in entry.filename]
            where = own[-1] if own else place
            kind = f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {str(error)[:100]}"
            failures[kind] = failures.get(kind, 0) + 1
            if Path("fuzz-failures").is_dir():
                (Path("fuzz-failures") / f"{name}-{number}{parser.suffix}").write_bytes(content)
        slowest = max(slowest, time.process_time() - begin)
        if watch.new and len(content) < 1 << 16:
            corpus.append(content)
    return {
        "parser": name,
        "inputs": count,
        "seed": seed,
        "failures": failures,
        "corpus": len(corpus),
        "slowest_s": round(slowest, 2),
        "seconds": round(time.monotonic() - started),
    }


def main() -> int:
    """Fuzz the parsers that the command line names, all without names."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("count", type=int)
    arguments.add_argument("parsers", nargs="*")
    arguments.add_argument("--seed", type=int, default=1)
    asked = arguments.parse_args()
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    found = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        known = parsers(folder)
        watch = Watch()
        limit_memory()
        for name in asked.parsers or known:
            outcome = fuzz(name, known[name], asked.count, folder, watch, asked.seed)
            print(json.dumps(outcome), flush=True)
            found += len(outcome["failures"])
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
