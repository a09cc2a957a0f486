"""Pipelines of the engine: options that are parsed once are options all the same."""

import copy

from apache_beam.options.pipeline_options import DirectOptions, SetupOptions, StandardOptions

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
