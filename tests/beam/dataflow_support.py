"""What the job graph tests look at: a graph as the service gets it, and checks that give the sentences it breaks."""

import base64
import binascii
import bz2
import dataclasses
import zlib
from collections import Counter
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.coders import BytesCoder, PickleCoder, VarIntCoder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.runners.pipeline_context import PipelineContext
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagStateSpec,
    CombiningValueStateSpec,
    ReadModifyWriteStateSpec,
    TimerSpec,
    on_timer,
)

from beam_ml.core.batch import Batch

MAX_PAYLOAD = 16_384

URN = "beam:transform:{}:v1".format
PARDO, SHUFFLE, COMBINE, FLATTEN = map(URN, ("pardo", "group_by_key", "combine_per_key", "flatten"))
STANDARD = {f"beam:coder:{name}:v1" for name in ("bytes", "string_utf8", "kv", "varint", "iterable", "global_window")}
ROWS = {f"beam_ml:coder:{name}:v1" for name in ("block", "batch", "slice")}
NEEDS = "beam:requirement:pardo:{}:v1".format
UNBOUNDED = api.IsBounded.UNBOUNDED
CAPABLE = {"beam:protocol:sibling_workers:v1", "beam:protocol:worker_status:v1", "beam:coder:kv:v1"}


@dataclasses.dataclass(frozen=True)
class Graph:
    """A job as the service would get it."""

    proto: api.Pipeline
    options: PipelineOptions

    @property
    def parts(self) -> api.Components:
        return self.proto.components

    def leaves(self) -> list[api.PTransform]:
        """Transforms that do something: composites without parts, which give what they got, do not."""
        found = [one for one in self.parts.transforms.values() if one.spec.urn and not one.subtransforms]
        return [one for one in found if not set(one.outputs.values()) <= set(one.inputs.values()) or not one.outputs]

    def pardos(self) -> list[tuple[api.PTransform, api.ParDoPayload]]:
        return [(t, api.ParDoPayload.FromString(t.spec.payload)) for t in self.leaves() if t.spec.urn == PARDO]

    def urns(self, coder_id: str) -> set[str]:
        coder = self.parts.coders[coder_id]
        return {coder.spec.urn}.union(*map(self.urns, coder.component_coder_ids))

    def steps(self) -> dict[str, Counter[str]]:
        """Top-level step → how many transforms of each kind it comes to."""
        found: dict[str, Counter[str]] = {}
        for one in self.leaves():
            step = one.unique_name.split("/")[0]
            found.setdefault(step, Counter())[one.spec.urn.split(":")[2]] += 1
        return found

    def shuffled(self) -> list[tuple[str, str, str]]:
        """(step, key coder, value coder) of all that is brought together by key."""
        stateful = {one.unique_name for one, payload in self.pardos() if payload.state_specs}
        found = []
        for one in self.leaves():
            if one.spec.urn == SHUFFLE or one.unique_name in stateful:
                (source,) = one.inputs.values()
                coder = self.parts.coders[self.parts.pcollections[source].coder_id]
                assert coder.spec.urn == "beam:coder:kv:v1"
                found.append((one.unique_name, *coder.component_coder_ids))
        return found

    def shipped(self) -> Iterator[tuple[str, bytes]]:
        """What travels within the graph: functions, coders, window functions, unpacked."""
        for one in self.parts.transforms.values():
            packed = one.spec.payload
            if one.spec.urn == PARDO:
                packed = api.ParDoPayload.FromString(packed).do_fn.payload
            elif one.spec.urn == COMBINE:
                packed = api.CombinePayload.FromString(packed).combine_fn.payload
            yield one.unique_name, unpacked(packed)
        for name, coder in self.parts.coders.items():
            yield name, unpacked(coder.spec.payload)
        for name, windowing in self.parts.windowing_strategies.items():
            yield name, unpacked(windowing.window_fn.payload)


def unpacked(packed: bytes) -> bytes:
    """Beam compresses functions: ten thousand zeros would look small."""
    try:
        data = base64.b64decode(packed, validate=True)
        return bz2.decompress(data) if data[:3] == b"BZh" else zlib.decompress(data)
    except (binascii.Error, zlib.error):
        return packed


def foreign_coders(graph: Graph) -> list[str]:
    """Coders that are neither ours nor Beam's standard ones, wherever data or state passes.

    Left out: results that nobody takes up, which are never encoded, and the description of the source on its way
    within Beam's own read of an unbounded source.
    """
    parts = graph.parts
    taken = {source for one in graph.leaves() for source in one.inputs.values()}
    within = set()
    for one in parts.transforms.values():
        if one.spec.payload.startswith(b"<ReadFromUnboundedSource(PTransform)"):
            inner = [t for t in graph.leaves() if t.unique_name.startswith(f"{one.unique_name}/")]
            within |= {made for t in inner for made in t.outputs.values()} - set(one.outputs.values())
    used = {parts.pcollections[i].unique_name: parts.pcollections[i].coder_id for i in taken - within}
    for one in parts.transforms.values():
        if one.spec.urn == COMBINE:
            used[one.unique_name] = api.CombinePayload.FromString(one.spec.payload).accumulator_coder_id
    for one, payload in graph.pardos():
        for name, state in payload.state_specs.items():
            kind = getattr(state, state.WhichOneof("spec"))
            used[f"{one.unique_name}.{name}"] = getattr(kind, "coder_id", "") or kind.element_coder_id
    strange = ((name, graph.urns(coder) - STANDARD) for name, coder in used.items())
    return [f"{name}: {urn}" for name, urns in strange for urn in urns if not urn.startswith("beam_ml:coder:")]


def heavy(graph: Graph) -> list[str]:
    """Functions that carry data."""
    found = []
    for name, data in graph.shipped():
        if len(data) > MAX_PAYLOAD:
            found.append(f"{name}: {len(data)} bytes")
        found += [f"{name}: {kind.decode()}" for kind in (b"numpy", b"pyarrow") if kind in data]
    return found


def environment(graph: Graph, image: str) -> list[str]:
    """All steps run in one container of our image, able to do what is needed, with nothing to install at start."""
    found = []
    if len(graph.parts.environments) != 1:
        found.append(f"{len(graph.parts.environments)} environments")
    for one in graph.parts.environments.values():
        found += [] if one.urn == "beam:env:docker:v1" else [one.urn]
        named = api.DockerPayload.FromString(one.payload).container_image
        found += [] if named == image else [f"image {named}"]
        found += [f"not capable of {urn}" for urn in CAPABLE - set(one.capabilities)]
        found += [f"stages {artefact.role_payload!r}" for artefact in one.dependencies]
    return found


def odd_state(graph: Graph) -> list[str]:
    """State and timers beyond one value a key and event time."""
    found = []
    for one, payload in graph.pardos():
        kinds = {name: spec.WhichOneof("spec") for name, spec in payload.state_specs.items()}
        found += [f"{one.unique_name}.{n}: {kind}" for n, kind in kinds.items() if kind != "read_modify_write_spec"]
        domains = {name: spec.time_domain for name, spec in payload.timer_family_specs.items()}
        found += [f"{one.unique_name}.{n}: {d}" for n, d in domains.items() if d != api.TimeDomain.EVENT_TIME]
    return found


def loose_keys(graph: Graph) -> list[str]:
    """Keys whose equal values may differ in bytes: the service would take them for two."""
    context = PipelineContext(graph.parts)
    return [f"{step}: {key}" for step, key, _ in graph.shuffled() if not context.coders[key].is_deterministic()]


def shuffled_rows(graph: Graph) -> list[str]:
    """Rows that travel between workers."""
    return [f"{step}: {graph.urns(value) & ROWS}" for step, _, value in graph.shuffled() if graph.urns(value) & ROWS]


def odd_sources(graph: Graph) -> list[str]:
    """Unbounded sources that are no splittable DoFn, and steps of kinds that the service does not know."""
    unbounded = {i for i, p in graph.parts.pcollections.items() if p.is_bounded == UNBOUNDED}
    splittable = {one.unique_name for one, payload in graph.pardos() if payload.restriction_coder_id}
    found = []
    for one in graph.leaves():
        begins = unbounded & set(one.outputs.values()) and not unbounded & set(one.inputs.values())
        if begins and one.unique_name not in splittable:
            found.append(one.unique_name)
        if one.spec.urn not in (PARDO, SHUFFLE, FLATTEN, URN("impulse")):
            found.append(f"{one.unique_name}: {one.spec.urn}")
    return found


# Functions with and without faults, for graphs that the checks must find wrong.


class Carry(beam.DoFn):
    def __init__(self, value: object) -> None:
        self._value = value

    def process(self, element: Batch) -> Iterator[Batch]:
        yield element


class Hold(beam.DoFn):
    """The shape that is allowed: one value, and a timer by event time."""

    HELD = ReadModifyWriteStateSpec("held", BytesCoder())
    DUE = TimerSpec("due", TimeDomain.WATERMARK)

    def process(self, element, held=beam.DoFn.StateParam(HELD), due=beam.DoFn.TimerParam(DUE)):  # noqa: B008
        held.write(b"")

    @on_timer(DUE)
    def fire(self):
        return ()


class HoldPickled(Hold):
    HELD = ReadModifyWriteStateSpec("held", PickleCoder())

    def process(self, element, held=beam.DoFn.StateParam(HELD)):  # noqa: B008
        held.write(b"")


class HoldBag(Hold):
    HELD = BagStateSpec("held", BytesCoder())

    def process(self, element, held=beam.DoFn.StateParam(HELD)):  # noqa: B008
        held.add(b"")


class HoldSum(Hold):
    HELD = CombiningValueStateSpec("held", VarIntCoder(), sum)

    def process(self, element, held=beam.DoFn.StateParam(HELD)):  # noqa: B008
        held.add(1)


class HoldByClock(Hold):
    DUE = TimerSpec("due", TimeDomain.REAL_TIME)

    def process(self, element, due=beam.DoFn.TimerParam(DUE)):  # noqa: B008
        due.set(0)

    @on_timer(DUE)
    def fire(self):
        return ()
