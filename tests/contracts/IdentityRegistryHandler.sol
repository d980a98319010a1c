// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

import {IIdentityRegistry} from "../../contracts/interfaces/IIdentityRegistry.sol";
import {ForgeTest} from "./Forge.sol";

/// @title Handler for the invariant tests of IdentityRegistry: every action, and a model of the expected state
/// @notice Foundry calls these functions in random order. Each derives from the model whether the contract must revert
/// and with which error, calls the contract, and updates the model.
/// @dev UUIDs, accounts, keys and virtual IPs are few, so that they often repeat. Number 0 of each means "none".
contract IdentityRegistryHandler is ForgeTest {
    uint256 public constant UUIDS = 8;
    uint256 public constant ACCOUNTS = 7;

    IIdentityRegistry public immutable registry;
    address public owner = address(0x5AFE);

    /// @notice The UUIDs in the order of the enrolments.
    bytes16[] public enrolled;

    mapping(bytes16 uuid => IIdentityRegistry.Identity) internal _identities;
    mapping(bytes16 uuid => IIdentityRegistry.Generation[]) internal _generations;
    mapping(bytes16 uuid => uint40[]) internal _bans;
    mapping(address account => bytes16) public accountHolder;
    mapping(bytes32 keyHash => bytes16) public keyHolder;
    mapping(uint32 ip => bool) internal _usedIps;

    constructor() {
        vm.warp(1_700_000_000);
        registry = IIdentityRegistry(_deploy("IdentityRegistry", abi.encode(owner)));
        for (uint256 i = 1; i < 4; ++i) _enrolOne(owner, _enrolment(i, i * (1 + 10 + 100 + 1000 + 10000), 3));
    }

    /// @notice Enrols an identity, usually as the owner, whose UUID, kind, account or keys may be taken or wrong.
    function enrol(uint256 who, uint256 which, uint256 keys, uint256 kind) external {
        _enrolOne(_ownerOr(who), _enrolment(which % UUIDS, keys, kind));
    }

    /// @notice Enrols up to two identities at once: both, or none.
    function enrolAll(uint256 which, uint256 keys, uint256 kind) external {
        IIdentityRegistry.Enrolment[] memory list = new IIdentityRegistry.Enrolment[](keys % 4 == 0 ? 0 : 1);
        for (uint256 i = 0; i < list.length; ++i) list[i] = _enrolment(which % UUIDS, keys / 8, kind);
        bytes memory refusal = abi.encodeWithSelector(IIdentityRegistry.NothingToEnrol.selector);
        if (list.length != 0) refusal = _enrolmentRefusal(list[0]);
        _expect(owner, address(registry), abi.encodeCall(registry.enrolAll, (list)), refusal);
        if (refusal.length == 0) _remember(list[0]);
    }

    /// @notice Rotates the keys of an identity, usually as the owner.
    function rotate(uint256 who, uint256 which, uint256 keys) external {
        IIdentityRegistry.Enrolment memory item = _enrolment(which % UUIDS, keys, 1);
        address sender = _ownerOr(who);
        bytes memory refusal = _asOwner(sender);
        if (refusal.length == 0) refusal = _standingRefusal(item.uuid);
        if (refusal.length == 0) refusal = _keyRefusal(item);
        if (refusal.length == 0) {
            _generations[item.uuid][_generations[item.uuid].length - 1].toBlock = uint64(block.number);
            _take(item);
        }
        bytes memory call = abi.encodeCall(
            registry.rotate,
            (item.uuid, item.account, item.keyKind, item.key, item.logKey, item.tunnelKey)
        );
        _expect(sender, address(registry), call, refusal);
    }

    /// @notice Bans an identity, as the owner or with any account.
    function ban(uint256 who, uint256 which, bytes32 reason) external {
        (address sender, bytes16 uuid) = (who % 4 == 0 ? owner : accountOf(who % ACCOUNTS), uuidOf(which % UUIDS));
        bytes memory refusal = _standingRefusal(uuid);
        if (refusal.length == 0) refusal = _banRefusal(sender, uuid);
        if (refusal.length == 0) {
            (_identities[uuid].banned, _identities[uuid].bannedAt) = (true, uint40(block.timestamp));
            if (sender != owner) _bans[accountHolder[sender]].push(uint40(block.timestamp));
        }
        _expect(sender, address(registry), abi.encodeCall(registry.ban, (uuid, reason)), refusal);
    }

    /// @notice Lifts a ban, usually as the owner; the identity may not be banned.
    function unban(uint256 who, uint256 which) external {
        (address sender, bytes16 uuid) = (_ownerOr(who), uuidOf(which % UUIDS));
        bytes memory refusal = _asOwner(sender);
        if (refusal.length == 0) refusal = _standingRefusal(uuid);
        if (refusal.length == 0 && !_identities[uuid].banned) {
            refusal = abi.encodeWithSelector(IIdentityRegistry.IdentityNotBanned.selector, uuid);
        }
        if (refusal.length == 0) _identities[uuid].banned = false;
        _expect(sender, address(registry), abi.encodeCall(registry.unban, (uuid)), refusal);
    }

    /// @notice Retires an identity, seldom.
    function retire(uint256 who, uint256 which) external {
        (address sender, bytes16 uuid) = (_ownerOr(who), uuidOf(which % UUIDS));
        if (which % 5 != 0 && sender == owner) return;
        bytes memory refusal = _asOwner(sender);
        if (refusal.length == 0) refusal = _standingRefusal(uuid);
        if (refusal.length == 0) _identities[uuid].retired = true;
        _expect(sender, address(registry), abi.encodeCall(registry.retire, (uuid)), refusal);
    }

    /// @notice Transfers the ownership in two steps, seldom; the new owner can be the account of an identity.
    function handOver(uint256 seed) external {
        if (seed % 8 != 0) return;
        address next = address(uint160(_pick(seed, 0x6000, 0x7000)));
        _expect(owner, address(registry), abi.encodeCall(Ownable2Step.transferOwnership, (next)), "");
        _expect(next, address(registry), abi.encodeCall(Ownable2Step.acceptOwnership, ()), "");
        owner = next;
    }

    /// @notice Advances the time by at most an hour, and the block.
    function warp(uint256 time) external {
        vm.warp(block.timestamp + _pick(time, 0, 1 hours));
        vm.roll(block.number + (time % 4));
    }

    function enrolledCount() external view returns (uint256) {
        return enrolled.length;
    }

    function identity(bytes16 uuid) external view returns (IIdentityRegistry.Identity memory) {
        return _identities[uuid];
    }

    /// @notice Returns the generations of an identity, the newest one first.
    function generations(bytes16 uuid) external view returns (IIdentityRegistry.Generation[] memory list) {
        uint256 length = _generations[uuid].length;
        list = new IIdentityRegistry.Generation[](length);
        for (uint256 i = 0; i < length; ++i) list[i] = _generations[uuid][length - 1 - i];
    }

    /// @notice Whether an account is that of the newest generation of an active identity.
    function isActive(address account) public view returns (bool) {
        IIdentityRegistry.Identity memory one = _identities[accountHolder[account]];
        return one.uuid != 0 && one.account == account && !one.banned && !one.retired;
    }

    function uuidOf(uint256 which) public pure returns (bytes16) {
        return bytes16(uint128(which) << 64);
    }

    function accountOf(uint256 which) public pure returns (address) {
        return which == 0 ? address(0) : address(uint160(0xACC0 + which));
    }

    /// @dev The digits of `keys` choose account, key, log key, tunnel key and virtual IP; 9 is a key of a wrong length.
    function _enrolment(
        uint256 which,
        uint256 keys,
        uint256 kind
    ) private pure returns (IIdentityRegistry.Enrolment memory item) {
        item.uuid = uuidOf(which);
        item.kind = IIdentityRegistry.Kind(kind % 8);
        item.account = accountOf((keys % 10) % ACCOUNTS);
        item.keyKind = keys % 13 == 12 ? IIdentityRegistry.KeyKind.P256 : IIdentityRegistry.KeyKind.Ed25519;
        item.key = abi.encode(keccak256(abi.encode((keys / 10) % 10)));
        if ((keys / 10) % 10 == 9) item.key = abi.encodePacked(item.key, uint8(1));
        if ((keys / 100) % 10 != 0) item.logKey = keccak256(abi.encode(10 + ((keys / 100) % 10)));
        if ((keys / 1000) % 10 != 0) item.tunnelKey = keccak256(abi.encode(20 + ((keys / 1000) % 10)));
        item.virtualIp = uint32((keys / 10000) % 10) * 200;
    }

    function _enrolOne(address sender, IIdentityRegistry.Enrolment memory item) private {
        bytes memory refusal = _asOwner(sender);
        if (refusal.length == 0) refusal = _enrolmentRefusal(item);
        _expect(sender, address(registry), abi.encodeCall(registry.enrol, (item)), refusal);
        if (refusal.length == 0) _remember(item);
    }

    function _remember(IIdentityRegistry.Enrolment memory item) private {
        IIdentityRegistry.Identity storage one = _identities[item.uuid];
        (one.uuid, one.kind, one.virtualIp) = (item.uuid, item.kind, item.virtualIp);
        one.since = uint40(block.timestamp);
        if (enrolled.length != 0) one.previous = enrolled[enrolled.length - 1];
        enrolled.push(item.uuid);
        if (item.virtualIp != 0) _usedIps[item.virtualIp] = true;
        _take(item);
    }

    function _take(IIdentityRegistry.Enrolment memory item) private {
        IIdentityRegistry.Identity storage one = _identities[item.uuid];
        (one.account, one.keyKind, one.key) = (item.account, item.keyKind, item.key);
        (one.logKey, one.tunnelKey, one.fromBlock) = (item.logKey, item.tunnelKey, uint64(block.number));
        _generations[item.uuid].push(
            IIdentityRegistry.Generation(
                item.account,
                item.keyKind,
                item.key,
                item.logKey,
                item.tunnelKey,
                uint64(block.number),
                0
            )
        );
        if (item.account != address(0)) accountHolder[item.account] = item.uuid;
        keyHolder[keccak256(item.key)] = item.uuid;
        if (item.logKey != 0) keyHolder[keccak256(abi.encode(item.logKey))] = item.uuid;
        if (item.tunnelKey != 0) keyHolder[keccak256(abi.encode(item.tunnelKey))] = item.uuid;
    }

    function _enrolmentRefusal(IIdentityRegistry.Enrolment memory item) private view returns (bytes memory refusal) {
        bytes16 uuid = item.uuid;
        if (uuid == 0) return abi.encodeWithSelector(IIdentityRegistry.UuidMissing.selector);
        if (item.kind == IIdentityRegistry.Kind.None) {
            return abi.encodeWithSelector(IIdentityRegistry.KindMissing.selector, uuid);
        }
        if (_identities[uuid].uuid != 0) return abi.encodeWithSelector(IIdentityRegistry.IdentityKnown.selector, uuid);
        refusal = _formatRefusal(item);
        if (refusal.length == 0 && _usedIps[item.virtualIp]) {
            return abi.encodeWithSelector(IIdentityRegistry.VirtualIpTaken.selector, item.virtualIp);
        }
        if (refusal.length == 0) refusal = _keyRefusal(item);
    }

    function _formatRefusal(IIdentityRegistry.Enrolment memory item) private pure returns (bytes memory) {
        if (item.keyKind == IIdentityRegistry.KeyKind.Ed25519 && item.key.length == 32) return "";
        bytes4 selector = IIdentityRegistry.KeyInvalid.selector;
        return abi.encodeWithSelector(selector, item.uuid, item.keyKind, item.key.length);
    }

    function _keyRefusal(IIdentityRegistry.Enrolment memory item) private view returns (bytes memory refusal) {
        refusal = _formatRefusal(item);
        bytes32[3] memory hashes = [keccak256(item.key), bytes32(0), bytes32(0)];
        if (item.logKey != 0) hashes[1] = keccak256(abi.encode(item.logKey));
        if (item.tunnelKey != 0) hashes[2] = keccak256(abi.encode(item.tunnelKey));
        for (uint256 i = 0; i < 3 && refusal.length == 0; ++i) {
            bytes16 holder = keyHolder[hashes[i]];
            if (holder == 0 || holder == item.uuid) continue;
            refusal = abi.encodeWithSelector(IIdentityRegistry.KeyTaken.selector, hashes[i], holder);
        }
        bytes16 other = accountHolder[item.account];
        if (refusal.length == 0 && other != 0 && other != item.uuid) {
            refusal = abi.encodeWithSelector(IIdentityRegistry.AccountTaken.selector, item.account, other);
        }
    }

    function _standingRefusal(bytes16 uuid) private view returns (bytes memory) {
        if (_identities[uuid].uuid == 0) {
            return abi.encodeWithSelector(IIdentityRegistry.IdentityUnknown.selector, uuid);
        }
        if (!_identities[uuid].retired) return "";
        return abi.encodeWithSelector(IIdentityRegistry.IdentityIsRetired.selector, uuid);
    }

    function _banRefusal(address sender, bytes16 uuid) private view returns (bytes memory) {
        IIdentityRegistry.Identity storage one = _identities[uuid];
        if (one.banned) {
            return abi.encodeWithSelector(IIdentityRegistry.IdentityBannedAlready.selector, uuid, one.bannedAt);
        }
        if (sender == owner) return "";
        bytes16 by = accountHolder[sender];
        if (!isActive(sender) || _identities[by].kind != IIdentityRegistry.Kind.Administrator) {
            return abi.encodeWithSelector(IIdentityRegistry.BanningNotAllowed.selector, sender);
        }
        if (one.kind == IIdentityRegistry.Kind.Administrator) {
            return abi.encodeWithSelector(IIdentityRegistry.AdministratorProtected.selector, uuid);
        }
        uint256 count = _bans[by].length;
        if (count < 10 || _bans[by][count - 10] + 1 hours <= block.timestamp) return "";
        uint40 free = _bans[by][count - 10] + 1 hours;
        return abi.encodeWithSelector(IIdentityRegistry.TooManyBans.selector, by, free);
    }

    function _asOwner(address sender) private view returns (bytes memory) {
        if (sender == owner) return "";
        return abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, sender);
    }

    function _ownerOr(uint256 who) private view returns (address) {
        return who % 8 == 0 ? accountOf(_pick(who, 1, ACCOUNTS)) : owner;
    }
}
