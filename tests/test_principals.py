"""The textual form of principals, and who may be named in an access list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tosaic.errors import TosaicError
from tosaic.policy import CONTROLLERS, EVERYONE, Access
from tosaic.principals import ANONYMOUS, parse_principal, principal_text

# The management canister, the anonymous caller, an example of the specification, a well-known canister.
PUBLISHED = {
    b"": "aaaaa-aa",
    ANONYMOUS: "2vxsx-fae",
    bytes.fromhex("abcd01"): "em77e-bvlzu-aq",
    bytes.fromhex("00000000000000020101"): "ryjl3-tyaaa-aaaaa-aaaba-cai",
}


@pytest.mark.parametrize("principal", PUBLISHED)
def test_published_forms(principal: bytes) -> None:
    assert principal_text(principal) == PUBLISHED[principal]
    assert parse_principal(PUBLISHED[principal].upper()) == principal


@given(st.binary(max_size=29))
def test_text_and_back(principal: bytes) -> None:
    assert parse_principal(principal_text(principal)) == principal


@given(st.binary(min_size=1, max_size=29), st.data())
def test_any_changed_character_is_found(principal: bytes, data: st.DataObject) -> None:
    text = principal_text(principal)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c.lower() != text[at]))
    with pytest.raises(TosaicError, match="is not a principal"):
        parse_principal(text[:at] + other + text[at + 1 :])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must hold"),
        ("2vxsx-fa", "checksum is wrong"),
        ("2vxsx-fag", "checksum is wrong"),
        ("2vxsxfae", "it is written 2vxsx-fae"),
        ("2vxsx-f1e", "not base32"),
        ("2vxsx-fä", "not base32"),
        (principal_text(bytes(30)), "4 to 33 bytes"),
    ],
)
def test_says_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(TosaicError, match=reason):
        parse_principal(text)


def test_access_lists() -> None:
    assert Access.parse("public") == EVERYONE
    assert Access.parse("controllers") == CONTROLLERS
    both = Access.parse("em77e-bvlzu-aq, controllers,2vxsx-fae,2vxsx-fae")
    assert both == Access(controllers=True, principals=(ANONYMOUS, bytes.fromhex("abcd01")))
    assert str(both) == "controllers,2vxsx-fae,em77e-bvlzu-aq"
    assert Access.parse(str(both)) == both


@pytest.mark.parametrize("text", ["", "everyone", "controllers,", "public,controllers"])
def test_refuses_other_words(text: str) -> None:
    with pytest.raises(TosaicError):
        Access.parse(text)
