"""What the owner of a canister decides about it: who may call its methods, where its weights are and who gets them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tosaic.errors import TosaicError
from tosaic.principals import parse_principal, principal_text

_EVERYONE, _CONTROLLERS = "public", "controllers"


@dataclass(frozen=True)
class Access:
    """Who may call: everyone, or those who control the canister when they call and these principals."""

    everyone: bool = False
    controllers: bool = False
    principals: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Access:
        """`public`, or a list of principals and the word `controllers`, separated by commas.

        Raises:
            TosaicError: a word is neither of these.
        """
        words = [word.strip() for word in text.split(",")]
        if _EVERYONE in words and len(words) > 1:
            raise TosaicError(
                f"the access '{text}' names others besides {_EVERYONE}", f"give {_EVERYONE} alone"
            )
        if words == [_EVERYONE]:
            return EVERYONE
        principals = {parse_principal(word) for word in words if word != _CONTROLLERS}
        return cls(controllers=_CONTROLLERS in words, principals=tuple(sorted(principals)))

    def not_everyone(self, purpose: str) -> Access:
        """The same access. Raises TosaicError where it is everyone's, as it must not be for this purpose."""
        if self.everyone:
            raise TosaicError(f"not everyone may {purpose}", f"name principals, or {_CONTROLLERS}")
        return self

    def __str__(self) -> str:
        """What `parse` takes, in canonical order."""
        if self.everyone:
            return _EVERYONE
        names = [principal_text(principal) for principal in self.principals]
        return ",".join([_CONTROLLERS] * self.controllers + names)


EVERYONE = Access(everyone=True)
CONTROLLERS = Access(controllers=True)


class Weights(StrEnum):
    """Where the weights are: in the module, or uploaded (or fetched) after its installation."""

    MODULE = "module"
    UPLOADED = "uploaded"


@dataclass(frozen=True)
class Policy:
    """What the owner of a canister decides: `access` is for inference; uploads and upgrades are the controllers'.

    `limit_instructions` is what a message may take, or None for what the network allows. `weights` says where the
    weights are, None: in the module if they fit. Unless they are private, who may infer may also read uploaded weights.
    """

    access: Access = EVERYONE
    limit_instructions: int | None = None
    weights: Weights | None = None
    weights_private: bool = True


DEFAULT_POLICY = Policy()
