"""How many threads a job gets of the machine's cores."""

from types import SimpleNamespace as Of

import pytest

from hidden_rule.core.compat_snakemake import shared_threads

CASES = [  # cores, --resources gpu=N, whether jobs run elsewhere; threads of at most 8
    (2, 1, False, 2),
    (2, 2, False, 1),
    (1, 2, False, 1),  # never none
    (16, 4, False, 4),
    (15, 4, False, 3),
    (64, 4, False, 8),
    (64, None, False, 8),  # no limit: Snakemake itself bounds threads by the cores
    (None, 4, False, 8),
    (4, 4, True, 8),  # the cores of a login node say nothing
    (4, 4, None, 1),  # before Snakemake knows where jobs run
]


@pytest.mark.parametrize(("cores", "limit", "elsewhere", "threads"), CASES)
def test_jobs_side_by_side_share_the_cores(cores, limit, elsewhere, threads):
    workflow = Of(
        global_resources={} if limit is None else {"gpu": limit},
        resource_settings=Of(cores=cores),
        executor_plugin=None if elsewhere is None else Of(common_settings=Of(non_local_exec=elsewhere)),
    )
    assert shared_threads(workflow, "gpu", most=8) == threads
