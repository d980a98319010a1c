// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IIdentityRegistry} from "../../contracts/interfaces/IIdentityRegistry.sol";
import {HalmosCheck} from "./Halmos.sol";

/// @title Properties of IdentityRegistry that every call preserves, proven by Halmos
/// @notice As in CheckBlockOTA: every sender, function and argument, from every storage that satisfies the check's
/// assumptions, at any time. Identities have an account, an Ed25519 key, a log key and a virtual IP, and no tunnel key,
/// which is handled as the log key is. A rotation replaces the keys of the record that is enrolled here, because Halmos
/// follows the code of known contracts only. An Administrator has not banned before: each of ten times would double the
/// number of paths. Other values are fuzzed.
contract CheckIdentityRegistry is HalmosCheck {
    uint256 private constant BANNED = 1 << 248;
    uint256 private constant RETIRED = 1 << 249;
    /// @dev The bits of a word of facts that never change: time of the enrolment, and kind.
    uint256 private constant FIXED = (uint256(type(uint40).max) << 160) | (uint256(0xFF) << 240);
    /// @dev The bits that a ban changes.
    uint256 private constant BAN = (uint256(type(uint40).max) << 200) | BANNED;

    address private _registry;
    address private _record;

    function setUp() external {
        _registry = _deploy(".build/forge/halmos/IdentityRegistry.sol/IdentityRegistry.json", address(this));
        IIdentityRegistry.Enrolment memory item;
        (item.uuid, item.kind) = (bytes16(uint128(1)), IIdentityRegistry.Kind.Gateway);
        (item.keyKind, item.key) = (IIdentityRegistry.KeyKind.Ed25519, abi.encode(uint256(1)));
        IIdentityRegistry(_registry).enrol(item);
        _record = address(uint160(_facts(item.uuid)));
        _fillWithAnything(_registry);
        vm.warp(uint40(uint256(svm.createBytes32("time"))));
    }

    function check_I1_anIdentityKeepsItsKindAndTime(address sender, bytes16 uuid) external {
        uint256 word = _facts(uuid);
        vm.assume(uint8(word >> 240) != 0);
        vm.assume(_callRegistry(sender));
        uint256 later = _facts(uuid);
        assert(_both(later != 0, word & FIXED == later & FIXED));
    }

    function check_I2_anAccountStaysWithItsIdentity(address sender, address account) external {
        bytes16 holder = bytes16(_account(account));
        vm.assume(holder != 0);
        vm.assume(_callRegistry(sender));
        assert(bytes16(_account(account)) == holder);
    }

    function check_I2_aKeyStaysWithItsIdentity(address sender, bytes32 keyHash) external {
        bytes16 holder = _key(keyHash);
        vm.assume(holder != 0);
        vm.assume(_callRegistry(sender));
        assert(_key(keyHash) == holder);
    }

    function check_I3_aVirtualIpStaysTaken(address sender, uint32 network) external {
        uint256 bits = _usedIps(network);
        vm.assume(_callRegistry(sender));
        assert(_usedIps(network) & bits == bits);
    }

    function check_I5_onlyTheOwnerChangesMoreThanABan(
        address sender,
        bytes16 uuid,
        address account,
        bytes32 keyHash
    ) external {
        vm.assume(sender != _ownerIn(0));
        (uint256 word, bytes32 holder, bytes16 key) = (_facts(uuid), _account(account), _key(keyHash));
        vm.assume(_callRegistry(sender));
        assert(_both(_account(account) == holder, _key(keyHash) == key));
        assert(word & ~BAN == _facts(uuid) & ~BAN);
    }

    function check_I5_theOwnerChangesOnlyToThePendingOneWhoAccepts(address sender) external {
        (address owner, address pending) = (_ownerIn(0), _ownerIn(1));
        vm.assume(_both(owner != address(0), sender != address(0)));
        vm.assume(_callRegistry(sender));
        address later = _ownerIn(0);
        assert(_both(later != address(0), _either(later == owner, _both(later == pending, sender == pending))));
    }

    function check_I6_onlyTheOwnerAndActiveAdministratorsBan(address sender, bytes16 uuid) external {
        uint256 word = _facts(uuid);
        bool mayBan = _isActiveAdministrator(sender);
        vm.assume(_both(sender != _ownerIn(0), _either(!mayBan, uint8(word >> 240) == 3)));
        vm.assume(_callRegistry(sender));
        assert(_facts(uuid) == word);
    }

    function check_I6_onlyTheOwnerLiftsABan(address sender, bytes16 uuid) external {
        vm.assume(_both(sender != _ownerIn(0), _facts(uuid) & BANNED != 0));
        uint256 word = _facts(uuid);
        vm.assume(_callRegistry(sender));
        assert(_facts(uuid) == word);
    }

    function check_I7_aRetiredIdentityNeverChanges(address sender, bytes16 uuid) external {
        uint256 word = _facts(uuid);
        vm.assume(word & RETIRED != 0);
        vm.assume(_callRegistry(sender));
        assert(_facts(uuid) == word);
    }

    function check_I7_theTimeOfABanIsKeptUntilTheNextOne(address sender, bytes16 uuid) external {
        uint40 time = uint40(_facts(uuid) >> 200);
        vm.assume(_facts(uuid) != 0);
        vm.assume(_callRegistry(sender));
        uint40 later = uint40(_facts(uuid) >> 200);
        assert(_either(later == time, _both(later == block.timestamp, _facts(uuid) & BANNED != 0)));
    }

    function check_I8_aNewGenerationNamesTheOneBefore(address sender, bytes16 uuid) external {
        uint160 record = uint160(_facts(uuid));
        vm.assume(_facts(uuid) != 0);
        vm.assume(_callRegistry(sender));
        uint160 later = uint160(_facts(uuid));
        bytes32 earlier = vm.load(_registry, keccak256(abi.encode(later, 7)));
        assert(_either(later == record, uint160(uint256(earlier)) == record));
    }

    function check_I9_anAccountIsActiveInTheNewestGenerationOnly(address account) external view {
        bytes32 held = _account(account);
        uint256 word = _facts(bytes16(held));
        vm.assume(uint8(word >> 240) < 8);
        (bytes16 uuid, IIdentityRegistry.Kind kind, bool active) = IIdentityRegistry(_registry).standing(account);
        assert(_both(uuid == bytes16(held), uint8(kind) == uint8(word >> 240)));
        bool ended = word & (BANNED | RETIRED) != 0;
        assert(active == _both(_both(word != 0, !ended), uint96(word) == uint96(uint256(held))));
    }

    /// @dev Must fail: proves that the assumption of I2 and I3 allows an enrolment.
    /// @custom:halmos --early-exit
    function check_reachable_anIdentityIsEnrolled(address sender, bytes16 uuid) external {
        vm.assume(_facts(uuid) == 0);
        vm.assume(_callRegistry(sender));
        assert(_facts(uuid) == 0);
    }

    /// @dev Must fail: proves that the assumptions of I1 and I8 allow a rotation.
    /// @custom:halmos --early-exit
    function check_reachable_keysAreRotated(address sender, bytes16 uuid) external {
        uint160 record = uint160(_facts(uuid));
        vm.assume(_facts(uuid) != 0);
        vm.assume(_callRegistry(sender));
        assert(uint160(_facts(uuid)) == record);
    }

    /// @dev Must fail: proves that an Administrator who is not the owner can ban.
    /// @custom:halmos --early-exit
    function check_reachable_anAdministratorBans(address sender, bytes16 uuid) external {
        uint256 word = _facts(uuid);
        vm.assume(_both(sender != _ownerIn(0), _both(word != 0, word & BANNED == 0)));
        vm.assume(_callRegistry(sender));
        assert(_facts(uuid) & BANNED == 0);
    }

    /// @dev Makes any writing call as any sender; returns whether it succeeded.
    function _callRegistry(address sender) private returns (bool done) {
        bytes memory data = svm.createCalldata("IdentityRegistry");
        bytes4 selector = bytes4(data);
        if (selector == IIdentityRegistry.enrol.selector) {
            data = abi.encodeCall(IIdentityRegistry.enrol, (_anyEnrolment()));
        } else if (selector == IIdentityRegistry.enrolAll.selector) {
            IIdentityRegistry.Enrolment[] memory list = new IIdentityRegistry.Enrolment[](1);
            list[0] = _anyEnrolment();
            data = abi.encodeCall(IIdentityRegistry.enrolAll, (list));
        } else if (selector == IIdentityRegistry.rotate.selector) {
            IIdentityRegistry.Enrolment memory item = _anyEnrolment();
            vm.assume(_either(_facts(item.uuid) == 0, uint160(_facts(item.uuid)) == uint160(_record)));
            data = abi.encodeCall(
                IIdentityRegistry.rotate,
                (item.uuid, item.account, item.keyKind, item.key, item.logKey, item.tunnelKey)
            );
        }
        if (selector == IIdentityRegistry.ban.selector) _forgetBans(bytes16(_account(sender)));
        vm.prank(sender);
        (done, ) = _registry.call(data);
    }

    function _forgetBans(bytes16 uuid) private {
        bytes32 place = keccak256(abi.encode(uuid, 8));
        vm.store(_registry, place, 0);
        vm.store(_registry, bytes32(uint256(place) + 1), 0);
    }

    function _anyEnrolment() private returns (IIdentityRegistry.Enrolment memory item) {
        uint256 other = uint256(svm.createBytes32("enrolment"));
        (item.uuid, item.virtualIp) = (bytes16(uint128(other)), uint32(other >> 128));
        vm.assume(uint8(other >> 160) < 8);
        item.kind = IIdentityRegistry.Kind(uint8(other >> 160));
        item.account = address(uint160(uint256(svm.createBytes32("account"))));
        (item.keyKind, item.key) = (IIdentityRegistry.KeyKind.Ed25519, abi.encode(svm.createBytes32("key")));
        item.logKey = svm.createBytes32("logKey");
        vm.assume(_both(_both(item.account != address(0), item.logKey != 0), item.virtualIp != 0));
    }

    function _isActiveAdministrator(address account) private view returns (bool) {
        bytes32 held = _account(account);
        uint256 word = _facts(bytes16(held));
        bool active = _both(word & (BANNED | RETIRED) == 0, uint96(word) == uint96(uint256(held)));
        return _both(active, uint8(word >> 240) == 3);
    }

    function _facts(bytes16 uuid) private view returns (uint256) {
        return uint256(vm.load(_registry, keccak256(abi.encode(uuid, 3))));
    }

    function _account(address account) private view returns (bytes32) {
        return vm.load(_registry, keccak256(abi.encode(account, 4)));
    }

    function _key(bytes32 keyHash) private view returns (bytes16) {
        return bytes16(vm.load(_registry, keccak256(abi.encode(keyHash, 5))) << 128);
    }

    function _usedIps(uint32 network) private view returns (uint256) {
        return uint256(vm.load(_registry, keccak256(abi.encode(network, 6))));
    }

    function _ownerIn(uint256 slot) private view returns (address) {
        return address(uint160(uint256(vm.load(_registry, bytes32(slot)))));
    }
}
