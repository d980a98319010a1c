// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IBlockOTA} from "../../contracts/interfaces/IBlockOTA.sol";
import {IFirmwareReplication} from "../../contracts/interfaces/IFirmwareReplication.sol";
import {ForgeTest, IWholeBlockOTA} from "./Forge.sol";

/// @title Handler for the invariant tests of FirmwareReplication: every action, and a model of the expected state
/// @notice Foundry calls these functions in random order. Each derives from the model whether the contract must revert
/// and with which error, calls the contract, and updates the model.
/// @dev The first two of `people` own BlockOTA in turns, the next five are brokers, the last is a stranger.
contract FirmwareReplicationHandler is ForgeTest {
    uint64 public constant VERSIONS = 3;

    IWholeBlockOTA public immutable record;
    IFirmwareReplication public immutable replication;

    address[8] public people;
    bytes32[2] public products = [bytes32("acme-thermo2"), "acme-pump"];
    address public vendor = address(this);

    /// @notice Ids in the order of acceptance.
    uint64[] public accepted;

    mapping(bytes32 product => mapping(uint64 version => bool)) public revoked;
    IFirmwareReplication.Agreement[] internal _agreements;

    constructor() {
        vm.warp(1_700_000_000);
        people = [address(this), address(1), address(2), address(3), address(4), address(5), address(6), address(7)];
        record = _deployBlockOTA(address(this));
        bytes memory arguments = abi.encode(address(record));
        replication = IFirmwareReplication(_deploy("FirmwareReplication", arguments));
        for (uint256 i = 0; i < products.length; ++i) _publish(products[i]);
        for (uint256 i = 0; i < 4; ++i) serve(i, 1, 700_001);
    }

    /// @notice Proposes, accepts and announces at once, so that a release sometimes has several replicas.
    function serve(uint256 who, uint256 which, uint256 seed) public {
        propose(who, which, seed);
        uint256 last = _agreements.length;
        if (last == 0 || !isOpen(_agreements[last - 1].status)) return;
        accept(1, 2 * last);
        announce(1, 2 * last, seed);
    }

    /// @notice Proposes an agreement on version 1 to 4, of which 4 was never published; the expiry may be now.
    function propose(uint256 who, uint256 which, uint256 ahead) public {
        address broker = people[_pick(who, 2, 6)];
        (bytes32 product, uint64 version) = _release(which);
        uint40 expiresAt = uint40(block.timestamp + _pick(ahead, 0, ahead % 8 == 0 ? 1 : 9 days));
        bytes memory refusal = _refusal(product, version);
        (uint64 earlier, bool expired) = openOf(broker, product, version);
        if (expiresAt <= block.timestamp) {
            refusal = abi.encodeWithSelector(
                IFirmwareReplication.ExpiryInPast.selector,
                expiresAt,
                block.timestamp
            );
        } else if (refusal.length == 0 && earlier != 0 && !expired) {
            bytes4 selector = IFirmwareReplication.AgreementStillOpen.selector;
            refusal = abi.encodeWithSelector(selector, earlier, agreement(earlier).expiresAt);
        }
        if (refusal.length == 0) {
            if (earlier != 0) _agreements[earlier - 1].status = IFirmwareReplication.Status.Withdrawn;
            _remember(broker, product, version, expiresAt);
        }
        _expect(broker, address(replication), abi.encodeCall(replication.propose, (product, version, expiresAt)), refusal);
    }

    /// @notice Accepts a proposal that may not exist, usually as the vendor.
    function accept(uint256 who, uint256 seed) public {
        (uint64 id, address sender) = (_id(seed), _vendorOr(who));
        IFirmwareReplication.Agreement memory shown = _shown(id, who);
        bytes memory refusal = _accepted(id, shown, sender);
        bytes memory call = abi.encodeCall(
            replication.accept,
            (id, shown.broker, shown.product, shown.version, shown.expiresAt)
        );
        _expect(sender, address(replication), call, refusal);
    }

    /// @notice Accepts none, one or two proposals, the second of which may be the first one again.
    function acceptAll(uint256 who, uint256 seed, uint256 count) external {
        IFirmwareReplication.Terms[] memory terms = new IFirmwareReplication.Terms[](_pick(count, 0, 2));
        address sender = _vendorOr(who);
        uint256 before = accepted.length;
        bytes memory refusal;
        if (terms.length == 0) refusal = abi.encodeWithSelector(IFirmwareReplication.NothingToAccept.selector);
        for (uint256 i = 0; i < terms.length; ++i) {
            uint64 id = _id(seed >> (64 * i));
            IFirmwareReplication.Agreement memory shown = _shown(id, who >> (64 * i));
            terms[i] = IFirmwareReplication.Terms(id, shown.broker, shown.product, shown.version, shown.expiresAt);
            if (refusal.length == 0) refusal = _accepted(id, shown, sender);
        }
        // All or none: a refusal of the second takes the first back.
        if (refusal.length != 0 && accepted.length > before) {
            _agreements[accepted[before] - 1].status = IFirmwareReplication.Status.Proposed;
            accepted.pop();
        }
        _expect(sender, address(replication), abi.encodeCall(replication.acceptAll, (terms)), refusal);
    }

    /// @notice Declines a proposal that may not exist, usually as the vendor.
    function decline(uint256 who, uint256 seed) external {
        (uint64 id, address sender) = (_id(seed), _vendorOr(who));
        IFirmwareReplication.Agreement memory shown = _shown(id, who);
        bytes memory refusal = _decision(id, shown, sender, IFirmwareReplication.Status.Proposed);
        if (refusal.length == 0) _agreements[id - 1].status = IFirmwareReplication.Status.Declined;
        bytes memory call = abi.encodeCall(
            replication.decline,
            (id, shown.broker, shown.product, shown.version, shown.expiresAt)
        );
        _expect(sender, address(replication), call, refusal);
    }

    /// @notice Terminates an agreement that may not exist, usually as the vendor.
    function terminate(uint256 who, uint256 seed) external {
        (uint64 id, address sender) = (_id(seed), _vendorOr(who));
        IFirmwareReplication.Agreement memory shown = _shown(id, who);
        bytes memory refusal = _decision(id, shown, sender, IFirmwareReplication.Status.Accepted);
        if (refusal.length == 0) _agreements[id - 1].status = IFirmwareReplication.Status.Terminated;
        bytes memory call = abi.encodeCall(
            replication.terminate,
            (id, shown.broker, shown.product, shown.version, shown.expiresAt)
        );
        _expect(sender, address(replication), call, refusal);
    }

    /// @notice Announces a URI that may be empty or too long, usually as the broker.
    function announce(uint256 who, uint256 seed, uint256 length) public {
        uint64 id = _id(seed);
        (IFirmwareReplication.Agreement memory terms, address sender) = (_ownRelease(id, who), _brokerOr(id, who));
        string memory uri = _uri(length);
        bytes memory refusal = _own(id, terms, sender);
        if (refusal.length == 0 && terms.status != IFirmwareReplication.Status.Accepted) refusal = _unfit(terms);
        if (refusal.length == 0) refusal = _overdue(terms);
        if (refusal.length == 0 && (bytes(uri).length == 0 || bytes(uri).length > 256)) {
            bytes4 selector = IFirmwareReplication.InvalidUriLength.selector;
            refusal = abi.encodeWithSelector(selector, bytes(uri).length, 256);
        }
        if (refusal.length == 0) _agreements[id - 1].uri = uri;
        bytes memory call = abi.encodeCall(replication.announce, (id, terms.product, terms.version, uri));
        _expect(sender, address(replication), call, refusal);
    }

    /// @notice Withdraws, usually as the broker.
    function withdraw(uint256 who, uint256 seed) external {
        uint64 id = _id(seed);
        (IFirmwareReplication.Agreement memory terms, address sender) = (_ownRelease(id, who), _brokerOr(id, who));
        bytes memory refusal = _own(id, terms, sender);
        if (refusal.length == 0 && !isOpen(terms.status)) refusal = _unfit(terms);
        if (refusal.length == 0) _agreements[id - 1].status = IFirmwareReplication.Status.Withdrawn;
        bytes memory call = abi.encodeCall(replication.withdraw, (id, terms.product, terms.version));
        _expect(sender, address(replication), call, refusal);
    }

    /// @notice Revokes a release in only a few calls, so that most releases remain active.
    function revoke(uint256 which) external {
        (bytes32 product, uint64 version) = _release(which);
        if (which % (version == 1 ? 64 : 8) != 0 || version == VERSIONS + 1 || revoked[product][version]) return;
        revoked[product][version] = true;
        vm.prank(vendor);
        record.revoke(product, version, "");
    }

    /// @notice Transfers BlockOTA to its other owner.
    function handOver() external {
        address next = vendor == people[0] ? people[1] : people[0];
        vm.prank(vendor);
        record.transferOwnership(next);
        vm.prank(next);
        record.acceptOwnership();
        vendor = next;
    }

    /// @notice Advances the time by a second, or by at most a day.
    function warp(uint256 time) external {
        vm.warp(block.timestamp + (time % 2 == 0 ? 1 : _pick(time, 0, 1 days)));
    }

    /// @notice Returns the expected state of all agreements.
    function agreements() external view returns (IFirmwareReplication.Agreement[] memory) {
        return _agreements;
    }

    /// @notice Returns the ids of the expected replicas of a release, the last accepted first.
    function serving(bytes32 product, uint64 version) external view returns (uint64[] memory ids) {
        ids = new uint64[](accepted.length);
        uint256 length = 0;
        for (uint256 i = accepted.length; i != 0; --i) {
            IFirmwareReplication.Agreement storage terms = _agreements[accepted[i - 1] - 1];
            if (terms.product == product && terms.version == version && _serves(terms)) ids[length++] = terms.id;
        }
        uint64[] memory all = ids;
        ids = new uint64[](length);
        for (uint256 i = 0; i < length; ++i) ids[i] = all[i];
    }

    /// @notice Returns whether an agreement was ever accepted.
    function wasAccepted(uint64 id) external view returns (bool found) {
        for (uint256 i = 0; i < accepted.length; ++i) found = found || accepted[i] == id;
    }

    /// @notice Returns the expected agreement; empty if it does not exist.
    function agreement(uint64 id) public view returns (IFirmwareReplication.Agreement memory terms) {
        if (id != 0 && id <= _agreements.length) terms = _agreements[id - 1];
    }

    /// @notice Returns a broker's last agreement on a release that did not end (0 for none), and whether it expired.
    function openOf(address broker, bytes32 product, uint64 version) public view returns (uint64, bool) {
        for (uint256 i = _agreements.length; i != 0; --i) {
            IFirmwareReplication.Agreement storage terms = _agreements[i - 1];
            if (terms.broker != broker || terms.product != product || terms.version != version) continue;
            if (isOpen(terms.status)) return (terms.id, terms.expiresAt <= block.timestamp);
        }
        return (0, false);
    }

    /// @notice Returns whether the status is proposed or accepted.
    function isOpen(IFirmwareReplication.Status status) public pure returns (bool) {
        return status == IFirmwareReplication.Status.Proposed || status == IFirmwareReplication.Status.Accepted;
    }

    function _serves(IFirmwareReplication.Agreement storage terms) private view returns (bool) {
        if (terms.status != IFirmwareReplication.Status.Accepted || bytes(terms.uri).length == 0) return false;
        return terms.expiresAt > block.timestamp && !revoked[terms.product][terms.version];
    }

    function _publish(bytes32 product) private {
        record.pairOem(product, "ACME", 0x0410, 0x0800_0000, 0x1_0000);
        IBlockOTA.Release[] memory releases = new IBlockOTA.Release[](VERSIONS);
        for (uint64 i = 0; i < VERSIONS; ++i) {
            (releases[i].product, releases[i].version, releases[i].size) = (product, i + 1, 60_000);
            (releases[i].sha256, releases[i].loadAddress) = (keccak256(abi.encode(i)), 0x0800_0000);
        }
        record.publish(releases);
    }

    function _remember(address broker, bytes32 product, uint64 version, uint40 expiresAt) private {
        IFirmwareReplication.Agreement storage terms = _agreements.push();
        terms.id = uint64(_agreements.length);
        terms.broker = broker;
        terms.product = product;
        terms.version = version;
        terms.expiresAt = expiresAt;
        terms.status = IFirmwareReplication.Status.Proposed;
    }

    function _release(uint256 which) private view returns (bytes32 product, uint64 version) {
        if (which % 3 != 0) return (products[0], 1);
        return (products[which % 2], uint64(_pick(which / 6, 1, VERSIONS + 1)));
    }

    /// @dev Returns an id: often an accepted one, sometimes 0 or one beyond the count.
    function _id(uint256 seed) private view returns (uint64) {
        if (seed % 2 != 0 && accepted.length != 0) return accepted[(seed / 2) % accepted.length];
        seed /= 2;
        return uint64(_pick(seed, 0, _agreements.length + 1));
    }

    function _vendorOr(uint256 who) private view returns (address) {
        return who % 8 == 0 ? people[(who / 8) % 8] : vendor;
    }

    function _brokerOr(uint64 id, uint256 who) private view returns (address) {
        address broker = agreement(id).broker;
        return who % 8 == 0 || broker == address(0) ? people[(who / 8) % 8] : broker;
    }

    function _uri(uint256 seed) private pure returns (string memory) {
        uint16[8] memory edges = [0, 1, 31, 32, 33, 255, 256, 257];
        bytes memory text = new bytes(seed % 2 == 0 ? edges[(seed / 2) % 8] : _pick(seed, 1, 200));
        for (uint256 i = 0; i < text.length; i += 16) text[i] = bytes1(uint8(_pick(seed, 33, 126)));
        return string(text);
    }

    function _refusal(bytes32 product, uint64 version) private view returns (bytes memory) {
        if (version > VERSIONS) {
            return abi.encodeWithSelector(IFirmwareReplication.ReleaseUnknown.selector, product, version);
        }
        if (!revoked[product][version]) return "";
        return abi.encodeWithSelector(IFirmwareReplication.ReleaseRevokedAlready.selector, product, version);
    }

    /// @dev Returns the vendor's arguments for an agreement; in one of eight calls, they differ from the record.
    function _shown(uint64 id, uint256 seed) private view returns (IFirmwareReplication.Agreement memory terms) {
        terms = agreement(id);
        if ((seed / 64) % 8 != 0) return terms;
        uint256 changed = (seed / 512) % 4;
        if (changed == 0) terms.broker = address(uint160(terms.broker) ^ 1);
        else if (changed == 1) ++terms.expiresAt;
        else _change(terms, changed);
    }

    /// @dev Returns the broker's arguments for an agreement; in one of eight calls, they name another release.
    function _ownRelease(uint64 id, uint256 seed) private view returns (IFirmwareReplication.Agreement memory terms) {
        terms = agreement(id);
        if ((seed / 64) % 8 == 0) _change(terms, seed / 512);
    }

    function _change(IFirmwareReplication.Agreement memory terms, uint256 seed) private pure {
        if (seed % 2 == 0) terms.product ^= bytes32(uint256(1));
        else terms.version ^= 1;
    }

    /// @dev Accepts a proposal in the model, or returns the refusal.
    function _accepted(
        uint64 id,
        IFirmwareReplication.Agreement memory shown,
        address sender
    ) private returns (bytes memory refusal) {
        refusal = _decision(id, shown, sender, IFirmwareReplication.Status.Proposed);
        if (refusal.length == 0) refusal = _overdue(shown);
        if (refusal.length == 0) refusal = _refusal(shown.product, shown.version);
        if (refusal.length == 0) {
            _agreements[id - 1].status = IFirmwareReplication.Status.Accepted;
            accepted.push(id);
        }
    }

    function _decision(
        uint64 id,
        IFirmwareReplication.Agreement memory shown,
        address sender,
        IFirmwareReplication.Status needed
    ) private view returns (bytes memory) {
        if (shown.id == 0) return abi.encodeWithSelector(IFirmwareReplication.AgreementUnknown.selector, id);
        if (sender != vendor) {
            return abi.encodeWithSelector(IFirmwareReplication.NotTheVendor.selector, sender, vendor);
        }
        if (!_isRecorded(shown)) return _differs(shown.id);
        return shown.status == needed ? bytes("") : _unfit(shown);
    }

    function _own(
        uint64 id,
        IFirmwareReplication.Agreement memory shown,
        address sender
    ) private view returns (bytes memory) {
        if (shown.id == 0) return abi.encodeWithSelector(IFirmwareReplication.AgreementUnknown.selector, id);
        address broker = agreement(shown.id).broker;
        if (sender != broker) {
            return abi.encodeWithSelector(IFirmwareReplication.NotTheBroker.selector, shown.id, sender, broker);
        }
        return _isRecorded(shown) ? bytes("") : _differs(shown.id);
    }

    function _isRecorded(IFirmwareReplication.Agreement memory shown) private view returns (bool) {
        return keccak256(abi.encode(shown)) == keccak256(abi.encode(agreement(shown.id)));
    }

    function _differs(uint64 id) private view returns (bytes memory) {
        IFirmwareReplication.Agreement memory terms = agreement(id);
        bytes4 selector = IFirmwareReplication.AgreementDiffers.selector;
        return abi.encodeWithSelector(selector, id, terms.broker, terms.product, terms.version, terms.expiresAt);
    }

    function _unfit(IFirmwareReplication.Agreement memory terms) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IFirmwareReplication.WrongAgreementStatus.selector, terms.id, terms.status);
    }

    function _overdue(IFirmwareReplication.Agreement memory terms) private view returns (bytes memory) {
        if (terms.expiresAt > block.timestamp) return "";
        return abi.encodeWithSelector(IFirmwareReplication.AgreementExpired.selector, terms.id, terms.expiresAt);
    }
}
