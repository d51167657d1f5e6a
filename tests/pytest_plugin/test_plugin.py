"""The pytest plugin, seen from a project that uses it."""

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
PLUGIN = ("-p", "corum.pytest_plugin", "-p", "no:cacheprovider")


@pytest.mark.process
def test_examples_of_the_manual(pytester: pytest.Pytester) -> None:
    """Every example of docs/testing.md is a test file that passes, without a warning."""
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(examples) >= 5
    for number, example in enumerate(examples):
        pytester.makepyfile(**{f"test_example_{number}": example})
    result = pytester.runpytest_subprocess(*PLUGIN, "-W", "error", "-q")
    result.assert_outcomes(passed=sum(example.count("def test_") for example in examples))


def test_every_test_begins_empty(pytester: pytest.Pytester) -> None:
    """Keys, leases, users, roles and alarms of one test are not there in the next."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("turn", [1, 2])
        def test_traces(etcd_client, turn):
            assert len(etcd_client.range("", prefix=True)) == 0
            assert etcd_client.leases() == []
            assert etcd_client.auth.users() == []
            assert etcd_client.auth.roles() == []
            lease = etcd_client.lease(100)
            etcd_client.put("k", "v", lease=lease)
            etcd_client.auth.add_user("u", "p")
            etcd_client.auth.add_role("r")
        """
    )
    pytester.runpytest_subprocess(*PLUGIN).assert_outcomes(passed=2)


def test_shared_or_own(pytester: pytest.Pytester) -> None:
    """One member for all tests; an own one where marked, or for each with the option."""
    pytester.makepyfile(
        """
        import pytest

        seen = set()

        def test_one(etcd):
            seen.add(etcd.endpoint)

        def test_two(etcd):
            seen.add(etcd.endpoint)

        @pytest.mark.etcd(name="mine")
        def test_marked(etcd, etcd_client):
            seen.add(etcd.endpoint)
            assert etcd_client.members()[0].name == "mine"

        def test_how_many(request):
            own = request.config.getoption("--etcd-own-member")
            assert len(seen) == (3 if own else 2)
        """
    )
    pytester.runpytest_subprocess(*PLUGIN).assert_outcomes(passed=4)
    pytester.runpytest_subprocess(*PLUGIN, "--etcd-own-member").assert_outcomes(passed=4)


def test_an_etcd_elsewhere(pytester: pytest.Pytester) -> None:
    """With --etcd-endpoint no member is started; that one is used, and emptied."""
    import corum

    pytester.makepyfile(
        """
        def test_elsewhere(etcd, etcd_client):
            assert etcd.member is None
            assert etcd_client.get("left") is None
            etcd_client.put("here", "1")
        """
    )
    with corum.Member() as member, corum.Client(member.endpoint) as client:
        client.put("left", "over")
        result = pytester.runpytest_subprocess(*PLUGIN, f"--etcd-endpoint={member.endpoint}")
        result.assert_outcomes(passed=1)
        assert client.get("here") is not None
