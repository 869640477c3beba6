import ast
import inspect

import pytest

import rl_core
from rl_core import errors


def test_every_public_name_exists_and_is_documented():
    assert sorted(rl_core.__all__) == rl_core.__all__
    for name in rl_core.__all__:
        assert inspect.getdoc(getattr(rl_core, name)), name


def test_type_checkers_see_the_names_that_are_imported_on_first_use():
    (block,) = (node for node in ast.parse(inspect.getsource(rl_core)).body if _is_for_type_checkers(node))
    seen = {alias.name: statement.module for statement in block.body for alias in statement.names}
    assert seen == {name: f"rl_core.{module}" for name, module in rl_core._MODULES.items()}
    assert sorted(seen) == rl_core.__all__
    assert set(rl_core.__all__) <= set(dir(rl_core))


def _is_for_type_checkers(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'rl_core' has no attribute 'PPOConfg'"):
        rl_core.PPOConfg  # noqa: B018


def test_public_classes_are_documented_method_by_method():
    for name in rl_core.__all__:
        thing = getattr(rl_core, name)
        if not inspect.isclass(thing):
            continue
        for attribute, value in vars(thing).items():
            if not attribute.startswith("_") and inspect.isfunction(value) and value.__module__.startswith("rl_core"):
                assert inspect.getdoc(value), f"{name}.{attribute}"


def test_every_error_is_an_rl_error():
    found = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]
    assert len(found) > 5
    assert all(issubclass(error, errors.RLError) for error in found)


def test_arguments_the_user_gave_wrong_are_value_errors():
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.UnsupportedSpaceError, ValueError)


def test_the_testing_package_offers_every_check():
    from rl_core import testing

    for name in ("check_algorithm", "check_connector", "check_env", "check_module", "trace_call"):
        assert callable(getattr(testing, name))
