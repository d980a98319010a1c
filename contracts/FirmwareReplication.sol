// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IERC5313} from "@openzeppelin/contracts/interfaces/IERC5313.sol";

import {IBlockOTA} from "./interfaces/IBlockOTA.sol";
import {IFirmwareReplication} from "./interfaces/IFirmwareReplication.sol";

/// @title Agreements between the vendor and brokers that serve copies of its releases
/// @notice See `IFirmwareReplication`, which is the specification.
/// @dev Storage: slot 0 number of agreements, 1 agreements by id, 2 indexes by product and version.
contract FirmwareReplication is IFirmwareReplication {
    /// @dev The first three members share a word, and so do `version`, `next` and `previous`. The accepted agreements
    /// of a release form a doubly linked list, from which ended agreements are removed. The agreement accepted last
    /// comes first: `next` was accepted before this agreement, `previous` after it.
    struct Entry {
        address broker;
        uint40 expiresAt;
        Status status;
        bytes32 product;
        uint64 version;
        uint64 next;
        uint64 previous;
        string uri;
    }

    /// @dev `head` is the agreement accepted last. `newest` is each broker's latest proposal, in any status.
    struct Index {
        uint64 head;
        mapping(address broker => uint64 id) newest;
    }

    /// @dev Greatest length of a URI in bytes, which limits the size of a page of replicas.
    uint256 private constant URI_LIMIT = 256;

    /// @inheritdoc IFirmwareReplication
    address public immutable blockOta;

    /// @inheritdoc IFirmwareReplication
    uint64 public agreementCount;

    mapping(uint64 id => Entry) private _entries;
    mapping(bytes32 product => mapping(uint64 version => Index)) private _indexes;

    /// @param record Address of BlockOTA, whose owner is the vendor.
    constructor(address record) {
        require(record.code.length != 0, NotAContract(record));
        blockOta = record;
    }

    /// @inheritdoc IFirmwareReplication
    function propose(bytes32 product, uint64 version, uint40 expiresAt) external returns (uint64 id) {
        require(expiresAt > block.timestamp, ExpiryInPast(expiresAt, block.timestamp));
        _requireServable(product, version);
        uint64 earlier = _indexes[product][version].newest[msg.sender];
        Entry storage entry = _entries[earlier];
        if (_isOpen(entry)) {
            require(_isExpired(entry), AgreementStillOpen(earlier, entry.expiresAt));
            _withdraw(earlier, entry);
        }
        id = _propose(product, version, expiresAt);
    }

    /// @inheritdoc IFirmwareReplication
    function accept(uint64 id, address broker, bytes32 product, uint64 version, uint40 expiresAt) external {
        _accept(Terms(id, broker, product, version, expiresAt));
    }

    /// @inheritdoc IFirmwareReplication
    function acceptAll(Terms[] calldata terms) external {
        require(terms.length != 0, NothingToAccept());
        for (uint256 i = 0; i < terms.length; ++i) {
            _accept(terms[i]);
        }
    }

    /// @inheritdoc IFirmwareReplication
    function decline(uint64 id, address broker, bytes32 product, uint64 version, uint40 expiresAt) external {
        Entry storage entry = _known(id);
        _requireVendor();
        _requireSame(id, entry, broker, product, version, expiresAt);
        require(entry.status == Status.Proposed, WrongAgreementStatus(id, entry.status));
        _decline(id, entry);
    }

    /// @inheritdoc IFirmwareReplication
    function announce(uint64 id, bytes32 product, uint64 version, string calldata uri) external {
        Entry storage entry = _known(id);
        _requireBroker(id, entry);
        _requireSame(id, entry, msg.sender, product, version, entry.expiresAt);
        require(entry.status == Status.Accepted, WrongAgreementStatus(id, entry.status));
        require(!_isExpired(entry), AgreementExpired(id, entry.expiresAt));
        uint256 length = bytes(uri).length;
        require(length != 0 && length <= URI_LIMIT, InvalidUriLength(length, URI_LIMIT));
        _announce(id, entry, uri);
    }

    /// @inheritdoc IFirmwareReplication
    function withdraw(uint64 id, bytes32 product, uint64 version) external {
        Entry storage entry = _known(id);
        _requireBroker(id, entry);
        _requireSame(id, entry, msg.sender, product, version, entry.expiresAt);
        require(_isOpen(entry), WrongAgreementStatus(id, entry.status));
        _withdraw(id, entry);
    }

    /// @inheritdoc IFirmwareReplication
    function terminate(uint64 id, address broker, bytes32 product, uint64 version, uint40 expiresAt) external {
        Entry storage entry = _known(id);
        _requireVendor();
        _requireSame(id, entry, broker, product, version, expiresAt);
        require(entry.status == Status.Accepted, WrongAgreementStatus(id, entry.status));
        _terminate(id, entry);
    }

    /// @inheritdoc IFirmwareReplication
    function agreement(uint64 id) public view returns (Agreement memory record) {
        Entry storage entry = _entries[id];
        if (entry.status == Status.None) return record;
        record.id = id;
        record.broker = entry.broker;
        record.expiresAt = entry.expiresAt;
        record.status = entry.status;
        record.product = entry.product;
        record.version = entry.version;
        record.uri = entry.uri;
    }

    /// @inheritdoc IFirmwareReplication
    function newestOf(bytes32 product, uint64 version, address broker) external view returns (Agreement memory) {
        return agreement(_indexes[product][version].newest[broker]);
    }

    /// @inheritdoc IFirmwareReplication
    function agreements(uint64 from, uint256 count) external view returns (Agreement[] memory records) {
        uint64 first = from == 0 ? 1 : from;
        uint256 left = first <= agreementCount ? agreementCount - first + 1 : 0;
        records = new Agreement[](count < left ? count : left);
        for (uint64 i = 0; i < records.length; ++i) {
            records[i] = agreement(first + i);
        }
    }

    /// @inheritdoc IFirmwareReplication
    function replicas(
        bytes32 product,
        uint64 version,
        uint256 from,
        uint256 count
    ) external view returns (Agreement[] memory records) {
        if (_statusOf(product, version) != IBlockOTA.Status.Active) return records;
        uint64 id = _serving(_indexes[product][version].head);
        for (; id != 0 && from != 0; --from) id = _serving(_entries[id].next);
        records = new Agreement[](_servingFrom(id, count));
        for (uint256 i = 0; i < records.length; ++i) {
            records[i] = agreement(id);
            id = _serving(_entries[id].next);
        }
    }

    function _propose(bytes32 product, uint64 version, uint40 expiresAt) private returns (uint64 id) {
        id = ++agreementCount;
        Entry storage entry = _entries[id];
        entry.broker = msg.sender;
        entry.expiresAt = expiresAt;
        entry.status = Status.Proposed;
        entry.product = product;
        entry.version = version;
        _indexes[product][version].newest[msg.sender] = id;

        emit AgreementProposed(id, product, msg.sender, version, expiresAt);
    }

    function _accept(Terms memory terms) private {
        uint64 id = terms.id;
        Entry storage entry = _known(id);
        _requireVendor();
        _requireSame(id, entry, terms.broker, terms.product, terms.version, terms.expiresAt);
        require(entry.status == Status.Proposed, WrongAgreementStatus(id, entry.status));
        require(!_isExpired(entry), AgreementExpired(id, entry.expiresAt));
        _requireServable(entry.product, entry.version);

        Index storage index = _indexes[entry.product][entry.version];
        uint64 head = index.head;
        entry.status = Status.Accepted;
        entry.next = head;
        if (head != 0) _entries[head].previous = id;
        index.head = id;

        emit AgreementAccepted(id, entry.product, entry.broker, entry.version);
    }

    function _decline(uint64 id, Entry storage entry) private {
        entry.status = Status.Declined;

        emit AgreementDeclined(id, entry.product, entry.broker, entry.version);
    }

    function _announce(uint64 id, Entry storage entry, string calldata uri) private {
        entry.uri = uri;

        emit ReplicaAnnounced(id, entry.product, entry.broker, entry.version, uri);
    }

    function _withdraw(uint64 id, Entry storage entry) private {
        if (entry.status == Status.Accepted) _unlist(entry);
        entry.status = Status.Withdrawn;

        emit AgreementWithdrawn(id, entry.product, entry.broker, entry.version);
    }

    function _terminate(uint64 id, Entry storage entry) private {
        _unlist(entry);
        entry.status = Status.Terminated;

        emit AgreementTerminated(id, entry.product, entry.broker, entry.version);
    }

    /// @dev Removes an agreement from the list of its release. The links of the removed agreement are not read again.
    function _unlist(Entry storage entry) private {
        (uint64 next, uint64 previous) = (entry.next, entry.previous);
        if (next != 0) _entries[next].previous = previous;
        if (previous != 0) _entries[previous].next = next;
        else _indexes[entry.product][entry.version].head = next;
    }

    function _requireVendor() private view {
        address vendor = IERC5313(blockOta).owner();
        require(msg.sender == vendor, NotTheVendor(msg.sender, vendor));
    }

    function _requireBroker(uint64 id, Entry storage entry) private view {
        require(msg.sender == entry.broker, NotTheBroker(id, msg.sender, entry.broker));
    }

    /// @dev Requires that the terms of the agreement are those of the call. After a reorganisation, the id can belong
    /// to the proposal of another broker.
    function _requireSame(
        uint64 id,
        Entry storage entry,
        address broker,
        bytes32 product,
        uint64 version,
        uint40 expiresAt
    ) private view {
        require(
            entry.broker == broker &&
                entry.product == product &&
                entry.version == version &&
                entry.expiresAt == expiresAt,
            AgreementDiffers(id, entry.broker, entry.product, entry.version, entry.expiresAt)
        );
    }

    /// @dev Requires that the release is on record and not revoked.
    function _requireServable(bytes32 product, uint64 version) private view {
        IBlockOTA.Status status = _statusOf(product, version);
        require(status != IBlockOTA.Status.None, ReleaseUnknown(product, version));
        require(status != IBlockOTA.Status.Revoked, ReleaseRevokedAlready(product, version));
    }

    function _statusOf(bytes32 product, uint64 version) private view returns (IBlockOTA.Status) {
        return IBlockOTA(blockOta).release(product, version).status;
    }

    function _known(uint64 id) private view returns (Entry storage entry) {
        entry = _entries[id];
        require(entry.status != Status.None, AgreementUnknown(id));
    }

    /// @dev True if the agreement is proposed or accepted, even if it is expired.
    function _isOpen(Entry storage entry) private view returns (bool) {
        return entry.status == Status.Proposed || entry.status == Status.Accepted;
    }

    function _isExpired(Entry storage entry) private view returns (bool) {
        return entry.expiresAt <= block.timestamp;
    }

    /// @dev Returns the first agreement from `id` on that is not expired and has a URI; 0 if there is none.
    function _serving(uint64 id) private view returns (uint64) {
        while (id != 0 && (_isExpired(_entries[id]) || bytes(_entries[id].uri).length == 0)) id = _entries[id].next;
        return id;
    }

    /// @dev Counts the serving agreements from `id` on, up to `limit`.
    function _servingFrom(uint64 id, uint256 limit) private view returns (uint256 length) {
        for (; id != 0 && length < limit; ++length) id = _serving(_entries[id].next);
    }
}
