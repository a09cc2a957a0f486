"""`Publish`: what a pipeline has folded → a version of the registry."""

import uuid
from collections.abc import Iterator

from apache_beam import DoFn, ParDo, PTransform
from apache_beam.pvalue import PCollection
from apache_beam.typehints import with_input_types, with_output_types

from beam_ml.beam.transforms.train import Trained
from beam_ml.beam.transforms.windowing import many_in_or_out
from beam_ml.beam.versions.contents import facts_of, payloads_of, verdict_of
from beam_ml.beam.versions.lineage import begin, publish
from beam_ml.beam.wire.elements import Folded
from beam_ml.beam.wire.references import AnchorRef
from beam_ml.registry import Registry

__all__ = ["Publish"]


@with_input_types(Folded)
@with_output_types(int)
class _Publish(DoFn):
    def __init__(self, registry: str, name: str, parent: int | None, run_id: str) -> None:
        self._where, self._name, self._parent, self._run_id = registry, name, parent, run_id

    def process(self, element: Folded) -> Iterator[int]:
        registry, learner, refreshes = Registry(self._where), element.learner, element.refreshes
        head = registry.head(self._name)
        if head is not None and head.run_id == self._run_id:
            yield head.number  # a retried bundle
            return
        models = refreshes[-1].models if refreshes else {}
        parent = None if self._parent is None else registry.manifest(self._name, self._parent)
        number = registry.head_number(self._name) if parent is None else parent.number
        standing = begin(registry, self._name, parent, number, self._run_id)
        facts = facts_of(learner, (one.to_dict() for one in refreshes))
        verdict = verdict_of(refreshes, models, standing.verdict)
        yield publish(registry, self._name, standing, payloads_of(learner, models), verdict, facts)[0].number


class Publish(PTransform):
    """`Trained`, or a PCollection of Folded → the number of the version published, in one atomic step.

    Args:
        registry: path or URL.
        name: to publish under.
        start: the version the learner was grown from (`Train.start`); publishing fails when a newer one is there.

    >>> import tempfile, apache_beam as beam
    >>> from beam_ml import Batch, pca
    >>> from beam_ml.beam import Train, new_pipeline, run
    >>> pipeline, where = new_pipeline(), tempfile.mkdtemp()
    >>> train = Train(pca.Spec(n_features=1), {"first": pca.Components(n_components=1)})
    >>> out = pipeline | beam.Create([Batch.dense([[1.0], [3.0]])]) | train
    >>> _ = out | Publish(where, "shape") | beam.Map(print)
    >>> _ = run(pipeline)
    1
    >>> Registry(where).head("shape").progress["rows"]
    2
    """

    def __init__(self, registry: str, name: str, start: AnchorRef | None = None) -> None:
        super().__init__()
        parent = None if start is None or start.name != name else start.version
        self._arguments = (registry, name, parent)

    @many_in_or_out
    def expand(self, pcoll: PCollection | Trained) -> PCollection:
        """Publish what was folded, once, however often the bundle is retried."""
        given = pcoll.folded if isinstance(pcoll, Trained) else pcoll
        return given | ParDo(_Publish(*self._arguments, uuid.uuid4().hex))
