"""What the importer makes of an MJCF file, and the MuJoCo model that moves like it: three hinges of a body become one ball joint."""

import xml.etree.ElementTree as ET

import mujoco
import numpy as np

from isaacgym.types_of_gymapi import DOF_PROPERTIES

HAS_DISCRETE = hasattr(mujoco.mjtIntegrator, "mjINT_DISCRETE")
STEPS_PER_SIMULATE = 1 if HAS_DISCRETE else 4
"""Old MuJoCo has only integrators that need shorter steps for these gains."""


class ImportedHumanoid:
    """The bodies, hinges and shapes of an MJCF file."""

    def __init__(self, path, options):
        document = ET.parse(path).getroot()
        if document.find("compiler").get("angle") != "degree":
            raise ValueError("the stand-in reads degrees")
        (self.root,) = document.find("worldbody").findall("body")
        self.options = options
        self.bodies = list(self.root.iter("body"))
        self.body_names = [body.get("name") for body in self.bodies]
        if self.root.find("freejoint") is None or any(len(body.findall("geom")) != 1 for body in self.bodies):
            raise ValueError("the stand-in reads a free base and one shape a body")
        for body in self.bodies[1:]:
            hinges = body.findall("joint")
            if [hinge.get("axis") for hinge in hinges] != ["1 0 0", "0 1 0", "0 0 1"] or any(
                hinge.get("type") != "hinge" for hinge in hinges
            ):
                raise ValueError(f"{body.get('name')} does not hang on hinges about x, y and z")
        self.hinges = [hinge for body in self.bodies[1:] for hinge in body.findall("joint")]
        self.dof_names = [hinge.get("name") for hinge in self.hinges]

    def dof_properties(self):
        """As the importer fills them in; nobody knows what it does with motors."""
        found = np.zeros(len(self.hinges), DOF_PROPERTIES)
        found["hasLimits"] = True
        for name in ("stiffness", "damping", "armature"):
            found[name] = [float(hinge.get(name)) for hinge in self.hinges]
        ranges = np.radians([[float(bound) for bound in hinge.get("range").split()] for hinge in self.hinges])
        found["lower"], found["upper"] = ranges.T
        found["driveMode"] = self.options.default_dof_drive_mode
        found["velocity"], found["effort"] = 100.0, 500.0
        return found

    def model(self, params, plane, filters, dofs):
        """The MuJoCo model with the drives, shapes' filters, floor and timing that were set through the API."""
        mujoco_root = ET.Element("mujoco")
        ET.SubElement(mujoco_root, "compiler", angle="degree", autolimits="true")
        gravity = " ".join(map(repr, params.gravity.tuple()))
        ET.SubElement(
            mujoco_root,
            "option",
            timestep=repr(params.dt / STEPS_PER_SIMULATE),
            integrator="discrete" if HAS_DISCRETE else "implicitfast",
            iterations="5" if HAS_DISCRETE else "50",
            ls_iterations="20",
            gravity=gravity,
        )
        world = ET.SubElement(mujoco_root, "worldbody")
        soft = {"solref": "0.015 1", "solimp": "0.9 0.99 0.003", "margin": "0"}
        friction = f"{plane.static_friction} 0.05 0.05"
        ET.SubElement(
            world, "geom", name="floor", type="plane", size="0 0 1", condim="3", friction=friction, contype="0", conaffinity="1", **soft
        )
        world.append(self._body(self.root, dofs, soft))
        contact = ET.SubElement(mujoco_root, "contact")
        for first, bits in enumerate(filters):
            for second in range(first):
                if bits & filters[second]:
                    ET.SubElement(contact, "exclude", body1=self.body_names[second], body2=self.body_names[first])
        actuators = ET.SubElement(mujoco_root, "actuator")
        for index, dof in enumerate(dofs):
            self._drive(actuators, index, dof)
        return mujoco.MjModel.from_xml_string(ET.tostring(mujoco_root, encoding="unicode"))

    def _body(self, source, dofs, soft):
        body = ET.Element("body", name=source.get("name"), pos=source.get("pos"))
        if source is self.root:
            ET.SubElement(body, "freejoint")
        else:
            armature = dofs["armature"][self.dof_names.index(source.find("joint").get("name"))]
            ET.SubElement(body, "joint", name=source.get("name"), type="ball", armature=repr(float(armature)))
        (geom,) = source.findall("geom")
        ET.SubElement(body, "geom", {**geom.attrib, **soft, "condim": "1", "contype": "1", "conaffinity": "1"})
        for child in source.findall("body"):
            body.append(self._body(child, dofs, soft))
        return body

    def _drive(self, actuators, index, dof):
        """A position drive on one component of the joint's rotation vector; other modes do nothing here."""
        if dof["driveMode"] != 1:
            return
        kp, kd = float(dof["stiffness"]), float(dof["damping"])
        attributes = {"gainprm": repr(kp), "biasprm": f"0 {-kp!r} {-kd!r}", "biastype": "affine"}
        if dof["effort"] < 1e8:
            attributes["forcerange"] = f"{-dof['effort']} {dof['effort']}"
        gear = " ".join("1" if axis == index % 3 else "0" for axis in range(3)) + " 0 0 0"
        ET.SubElement(actuators, "general", joint=self.body_names[1 + index // 3], gear=gear, **attributes)
