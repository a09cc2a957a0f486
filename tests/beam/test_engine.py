"""Pipelines of the engine: options that are parsed once are options all the same."""

import copy

import pytest
from apache_beam import Create
from apache_beam.options.pipeline_options import DirectOptions, SetupOptions, StandardOptions
from apache_beam.runners.worker.statesampler import StateSampler

from beam_ml.beam.engine import DEFAULT_RUNNER, new_pipeline, run
from beam_ml.beam.wire import coders


def test_views_of_options_share_what_is_set() -> None:
    options = new_pipeline(["--direct_num_workers=3", "--beam_plugin=some.module"]).options
    assert options.view_as(DirectOptions) is options.view_as(DirectOptions)
    assert options.view_as(StandardOptions).runner == DEFAULT_RUNNER
    assert options.view_as(DirectOptions).direct_num_workers == 3
    assert options.view_as(SetupOptions).beam_plugins == ["some.module", coders.__name__]
    options.view_as(DirectOptions).direct_num_workers = 2
    assert options.get_all_options()["direct_num_workers"] == 2
    other = copy.deepcopy(options)
    other.view_as(DirectOptions).direct_num_workers = 4
    assert (options.view_as(DirectOptions).direct_num_workers, other.get_all_options()["direct_num_workers"]) == (2, 4)


def test_two_pipelines_share_nothing() -> None:
    first, second = new_pipeline(), new_pipeline(["--direct_num_workers=5"])
    assert first.options.view_as(DirectOptions).direct_num_workers == 1
    assert second.options.view_as(DirectOptions).direct_num_workers == 5
    for pipeline in (first, second):
        assert run(pipeline).runner == DEFAULT_RUNNER


def test_the_end_of_a_bundle_is_not_held_up_by_the_thread_that_samples_its_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    start = StateSampler.start

    def watched(sampler: StateSampler) -> None:
        asked.append(sampler.sampling_period_ms)
        start(sampler)

    monkeypatch.setattr(StateSampler, "start", watched)
    pipeline = new_pipeline()
    _ = pipeline | Create([1])
    run(pipeline)
    assert asked
    assert max(asked) <= 5
