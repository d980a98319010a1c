"""Operators sign in, send orders and ban identities with a browser wallet, in Debian's Chromium.

The wallet sends transactions to a real chain (anvil).
"""

from __future__ import annotations

from pathlib import Path

from blockota.approval.proposal import Proposal
from blockota.keys import dev_account
from blockota.vendor.example import CONFIGURATION
from tests.support.browser import Browser
from tests.support.browser_wallet import BrowserWallet
from tests.support.city import KINDS, MODEL
from tests.support.operations_room import RoomScene

OPERATOR, ADMINISTRATOR = (dev_account(KINDS[kind].account or 0) for kind in ("operator", "administrator"))
STRANGER = dev_account(9)


def opened(browser: Browser, scene: RoomScene, account: object, *, width: int = 1280) -> BrowserWallet:
    """Open a page in a new context whose wallet has an account."""
    wallet = BrowserWallet(account, scene.city.chain)  # type: ignore[arg-type]
    browser.open(width)
    browser.use(wallet)
    return wallet


def sign_in(browser: Browser, url: str) -> None:
    """Sign in with the wallet of the page."""
    browser.goto(f"{url}/sign-in")
    browser.ask("click", "#wallet-button")
    browser.ask("wait_text", "main", "Your key signed the sign-in text")
    browser.ask("click", "main button")


def test_an_operator_orders_with_a_wallet(scene: RoomScene, url: str, browser: Browser) -> None:
    """The wallet signs the sign-in text for this page and chain, and sends a group and an order to the chain."""
    wallet = opened(browser, scene, OPERATOR)
    sign_in(browser, url)
    assert "Operator" in browser.text("header")
    [(method, text)] = wallet.asked
    assert method == "personal_sign"
    assert text.startswith(f"{url} wants you to sign in with your Ethereum account:\n{OPERATOR.address}\n")
    assert f"\nChain ID: {scene.city.chain.chain_id}\n" in text

    browser.goto(f"{url}/prepare")
    browser.ask("fill", "form[action='/prepare/group'] input[name=name]", "by-wallet")
    browser.ask("select", "form[action='/prepare/group'] select", MODEL)
    browser.ask("click", "form[action='/prepare/group'] button")
    browser.ask("click", "#send-button")
    browser.ask("wait_text", "#send-state", "Sent: 0x")
    assert scene.city.orders.known_group("by-wallet").name == "by-wallet"

    browser.goto(f"{url}/prepare")
    browser.ask("select", "select[name=release]", "1337 acme acme-thermo2 1.1.0")
    browser.ask("fill", "input[name=group]", "by-wallet")
    browser.ask("click", "form[action='/prepare/order'] button")
    browser.ask("click", "#send-button")
    browser.ask("wait_text", "#send-state", "Sent: 0x")
    order = scene.city.orders.orders()[-1]
    assert (order.group, str(order.release.version), order.operator) == ("by-wallet", "1.1.0", KINDS["operator"].uuid)

    browser.goto(f"{url}/updates")
    browser.ask("wait_text", "#orders", "for by-wallet")
    assert [one for one, _ in wallet.asked] == ["personal_sign", "eth_sendTransaction", "eth_sendTransaction"]
    assert browser.ask("seen")[1] == []


def test_an_operator_changes_a_configuration(scene: RoomScene, url: str, browser: Browser, tmp_path: Path) -> None:
    """The form returns a proposal for the Safe.

    After the Safe has executed the proposal, the operator's wallet signs the order.
    """
    opened(browser, scene, OPERATOR)
    sign_in(browser, url)
    image = tmp_path / "berlin.bin"
    image.write_bytes(b"interval = 60\n".ljust(64, b"\xff"))
    form = "form[action='/prepare/configuration']"

    def fill() -> None:
        browser.goto(f"{url}/prepare")
        browser.ask("upload", f"{form} input[name=image]", str(image))
        values = {"product": CONFIGURATION.name, "version": "1.0.0", "group": "berlin", "reason": "measure less often"}
        for name, value in values.items():
            browser.ask("fill", f"{form} input[name={name}]", value)

    fill()
    assert [one for one in browser.axe() if one[0] in ("serious", "critical")] == []
    name, text = browser.ask("download", f"{form} button")
    assert name == "acme-thermo2-cfg-1.0.0.json"
    scene.city.execute(Proposal.from_json(text.encode()))
    fill()
    browser.ask("click", f"{form} button")
    browser.ask("wait_text", "main", "as their configuration")
    browser.ask("click", "#send-button")
    browser.ask("wait_text", "#send-state", "Sent: 0x")
    order = scene.city.orders.orders()[-1]
    assert (order.group, order.release.product, str(order.release.version)) == ("berlin", CONFIGURATION.name, "1.0.0")
    assert order.release.contract.lower() == scene.city.deployment.registries["configurations"].lower()


def test_what_the_person_rejects_does_not_happen(scene: RoomScene, url: str, browser: Browser) -> None:
    """A rejected sign-in opens no session, a rejected transaction is not sent, and the page reports each rejection."""
    wallet = opened(browser, scene, OPERATOR)
    wallet.is_rejecting = True
    browser.goto(f"{url}/sign-in")
    browser.ask("click", "#wallet-button")
    browser.ask("wait_text", "#wallet-state", "The sign-in failed: User rejected the request.")
    wallet.is_rejecting = False
    browser.ask("click", "#wallet-button")
    browser.ask("wait_text", "main", "Your key signed the sign-in text")
    browser.ask("click", "main button")

    browser.goto(f"{url}/prepare")
    browser.ask("fill", "form[action='/prepare/group'] input[name=name]", "rejected")
    browser.ask("click", "form[action='/prepare/group'] button")
    before = scene.city.chain.head().number
    wallet.is_rejecting = True
    browser.ask("click", "#send-button")
    browser.ask("wait_text", "#send-state", "Not sent: User rejected the request.")
    wallet.account = STRANGER
    browser.ask("click", "#send-button")
    browser.ask("wait_text", "#send-state", "Not sent: The requested account has not been authorized")
    assert scene.city.chain.head().number == before


def test_a_stranger_does_not_sign_in(scene: RoomScene, url: str, browser: Browser) -> None:
    """An account without a registered identity cannot sign in, and the page states the reason."""
    opened(browser, scene, STRANGER)
    browser.goto(f"{url}/sign-in")
    browser.ask("click", "#wallet-button")
    browser.ask("wait_text", "#wallet-state", "The sign-in failed: the registry does not list your account")


def test_an_administrator_bans_with_a_wallet(scene: RoomScene, url: str, browser: Browser) -> None:
    """An Administrator bans a gateway and an operator, who cannot sign in again; the page shows the bans."""
    opened(browser, scene, ADMINISTRATOR, width=390)
    sign_in(browser, url)
    for kind in ("gateway", "operator"):
        browser.goto(f"{url}/prepare")
        assert browser.ask("overflow") <= 0
        assert not [one for one in browser.axe() if one[0] in {"serious", "critical"}]
        browser.ask("select", "select[name=identity]", str(KINDS[kind].uuid))
        browser.ask("fill", "input[name=reason]", "left the city")
        browser.ask("click", "text=Check and prepare")
        browser.ask("click", "#send-button")
        browser.ask("wait_text", "#send-state", "Sent: 0x")
        assert browser.ask("overflow") <= 0
        assert not [one for one in browser.axe() if one[0] in {"serious", "critical"}]
        assert scene.city.identities.known_identity(KINDS[kind].uuid).status == "banned"
    browser.goto(f"{url}/network")
    browser.ask("wait_text", "#identities", "left the city")
    assert browser.ask("seen")[1] == []

    opened(browser, scene, OPERATOR)
    browser.goto(f"{url}/sign-in")
    browser.ask("click", "#wallet-button")
    browser.ask("wait_text", "#wallet-state", "The sign-in failed: your identity is banned")
