// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

import {IdentityKeys} from "./IdentityKeys.sol";
import {IIdentityRegistry} from "./interfaces/IIdentityRegistry.sol";

/// @title The identities of a city: validators, gateways, administrators, services and people
/// @notice See `IIdentityRegistry`, which is the specification.
/// @dev Storage: slot 0 owner, 1 pending owner, 2 newest identity and number of identities, 3 facts by UUID, 4
/// accounts, 5 UUIDs by the hash of a key, 6 used virtual IPs, 7 earlier generations, 8 recent bans by administrator.
/// The keys of a generation are one record of code (`IdentityKeys`).
contract IdentityRegistry is IIdentityRegistry, Ownable2Step {
    /// @dev Layout of a word of facts, least significant bits first: newest generation's record 160 bits, time of the
    /// enrolment 40, time of the newest ban 40, kind 8, banned 1, retired 1. The word of an unknown identity is 0.
    uint256 private constant SINCE_AT = 160;
    uint256 private constant BANNED_AT = 200;
    uint256 private constant KIND_AT = 240;
    uint256 private constant BANNED = 1 << 248;
    uint256 private constant RETIRED = 1 << 249;
    uint256 private constant BAN_TIME = uint256(type(uint40).max) << BANNED_AT;

    uint256 private constant BANS_PER_HOUR = 10;

    bytes16 private _newest;

    /// @inheritdoc IIdentityRegistry
    uint64 public identityCount;

    mapping(bytes16 uuid => uint256 word) private _facts;

    /// @dev The UUID, and in the low 96 bits the end of the address of the newest record that has the account. An
    /// account is in force if this is the identity's newest record.
    mapping(address account => bytes32 word) private _accounts;
    mapping(bytes32 keyHash => bytes16 uuid) private _keys;
    mapping(uint32 network => uint256 bits) private _usedIps;
    mapping(address record => address earlier) private _earlier;
    mapping(bytes16 uuid => uint40[BANS_PER_HOUR] times) private _bans;

    /// @param initialOwner The city's Safe.
    constructor(address initialOwner) Ownable(initialOwner) {}

    /// @inheritdoc IIdentityRegistry
    function enrol(Enrolment calldata enrolment) external onlyOwner {
        _enrol(enrolment);
    }

    /// @inheritdoc IIdentityRegistry
    function enrolAll(Enrolment[] calldata enrolments) external onlyOwner {
        require(enrolments.length != 0, NothingToEnrol());
        for (uint256 i = 0; i < enrolments.length; ++i) {
            _enrol(enrolments[i]);
        }
    }

    /// @inheritdoc IIdentityRegistry
    function rotate(
        bytes16 uuid,
        address account,
        KeyKind keyKind,
        bytes calldata key,
        bytes32 logKey,
        bytes32 tunnelKey
    ) external onlyOwner {
        uint256 word = _known(uuid);
        require(word & RETIRED == 0, IdentityIsRetired(uuid));
        require(IdentityKeys.isKey(keyKind, key), KeyInvalid(uuid, keyKind, key.length));
        address former = address(uint160(word));

        Generation memory keys = Generation(account, keyKind, key, logKey, tunnelKey, 0, 0);
        address record = _writeRecord(uuid, IdentityKeys.seatOf(former), keys);
        _facts[uuid] = (word ^ uint160(former)) | uint160(record);
        _earlier[record] = former;

        emit KeysRotated(uuid, account);
    }

    /// @inheritdoc IIdentityRegistry
    function ban(bytes16 uuid, bytes32 reason) external {
        uint256 word = _known(uuid);
        require(word & RETIRED == 0, IdentityIsRetired(uuid));
        require(word & BANNED == 0, IdentityBannedAlready(uuid, uint40(word >> BANNED_AT)));
        bytes16 by = msg.sender == owner() ? bytes16(0) : _countBan(uuid, _kind(word));

        _facts[uuid] = (word & ~BAN_TIME) | (block.timestamp << BANNED_AT) | BANNED;

        emit IdentityBanned(uuid, by, reason);
    }

    /// @inheritdoc IIdentityRegistry
    function unban(bytes16 uuid) external onlyOwner {
        uint256 word = _known(uuid);
        require(word & RETIRED == 0, IdentityIsRetired(uuid));
        require(word & BANNED != 0, IdentityNotBanned(uuid));

        _facts[uuid] = word ^ BANNED;

        emit IdentityUnbanned(uuid);
    }

    /// @inheritdoc IIdentityRegistry
    function retire(bytes16 uuid) external onlyOwner {
        uint256 word = _known(uuid);
        require(word & RETIRED == 0, IdentityIsRetired(uuid));

        _facts[uuid] = word | RETIRED;

        emit IdentityRetired(uuid);
    }

    /// @notice Always reverts: the contract must have an owner.
    /// @dev Reverts with `RenouncingRefused` for every caller.
    function renounceOwnership() public pure override {
        revert RenouncingRefused();
    }

    /// @inheritdoc IIdentityRegistry
    function identity(bytes16 uuid) public view returns (Identity memory found) {
        uint256 word = _facts[uuid];
        if (word == 0) return found;
        address record = address(uint160(word));
        found.uuid = uuid;
        found.kind = _kind(word);
        found.banned = word & BANNED != 0;
        found.bannedAt = uint40(word >> BANNED_AT);
        found.retired = word & RETIRED != 0;
        found.since = uint40(word >> SINCE_AT);
        found.previous = IdentityKeys.previousOf(record);
        found.virtualIp = IdentityKeys.virtualIpOf(record);
        Generation memory keys = IdentityKeys.read(record);
        found.account = keys.account;
        found.keyKind = keys.keyKind;
        found.key = keys.key;
        found.logKey = keys.logKey;
        found.tunnelKey = keys.tunnelKey;
        found.fromBlock = keys.fromBlock;
    }

    /// @inheritdoc IIdentityRegistry
    function identityOf(address account) external view returns (Identity memory) {
        return identity(bytes16(_accounts[account]));
    }

    /// @inheritdoc IIdentityRegistry
    function identityByKey(bytes32 keyHash) external view returns (Identity memory) {
        return identity(_keys[keyHash]);
    }

    /// @inheritdoc IIdentityRegistry
    function generations(bytes16 uuid) external view returns (Generation[] memory list) {
        address newest = address(uint160(_facts[uuid]));
        uint256 length = 0;
        for (address record = newest; record != address(0); record = _earlier[record]) ++length;
        list = new Generation[](length);
        uint64 toBlock = 0;
        for (uint256 i = 0; i < length; ++i) {
            list[i] = IdentityKeys.read(newest);
            list[i].toBlock = toBlock;
            toBlock = list[i].fromBlock;
            newest = _earlier[newest];
        }
    }

    /// @inheritdoc IIdentityRegistry
    function identities(bytes16 from, uint256 count) external view returns (Identity[] memory records) {
        bytes16 uuid = from == 0 ? _newest : from;
        records = new Identity[](_listLength(uuid, count));
        for (uint256 i = 0; i < records.length; ++i) {
            records[i] = identity(uuid);
            uuid = records[i].previous;
        }
    }

    /// @inheritdoc IIdentityRegistry
    function standing(address account) public view returns (bytes16 uuid, Kind kind, bool active) {
        bytes32 held = _accounts[account];
        uuid = bytes16(held);
        uint256 word = _facts[uuid];
        kind = _kind(word);
        active = word != 0 && _isActive(word) && uint96(word) == uint96(uint256(held));
    }

    /// @inheritdoc IIdentityRegistry
    function kindOf(bytes16 uuid) external view returns (Kind kind, bool active) {
        uint256 word = _facts[uuid];
        return (_kind(word), word != 0 && _isActive(word));
    }

    /// @inheritdoc IIdentityRegistry
    function bannedAt(bytes16 uuid) external view returns (uint40) {
        return uint40(_facts[uuid] >> BANNED_AT);
    }

    /// @dev Checks, records and emits one enrolment.
    function _enrol(Enrolment calldata item) private {
        bytes16 uuid = item.uuid;
        require(uuid != 0, UuidMissing());
        require(item.kind != Kind.None, KindMissing(uuid));
        require(_facts[uuid] == 0, IdentityKnown(uuid));
        require(IdentityKeys.isKey(item.keyKind, item.key), KeyInvalid(uuid, item.keyKind, item.key.length));
        _takeVirtualIp(item.virtualIp);

        bytes memory seat = abi.encodePacked(_newest, item.virtualIp);
        Generation memory keys = Generation(
            item.account,
            item.keyKind,
            item.key,
            item.logKey,
            item.tunnelKey,
            0,
            0
        );
        address record = _writeRecord(uuid, seat, keys);
        _facts[uuid] = uint160(record) | (block.timestamp << SINCE_AT) | (uint256(item.kind) << KIND_AT);
        _newest = uuid;
        ++identityCount;

        emit IdentityEnrolled(uuid, item.kind, item.account);
    }

    /// @dev Stores a generation of keys. Its keys and account then belong to the identity.
    function _writeRecord(bytes16 uuid, bytes memory seat, Generation memory keys) private returns (address record) {
        _takeKey(uuid, keccak256(keys.key));
        if (keys.logKey != 0) _takeKey(uuid, keccak256(abi.encode(keys.logKey)));
        if (keys.tunnelKey != 0) _takeKey(uuid, keccak256(abi.encode(keys.tunnelKey)));
        record = IdentityKeys.write(seat, keys);
        if (keys.account == address(0)) return record;

        bytes16 holder = bytes16(_accounts[keys.account]);
        require(holder == 0 || holder == uuid, AccountTaken(keys.account, holder));
        _accounts[keys.account] = bytes32(uuid) | bytes32(uint256(uint96(uint160(record))));
    }

    function _takeKey(bytes16 uuid, bytes32 keyHash) private {
        bytes16 holder = _keys[keyHash];
        if (holder == uuid) return;
        require(holder == 0, KeyTaken(keyHash, holder));
        _keys[keyHash] = uuid;
    }

    function _takeVirtualIp(uint32 ip) private {
        if (ip == 0) return;
        uint256 bits = _usedIps[ip >> 8];
        uint256 bit = 1 << (ip & 255);
        require(bits & bit == 0, VirtualIpTaken(ip));
        _usedIps[ip >> 8] = bits | bit;
    }

    /// @dev Requires an active administrator as the sender, who may ban now; replaces the oldest of its recent bans.
    function _countBan(bytes16 uuid, Kind kind) private returns (bytes16 by) {
        (bytes16 sender, Kind senderKind, bool active) = standing(msg.sender);
        require(active && senderKind == Kind.Administrator, BanningNotAllowed(msg.sender));
        require(kind != Kind.Administrator, AdministratorProtected(uuid));
        uint40[BANS_PER_HOUR] storage times = _bans[sender];
        uint256 oldest = 0;
        for (uint256 i = 1; i < BANS_PER_HOUR; ++i) {
            if (times[i] < times[oldest]) oldest = i;
        }
        uint40 free = times[oldest] + 1 hours;
        require(free <= block.timestamp, TooManyBans(sender, free));
        times[oldest] = uint40(block.timestamp);
        return sender;
    }

    function _known(bytes16 uuid) private view returns (uint256 word) {
        word = _facts[uuid];
        require(word != 0, IdentityUnknown(uuid));
    }

    /// @dev Counts the identities from `uuid` back to the first one, up to `limit`.
    function _listLength(bytes16 uuid, uint256 limit) private view returns (uint256 length) {
        for (uint256 word = _facts[uuid]; length < limit && word != 0; ++length) {
            word = _facts[IdentityKeys.previousOf(address(uint160(word)))];
        }
    }

    function _isActive(uint256 word) private pure returns (bool) {
        return word & (BANNED | RETIRED) == 0;
    }

    function _kind(uint256 word) private pure returns (Kind) {
        return Kind(uint8(word >> KIND_AT));
    }
}
