"""One step for any selection of many assets: what `dg.multi_asset` makes, at less cost.

Dagster (1.13) makes each asset that a step depends on an input of its operation. When it builds a
job, of which a code location has several, it looks at all checks of the step anew for each input:
the time of a code location grew with the square of its tables. An input does nothing but let the
step wait for another one of the same run; what the graph shows comes from the specifications. So
an operation of ours has only the inputs that it is told of. `multi_asset` also looks each check's
asset up in a list.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dagster as dg

_ASSET = dg.Out(dg.Nothing, is_required=False)
_CHECK = dg.Out(is_required=False)


def step(
    function: Callable[..., Any],
    *,
    name: str,
    specs: Sequence[dg.AssetSpec],
    check_specs: Iterable[dg.AssetCheckSpec],
    after: Iterable[dg.AssetKey] = (),
    **operation: Any,
) -> dg.AssetsDefinition:
    """The assets, made by `function`. after: where a run makes any of these, it does so before."""
    assets = {spec.key.to_python_identifier(): spec.key for spec in specs}
    # the check `lag` of a table `orders` is not the table `orders_lag`
    checks = {f"check__{spec.get_python_identifier()}": spec for spec in check_specs}
    inputs = {f"after__{key.to_python_identifier()}": key for key in after}
    make = dg.op(
        name=name,
        ins=dict.fromkeys(inputs, dg.In(dg.Nothing)),
        out=dict.fromkeys(assets, _ASSET) | dict.fromkeys(checks, _CHECK),
        **operation,
    )
    return dg.AssetsDefinition(
        node_def=make(function),
        keys_by_input_name=inputs,
        keys_by_output_name=assets,
        specs=specs,
        check_specs_by_output_name=checks,
        can_subset=True,
    )
