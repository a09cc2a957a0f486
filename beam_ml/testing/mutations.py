"""Which law must notice which fault: proof that the laws can fail.

Every mutation works on any algorithm, by `dataclasses.replace` of one of its functions or classes.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from beam_ml.core.algorithm import Algorithm, Law, LawKind
from beam_ml.core.spec import Spec
from beam_ml.testing import faults, faults_change, faults_gathering, faults_given, faults_growth, faults_removal
from beam_ml.testing.faults import Mutate
from beam_ml.testing.laws import applies

__all__ = ["MUTATIONS", "Mutation", "mutations_for"]


def _always(law: Law) -> bool:
    return law is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Mutation:
    """One way to break an algorithm.

    Attributes:
        law: the law that must notice.
        text: what is broken.
        mutate: returns the broken algorithm.
        breaks: whether this breaks an algorithm of such a law at all.
        columns: whether it changes, or goes by, single columns or widths, as only rows that are no series have them.
    """

    law: str
    text: str
    mutate: Mutate
    breaks: Callable[[Law], bool] = _always
    columns: bool = False


def mutations_for(algorithm: Algorithm, spec: Spec) -> Iterator[Mutation]:
    """Return the mutations that break an algorithm of this spec, for every law it declares."""
    law = algorithm.law(spec)
    series = spec.feature_rule == "series"
    return (m for m in MUTATIONS if applies(m.law, algorithm, spec) and m.breaks(law) and not (m.columns and series))


MUTATIONS: tuple[Mutation, ...] = (
    Mutation("identity", "merging with an empty one halves", faults.replaced(merge=faults.empties_halve)),
    Mutation("commutative", "the right side counts half", faults.replaced(merge=faults.right_counts_half)),
    Mutation("associative", "every merge halves", faults.replaced(merge=faults.each_merge_forgets)),
    Mutation("conservation", "the heavier side wins", faults.replaced(merge=faults.heavier_wins)),
    Mutation("conservation", "rows count half", faults.replaced(accumulate=faults.weights_mapped(lambda w: w * 0.5))),
    Mutation(
        "conservation", "five features count half", faults.replaced(accumulate=faults_given.half_at(5)), columns=True
    ),
    Mutation("homomorphism", "rows are centred by batch", faults.replaced(accumulate=faults.batch_centred)),
    Mutation("state is partial", "fold forgets", faults.replaced(fold=faults.fold_forgets)),
    Mutation("sketch bound", "the lighter side is forgotten", faults.replaced(merge=faults.lighter_forgotten)),
    Mutation("guarantee", "the lighter side is forgotten", faults.replaced(merge=faults.lighter_forgotten)),
    Mutation("guarantee", "rows are centred by batch", faults.replaced(accumulate=faults.batch_centred)),
    Mutation("bounded", "what is merged is kept", faults.replaced(merge=faults_given.keeps_what_it_merges)),
    Mutation(
        "copies", "rows count alike", faults.replaced(accumulate=faults.weights_mapped(faults_given.weights_levelled))
    ),
    Mutation("forgotten", "both sides count alike", faults.replaced(merge=faults_given.sides_count_alike)),
    Mutation("any width", "one feature counts half", faults.replaced(accumulate=faults_given.half_at(1)), columns=True),
    Mutation("nameless rows", "rows must have places", faults.replaced(accumulate=faults_given.needs_places)),
    Mutation("full precision", "rounded to float32", faults.replaced(accumulate=faults_given.single_precision)),
    Mutation("hashed", "the seed is ignored", faults.replaced(accumulate=faults_given.ignores_seed)),
    Mutation("hashed", "places are ignored", faults.replaced(accumulate=faults_given.ignores_places)),
    Mutation("measures weigh", "rows count alike", faults.models_mapped(faults_given.measures_unweighted)),
    Mutation("order-free", "the last bits show the order", faults.replaced(merge=faults.order_shows)),
    Mutation("order-free", "rows are aged on arrival", faults.replaced(accumulate=faults_gathering.ages_on_arrival)),
    Mutation("capacity", "four times as much is kept", faults_gathering.keeps(4.0)),
    Mutation("capacity", "half of the room is left", faults_gathering.keeps(0.5)),
    Mutation("capacity", "what is left out is not counted", faults.replaced(merge=faults_gathering.counts_the_kept)),
    Mutation("thinned rows", "kept rows stand for themselves", faults_gathering.forgets_the_threshold),
    Mutation("learns", "later folds only count", faults.replaced(fold=faults_gathering.only_counts)),
    Mutation("anchors", "any anchor is accepted", faults.endless_anchor, lambda law: not law.across_anchors),
    Mutation(
        "anchors", "rows go on waiting", faults.replaced(settle=faults_removal.waits), lambda law: law.across_anchors
    ),
    Mutation("anchors", "claims to add across anchors", faults.claims_to_add, lambda law: not law.across_anchors),
    Mutation(
        "anchors",
        "the lighter side is forgotten",
        faults.replaced(merge=faults.lighter_forgotten),
        lambda law: law.across_anchors,
    ),
    Mutation("shards", "runs are averaged", faults.replaced(fold=faults.folds_by("mean"))),
    Mutation("shards", "runs are summed", faults.replaced(fold=faults.folds_by("sum"))),
    Mutation("shards", "no line search", faults.replaced(fold=faults.folds_by("curvature"))),
    Mutation("decay", "forgets too little", faults.replaced(scale=faults.forgets_too_little)),
    Mutation("decay", "never forgets", faults.replaced(scale=faults.never_forgets)),
    Mutation("half-life", "forgets too little", faults.replaced(scale=faults.forgets_too_little)),
    Mutation("half-life", "never forgets", faults.replaced(scale=faults.never_forgets)),
    Mutation(
        "zero weight",
        "weight 0 counts as 1",
        faults.replaced(accumulate=faults.weights_mapped(lambda w: np.where(w > 0, w, 1.0))),
    ),
    Mutation("integer weight", "weights are squared", faults.replaced(accumulate=faults.weights_mapped(np.square))),
    Mutation("purity", "accumulate writes into the batch", faults.replaced(accumulate=faults.writes_into_batch)),
    Mutation("purity", "merge adds in place", faults.replaced(merge=faults.writes_into_partial)),
    Mutation("ownership", "a partial keeps the batch's memory", faults.replaced(accumulate=faults.keeps_batch_memory)),
    Mutation("growth", "rows count half", faults.replaced(grow=faults_growth.grows(shares=False))),
    Mutation("growth", "what was given changes", faults.replaced(grow=faults_growth.grows(shares=True))),
    Mutation("removal", "what is removed stays", faults.replaced(remove=faults_removal.stays)),
    Mutation("removal", "the rest looks like the whole", faults.replaced(remove=faults_removal.thinned)),
    Mutation("removal", "more than there is may be removed", faults.replaced(remove=faults_removal.unchecked)),
    Mutation(
        "removal",
        "the anchor is forgotten",
        faults.replaced(grown_from=faults_removal.elsewhere),
        lambda law: law.across_anchors,
    ),
    Mutation("determinism", "every call differs", faults.replaced(accumulate=faults.different_each_time)),
    Mutation(
        "stability",
        "merge doubles the axes",
        faults.replaced(merge=faults.widens),
        lambda law: law.kind is not LawKind.GATHERED,  # gathered rows have no axis of a fixed length
    ),
    Mutation("stability", "fold returns another class", faults.replaced(fold=faults.gives_another_class)),
    Mutation("codec", "the record names other classes", faults.foreign_classes),
    Mutation("resume", "memory beside the arrays", faults.replaced(fold=faults.remembers_elsewhere)),
    Mutation("fingerprint", "one fingerprint for all", faults.replaced(spec=faults.one_fingerprint)),
    Mutation("ships small", "merge is a lambda", faults.replaced(merge=faults.not_importable)),
    Mutation("no recompilation", "compiles per length", faults.replaced(accumulate=faults.compiles_per_length)),
    Mutation("derive is pure", "derive works in place", faults.models_mapped(faults.derive_writes)),
    Mutation("predictions", "relative to the batch", faults.models_mapped(faults.batch_relative)),
    Mutation("predictions", "measures relative to the batch", faults.models_mapped(faults.measure_ignores_weight)),
    Mutation(
        "same rows, same model",
        "every call differs",
        faults.replaced(accumulate=faults.different_each_time, grow=lambda algorithm: None),
    ),
    Mutation(
        "follows moving inputs",
        "what is unlike is dropped",
        faults.replaced(fold=faults_change.drops_the_unlike),
        columns=True,
    ),
    Mutation(
        "follows moving inputs",
        "new windows count a tenth",
        faults.replaced(fold=faults_change.counts_a_part),
        lambda law: law.drift is not None,
    ),
    Mutation(
        "follows a jump of the ratio", "what is unlike is dropped", faults.replaced(fold=faults_change.drops_the_unlike)
    ),
    Mutation(
        "follows turning slopes", "what is unlike is dropped", faults.replaced(fold=faults_change.drops_the_unlike)
    ),
    Mutation("follows a feature that awakes", "scaled by rounding", faults_change.scaled_by_noise, columns=True),
    Mutation("unit rows", "learned at a ninth of their length", faults_change.any_scale(1.0 / 9.0)),
    Mutation(
        "far outlier", "scales are spoilt forever", faults_change.wrecked_by(faults_change.lies_far), columns=True
    ),
    Mutation("one fold", "labels go to other rows", faults_change.labels_mixed),
    Mutation(
        "cold shards",
        "every worker centres alone",
        faults_change.learned_as(faults_change.shards_centred),
        columns=True,
    ),
    Mutation("merged regions", "the first is kept", faults.replaced(merge_states=faults_change.takes_the_first)),
    Mutation("one label only", "scales are spoilt forever", faults_change.wrecked_by(faults_change.one_label)),
    Mutation(
        "windows of one row", "scales are spoilt forever", faults_change.wrecked_by(faults_change.one_row), columns=True
    ),
    Mutation(
        "odd weights",
        "weight 0 counts as 1",
        faults_change.accumulates(lambda batch: batch.replace(weight=np.where(batch.weights > 0, batch.weights, 1.0))),
    ),
    Mutation(
        "missing for a day", "scales are spoilt forever", faults_change.wrecked_by(faults_change.few_rows), columns=True
    ),
)
"""Every way of breaking an algorithm; each law has at least one."""
