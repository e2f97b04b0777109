"""What a program is compiled for is read off its arguments."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from jaxdecode.target import PARTS, ROWS, Target, aimed, target_of

SEEN: list[Target] = []


@jax.jit
def observed(x):
    SEEN.append(target_of(x * 2))
    return x


def test_arrays_on_a_mesh_name_its_devices_while_they_are_traced() -> None:
    mesh = jax.make_mesh((1, 1), (ROWS, PARTS), (AxisType.Auto,) * 2, devices=jax.devices()[:1])
    x = jax.device_put(jnp.zeros((4, 2)), NamedSharding(mesh, PartitionSpec(ROWS)))
    observed(x)
    assert SEEN[-1].platform == "cpu" and SEEN[-1].mesh is not None
    assert SEEN[-1].devices == 1 and SEEN[-1].size(ROWS) == 1
    observed(jnp.zeros((4, 2)))
    assert SEEN[-1] == Target("cpu")
    assert target_of(x).mesh is not None and target_of(np.zeros(3), 1.0) == Target("cpu")


def test_an_aim_comes_before_arguments_and_retraces() -> None:
    tpu = Target("tpu", kernels="interpreted")
    x = jnp.zeros((3, 1))
    observed(x)
    traced = len(SEEN)
    with aimed(tpu):
        observed(x)
    assert SEEN[traced:] == [tpu]
    observed(x)
    assert len(SEEN) == traced + 1, "the program of the other target is still there"


def test_dimensions_are_split_where_devices_divide_them() -> None:
    mesh = AbstractMesh((2, 4), (ROWS, PARTS), axis_types=(AxisType.Auto,) * 2)
    target = Target("tpu", mesh)
    assert target.devices == 8 and target.size("other") == 1
    assert target.axis(PARTS, 8) == PARTS and target.axis(PARTS, 2) is None
    assert Target("tpu").axis(PARTS, 8) is None
    assert Target("tpu").has_kernels and not Target("tpu", kernels="none").has_kernels
    assert not Target("gpu").has_kernels and Target("tpu", kernels="interpreted").interpreted
