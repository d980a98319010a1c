// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IDeviceRegistry} from "./interfaces/IDeviceRegistry.sol";
import {IIdentityRegistry} from "./interfaces/IIdentityRegistry.sol";
import {IUpdateLedger} from "./interfaces/IUpdateLedger.sol";
import {MerkleLog} from "./MerkleLog.sol";

/// @title Anchored logs of gateways, validators, technicians and clouds
/// @notice See `IUpdateLedger`, which is the specification.
/// @dev Storage: slot 0 logs by UUID, 1 installed devices by release, 2 sizes by suspicion.
contract UpdateLedger is IUpdateLedger {
    /// @dev A struct, so that the place of a word is computed once.
    struct Word {
        uint256 bits;
    }

    /// @dev The first bytes of an install entry, which is a CBOR array of 17 items: the kind 0 in one byte, the device
    /// number as a byte string of 8, the release as a byte string of 32. A cut entry cannot pass as another one,
    /// because its bytes are hashed.
    uint256 private constant PREFIX_LENGTH = 45;
    bytes3 private constant INSTALL_HEADER = 0x910048;
    bytes2 private constant RELEASE_HEADER = 0x5820;
    uint256 private constant NUMBER_AT = 3;
    uint256 private constant RELEASE_HEADER_AT = 11;
    uint256 private constant RELEASE_AT = 13;

    /// @inheritdoc IUpdateLedger
    address public immutable identities;

    /// @inheritdoc IUpdateLedger
    address public immutable devices;

    mapping(bytes16 uuid => Log) private _logs;

    /// @dev Bit `b` of word `w` is device `256 * w + b`.
    mapping(bytes32 release => mapping(uint256 word => Word)) private _installed;

    /// @dev By UUID, device and release, the size of the log at the newest suspicion. A suspended log does not grow, so
    /// the Administrator's decision is on all entries below this size.
    mapping(bytes32 suspicion => uint64 size) private _suspected;

    /// @param identityRegistry Address of IdentityRegistry.
    /// @param deviceRegistry Address of DeviceRegistry.
    constructor(address identityRegistry, address deviceRegistry) {
        require(identityRegistry.code.length != 0, RegistryMissing(identityRegistry));
        require(deviceRegistry.code.length != 0, RegistryMissing(deviceRegistry));
        identities = identityRegistry;
        devices = deviceRegistry;
    }

    /// @inheritdoc IUpdateLedger
    function anchor(uint64 size, bytes32 newRoot, bytes32[] calldata proof) external {
        _anchor(size, newRoot, proof);
    }

    /// @inheritdoc IUpdateLedger
    function anchorInstalls(
        uint64 size,
        bytes32 newRoot,
        bytes32[] calldata proof,
        Installs calldata installs
    ) external {
        bytes16 uuid = _anchor(size, newRoot, proof);
        _install(uuid, installs);
    }

    /// @inheritdoc IUpdateLedger
    function suspect(bytes16 uuid, Entry calldata first, Entry calldata second) external {
        Log storage record = _logs[uuid];
        require(record.state == State.Growing, WrongLogState(uuid, record.state));
        require(first.index < second.index, EntriesNotInOrder(first.index, second.index));
        _requireInstall(first);
        _requireInstall(second);
        bool alike = keccak256(first.data[:PREFIX_LENGTH]) == keccak256(second.data[:PREFIX_LENGTH]);
        require(alike, EntriesDiffer(first.index, second.index));

        (uint64 number, bytes32 release) = (_numberOf(first.data), bytes32(first.data[RELEASE_AT:PREFIX_LENGTH]));
        uint64 decided = suspectedSize(uuid, number, release);
        require(second.index >= decided, AlreadyDecided(uuid, number, release, decided));
        _requireIncluded(uuid, record, first);
        _requireIncluded(uuid, record, second);

        record.state = State.Suspended;
        record.number = number;
        record.release = release;
        _suspected[_suspicionOf(uuid, number, release)] = record.size;

        emit LogSuspended(uuid, number, release, first.index, second.index, msg.sender);
    }

    /// @inheritdoc IUpdateLedger
    function decide(bytes16 uuid, uint64 number, bytes32 release, bool resume) external {
        (bytes16 by, IIdentityRegistry.Kind kind, bool active) = IIdentityRegistry(identities).standing(msg.sender);
        bool allowed = active && kind == IIdentityRegistry.Kind.Administrator;
        require(allowed, NotAnAdministrator(msg.sender, kind, active));
        Log storage record = _logs[uuid];
        require(record.state == State.Suspended, WrongLogState(uuid, record.state));
        bool same = record.number == number && record.release == release;
        require(same, SuspicionDiffers(uuid, record.number, record.release));

        record.state = resume ? State.Growing : State.Retired;

        if (resume) emit LogResumed(uuid, number, release, by);
        else emit LogRetired(uuid, number, release, by);
    }

    /// @inheritdoc IUpdateLedger
    function root(bytes16 uuid) external view returns (Log memory record) {
        return _logs[uuid];
    }

    /// @inheritdoc IUpdateLedger
    function installed(bytes32 release, uint64 number) external view returns (bool recorded) {
        return (_installed[release][number >> 8].bits >> (number & 255)) & 1 == 1;
    }

    /// @inheritdoc IUpdateLedger
    function installedBits(bytes32 release, uint256 from, uint256 count) external view returns (uint256[] memory bits) {
        bits = new uint256[](count);
        for (uint256 i = 0; i < count; ++i) bits[i] = _installed[release][from + i].bits;
    }

    /// @inheritdoc IUpdateLedger
    function suspectedSize(bytes16 uuid, uint64 number, bytes32 release) public view returns (uint64 size) {
        return _suspected[_suspicionOf(uuid, number, release)];
    }

    function _anchor(uint64 size, bytes32 newRoot, bytes32[] calldata proof) private returns (bytes16 uuid) {
        IIdentityRegistry.Kind kind;
        bool active;
        (uuid, kind, active) = IIdentityRegistry(identities).standing(msg.sender);
        require(active && _keepsLog(kind), NotALogKeeper(msg.sender, kind, active));
        Log storage record = _logs[uuid];
        (uint64 anchoredSize, State state) = (record.size, record.state);
        require(state == State.None || state == State.Growing, WrongLogState(uuid, state));
        require(size > anchoredSize, SizeNotGreater(uuid, size, anchoredSize));
        bool consistent = anchoredSize == 0
            ? proof.length == 0
            : MerkleLog.continues(record.root, anchoredSize, newRoot, size, proof);
        require(consistent, LogNotConsistent(uuid, anchoredSize, size));

        record.root = newRoot;
        record.size = size;
        record.anchoredAt = uint40(block.timestamp);
        record.state = State.Growing;

        emit Anchored(uuid, size, newRoot);
    }

    function _install(bytes16 uuid, Installs calldata installs) private {
        (uint256[] calldata words, uint256[] calldata bits) = (installs.words, installs.bits);
        require(words.length == bits.length && words.length != 0, WordsAndBitsDiffer(words.length, bits.length));
        require(IDeviceRegistry(devices).ownsBlocks(uuid, words), DevicesNotOfSite(uuid));
        bytes32 release = keccak256(
            abi.encode(installs.chain, installs.blockOta, installs.product, installs.version)
        );
        mapping(uint256 word => Word) storage map = _installed[release];
        for (uint256 i = 0; i < words.length; ++i) {
            Word storage word = map[_item(words, i)];
            (uint256 before, uint256 added) = (word.bits, _item(bits, i));
            // Not a `require`, which would compute the error's device number for every word, even without an error.
            if (before & added != 0) revert AlreadyInstalled(release, _firstOf(words[i], before & added));
            word.bits = before | added;
        }

        emit Installed(release, uuid);
    }

    function _requireInstall(Entry calldata entry) private pure {
        bytes calldata data = entry.data;
        require(data.length >= PREFIX_LENGTH, NotAnInstall(entry.index));
        bool install = bytes3(data) == INSTALL_HEADER &&
            bytes2(data[RELEASE_HEADER_AT:]) == RELEASE_HEADER &&
            _numberOf(data) != 0;
        require(install, NotAnInstall(entry.index));
    }

    function _requireIncluded(bytes16 uuid, Log storage record, Entry calldata entry) private view {
        bytes32 leaf = MerkleLog.leafHash(entry.data);
        bool included = MerkleLog.includes(record.root, record.size, leaf, entry.index, entry.path);
        require(included, EntryNotInLog(uuid, entry.index, record.size));
    }

    function _suspicionOf(bytes16 uuid, uint64 number, bytes32 release) private pure returns (bytes32) {
        return keccak256(abi.encode(uuid, number, release));
    }

    /// @dev Returns an item of a list, which must have it: a checked access costs more for each word.
    function _item(uint256[] calldata list, uint256 index) private pure returns (uint256 item) {
        assembly ("memory-safe") {
            item := calldataload(add(list.offset, shl(5, index)))
        }
    }

    /// @dev Returns the smallest device number of a word's bits, of which one is set.
    function _firstOf(uint256 word, uint256 bits) private pure returns (uint64) {
        return uint64((word << 8) | Math.log2(bits & (~bits + 1)));
    }

    function _numberOf(bytes calldata data) private pure returns (uint64) {
        return uint64(bytes8(data[NUMBER_AT:]));
    }

    function _keepsLog(IIdentityRegistry.Kind kind) private pure returns (bool) {
        return
            kind == IIdentityRegistry.Kind.Gateway ||
            kind == IIdentityRegistry.Kind.Validator ||
            kind == IIdentityRegistry.Kind.Technician ||
            kind == IIdentityRegistry.Kind.Cloud;
    }
}
