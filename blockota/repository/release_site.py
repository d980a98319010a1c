"""The site of a repository.

The site serves the releases that the chain allows, and reads the chain again periodically.
"""

from __future__ import annotations

from collections.abc import Iterator

from blockota.repository.catalogue import Catalogue
from blockota.repository.responder import Responder
from blockota.repository.site import Refresh
from blockota.repository.tokens import Tokens

_TOKENS_SECONDS = 10.0
_STORE_SECONDS = 1.0


class ReleaseSite:
    """The releases of a repository.

    Args:
        catalogue: the files to serve.
        tokens: the accepted bearer tokens; None serves every client.
    """

    def __init__(self, catalogue: Catalogue, tokens: Tokens | None = None) -> None:
        self._catalogue, self._tokens = catalogue, tokens
        responder = Responder(catalogue, tokens)
        self.answer, self.holder = responder.answer, responder.holder
        self.stream, self.explain = catalogue.blocks.stream, catalogue.explain

    def refreshes(self) -> Iterator[Refresh]:
        """Yield the periodic reads of the chain, the store and the token file.

        Each read is independent: a slow node does not delay the reads of store and token file.
        """
        catalogue, tokens = self._catalogue, self._tokens

        def read_chain_and_store() -> str:
            catalogue.refresh()
            return catalogue.trouble

        yield Refresh("chain", read_chain_and_store, lambda: catalogue.pause)
        yield Refresh("store", lambda: catalogue.store_trouble, lambda: _STORE_SECONDS)
        if tokens:

            def read_tokens() -> str:
                tokens.reload()
                return tokens.trouble

            yield Refresh("tokens", read_tokens, lambda: min(catalogue.refresh_seconds, _TOKENS_SECONDS))
